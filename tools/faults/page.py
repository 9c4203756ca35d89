"""The page of the session: docs/faults.md and docs/faults.json."""

import datetime as dt
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from tools.faults.report import TITLES, as_json, as_markdown, rows, summary
from tools.faults.results import RIGHT, Result

INTRODUCTION = """# Faults on purpose

These tables are written by a command; nothing in them is typed by hand:

<!-- not run: takes hours -->
```sh
python3 -m nox -s faults
python3 -m nox -s faults -- --docs
```

The first command takes hours and resumes where it was stopped.
Its options choose a draw of the points.
[faults.json](faults.json) has the same tables for programs.
[Situations](situations.md) lists odd files, names and environments that were thought of, each with its test.

A library that is loaded before all others counts the file-system calls of a command below its folder.
It kills the process at the n-th call, or lets that call fail.
Then the same command runs again, and every byte is compared with a run that was never stopped.
The library does not see writes through memory maps, and glibc's own calls for C streams.

A point counts once, for its worst outcome:

- **right**: the same command ends with the same bytes and leaves nothing else. A rejection is one line and status 2.
- **overwritten**: a file changed that was there before the command.
- **lost**: other bytes, a wrong value that is accepted, or a command that cannot resume.
- **signal**, **hang**, **traceback**: how a command ended that should have rejected its input. A hang takes 10 seconds.
- **left over**: temporary files that no later run removes.
- **not one line**: a rejection of several lines, or with control characters.

| part | contents |
|---|---|
| calls | every file-system call of every command, each killed, without space once and from then on, or failing once |
| damage | bit flips, cuts, wrong first bytes, wrong values and special files in place of every file that is read |
| values | odd values of every option of every command |
| hostile | generated pickles, archives, TorchScript programs, bombs, and weights with a right checksum |
| pairs | two commands at once on one folder |
| histories | kills, full disks and damaged checkpoints in an order that Hypothesis draws |
| kills | runs of two processes, of which one or all are killed |
"""


def as_page(results: Sequence[Result], head: dict[str, object]) -> str:
    """Return the page."""
    facts = ", ".join(f"{name} {value}" for name, value in head.items())
    wrong = [one for one in results if one.outcome != RIGHT]
    lines = [
        (one.outcome, one.part, one.case, one.kind, one.place, _cell(one.detail)) for one in wrong
    ]  # fmt: skip
    ends = (
        as_markdown(("outcome", "part", "case", "kind", "place", "finding"), lines)
        if lines
        else "Every point is right."
    )
    measured = f"Measured: {facts}. The code is named by a checksum of `src` and `tools/faults`.\n"
    parts = [
        INTRODUCTION, measured, "## Parts\n", as_markdown(("part", *TITLES[3:]), summary(results)),
        "\n## Points that are not right\n", ends, "\n## Each kind\n", as_markdown(TITLES, rows(results)),
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def write(results: Sequence[Result], folder: Path, tried: str) -> None:
    """Write both files; `tried` names the points that were tried."""
    head = {"tried": tried, **environment(results)}
    (folder / "faults.md").write_text(as_page(results, head), encoding="utf-8")
    (folder / "faults.json").write_text(as_json(results, head), encoding="utf-8")


def environment(results: Sequence[Result]) -> dict[str, object]:
    """Return the checksums of the code that was tried, the date and the versions."""
    return {
        "code": " and ".join(sorted({one.source for one in results})),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cell(text: str) -> str:
    """Return text for a cell of a table."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.replace("|", "/").replace("<", "&lt;"))
