"""The audit of a public code in a checkout: `python -m ict_ref.verify` in processes of their own, with a time limit."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ict_ref.utils.option_parser import options_of
from ict_ref.verify.options import COMMANDS
from tools.peers.book import HERE, Book, Peer
from tools.peers.verdict import DIFFERS, Row, rows

ROOT = HERE.parents[1]
SECONDS = 900.0
GROUPS = ("formulas", "step", "model")
"""Groups of rows, each of which one command makes."""
GIT_SECONDS = 30.0
VERSIONS = ("ict_ref", "vectors", "vectors_sha256", "torch")


class NotAuditedError(Exception):
    """A command cannot be run on a code; the message says why in one line."""


@dataclass(frozen=True)
class Audited:
    """What was found about one public code."""

    peer: Peer
    commit: str
    rows: list[Row] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    """A line for each command that could not be run."""
    head: dict[str, Any] = field(default_factory=dict)
    """Date, and versions of everything that took part."""


def audited(
    peer: Peer, book: Book, checkouts: Path, seconds: float = SECONDS, groups: Sequence[str] = GROUPS
) -> Audited:
    """Return the verdicts of some groups about a public code, from a checkout at its commit."""
    try:
        place = ROOT if peer.is_ours else checkout(peer, checkouts)
        commit = _commit(place)
        if not commit.startswith(peer.commit):
            raise NotAuditedError(f"the checkout is at commit {commit[:12]}, expected {peer.commit[:12]}")
        lacking = [name for name in peer.needs if find_spec(name) is None]
        if lacking:
            raise NotAuditedError(f"it needs {', '.join(lacking)}, which is not installed")
    except NotAuditedError as error:
        return Audited(peer, peer.commit, not_run=[str(error)])
    found = Audited(peer, commit)
    for words, group in commands(peer):
        if group not in groups:
            continue
        try:
            report = verified(words, place / peer.folder, seconds)
            made = rows(group, report, book.readings, laws_decide=peer.dtype == "float64")
            if group == "formulas" and peer.dtype != "float64":
                made = _in_own_dtype(made, peer, book, place / peer.folder, seconds)
            _expect_it_runs(made)
        except NotAuditedError as error:
            found.not_run.append(f"{group}: {error}")
        else:
            found.head.update({name: report[name] for name in VERSIONS}, date=date.today().isoformat())
            found.rows.extend(_claimed(row, peer) for row in made)
    return found


def joined(earlier: Audited | None, found: Audited, groups: Sequence[str]) -> Audited:
    """Return new rows of some groups, and the other rows of an earlier audit of the same commit."""
    if earlier is None:
        return found
    rows_kept = [row for row in earlier.rows if row.group not in groups]
    lines_kept = [line for line in earlier.not_run if line.partition(":")[0] not in groups]
    rows, lines = [*rows_kept, *found.rows], [*lines_kept, *found.not_run]
    return replace(found, rows=rows, not_run=lines, head=found.head or earlier.head)


def checkout(peer: Peer, checkouts: Path) -> Path:
    """Return the folder of a public code: owner+name or owner/name in the folder of all checkouts.

    Raises:
        NotAuditedError: There is no such folder.
    """
    for name in (peer.name.replace("/", "+"), peer.name):
        if (checkouts / name).is_dir():
            return (checkouts / name).resolve()
    raise NotAuditedError(f"there is no checkout {peer.name.replace('/', '+')}")


def commands(peer: Peer) -> list[tuple[list[str], Any]]:
    """Return the commands that audit a public code, each with the group of its rows."""
    found: list[tuple[list[str], Any]] = []
    if peer.functions:
        found.append((["check", peer.target, "--only", *peer.functions], "formulas"))
    step_from = str(ROOT / peer.step_from) if peer.step_from else peer.target
    for kind, options, target in (("step", peer.step, step_from), ("model", peer.model, peer.target)):
        if options is not None:
            found.append((["audit", kind, f"{target}:{kind}", *options], kind))
    return found


def verified(words: Sequence[str], folder: Path, seconds: float) -> dict[str, Any]:
    """Return the JSON report of `python -m ict_ref.verify` with these words, in a folder.

    Raises:
        NotAuditedError: The command fails, or does not end within its time.
    """
    if lacking := unknown(words):
        raise NotAuditedError(f"this version of the command does not have {lacking}")
    paths = [str(ROOT / "src"), str(ROOT)]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    with tempfile.TemporaryDirectory() as aside:
        file = Path(aside) / "report.json"
        command = (sys.executable, "-m", "ict_ref.verify", *words, "--json", str(file))
        try:
            done = subprocess.run(
                command, cwd=folder, env=variables, capture_output=True, text=True, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise NotAuditedError(f"it did not end within {seconds:g} s") from error
        if not file.is_file():
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            raise NotAuditedError(lines[-1].removeprefix("python -m ict_ref.verify: ").replace(f"{HERE}/", ""))
        report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return report


def unknown(words: Sequence[str]) -> str:
    """Return a kind of audit, or an option with its value, that the command does not have; empty if it has all."""
    command = " ".join(words[:2]) if words[0] == "audit" else words[0]
    if command not in COMMANDS:
        return command
    names = {option.name for option in options_of(COMMANDS[command])}
    places = (place for place, word in enumerate(words) if word.startswith("--") and word not in names)
    return next((" ".join(words[place : place + 2]) for place in places), "")


def _in_own_dtype(made: list[Row], peer: Peer, book: Book, folder: Path, seconds: float) -> list[Row]:
    """Return the rows, those that differ replaced where the values are right in the dtype of the code."""
    names = [row.item for row in made if row.verdict in DIFFERS]
    if not names:
        return made
    words = ["check", peer.target, "--only", *names, "--dtype", peer.dtype]
    again = {
        row.item: row for row in rows("formulas", verified(words, folder, seconds), book.readings, laws_decide=False)
    }
    return [_better(row, again.get(row.item, row)) for row in made]


def _expect_it_runs(made: Sequence[Row]) -> None:
    """Check that a step could be called: a call that fails is not a difference from the paper.

    Raises:
        NotAuditedError: The step raised an exception, or its calls of the network cannot be read.
    """
    for row in made:
        if row.group == "step" and row.item == "runs" and row.verdict in DIFFERS:
            raise NotAuditedError(row.remark)


def _claimed(row: Row, peer: Peer) -> Row:
    """Return the row, without a verdict on a form that the authors do not claim to be the paper's."""
    return replace(row, verdict="not claimed") if row.item in peer.unclaimed and row.verdict in DIFFERS else row


def _better(row: Row, own: Row) -> Row:
    """Return the row in the dtype of the code if it does not differ there."""
    if row is own or own.verdict in DIFFERS or own.verdict == "not checked":
        return row
    return replace(own, verdict="right to float32" if own.verdict == "right" else own.verdict)


def _commit(folder: Path) -> str:
    """Return the commit of a checkout.

    Raises:
        NotAuditedError: It is not a checkout of git.
    """
    command = ("git", "-C", str(folder), "rev-parse", "HEAD")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotAuditedError(f"{folder.name} is not a checkout of git") from error
    return done.stdout.strip()
