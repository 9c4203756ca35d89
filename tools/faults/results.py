"""Results of the session, one JSON object a line, so that the same command resumes a stopped session."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

from tools.faults.library import FOLDER, ROOT

OUTPUT = FOLDER / "results.jsonl"
RIGHT = "right"
OUTCOMES = ("overwritten", "lost", "signal", "hang", "traceback", "left over", "not one line")
"""Everything that is not right, the worst first; a point counts for its worst outcome."""
Key: TypeAlias = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Point:
    """One thing to try: the part of the session, its case, the kind of fault and where it happens."""

    part: str
    case: str
    kind: str
    place: str

    @property
    def name(self) -> str:
        """Return the name that `--point` takes."""
        return "|".join((self.part, self.case, self.kind, self.place))


@dataclass(frozen=True)
class Result:
    """The outcome of a point."""

    part: str
    case: str
    kind: str
    place: str
    source: str
    """Checksum of the code that was tried and of the session."""
    outcome: str = RIGHT
    detail: str = ""
    seconds: float = 0.0

    def key(self) -> Key:
        """Return the point and the code that it was tried on."""
        return self.part, self.case, self.kind, self.place, self.source


@dataclass(frozen=True)
class Findings:
    """Findings of one point, each an outcome and a detail."""

    found: tuple[tuple[str, str], ...] = ()

    @property
    def outcome(self) -> str:
        """Return the worst outcome."""
        kinds = {kind for kind, _ in self.found}
        return next((kind for kind in OUTCOMES if kind in kinds), RIGHT)

    @property
    def detail(self) -> str:
        """Return all findings in one line, the worst first."""
        ordered = sorted(self.found, key=lambda one: OUTCOMES.index(one[0]))
        return "; ".join(f"{kind}: {' '.join(text.split())[:600]}" for kind, text in ordered)


@cache
def source() -> str:
    """Return a short checksum of the package and of the session's code."""
    return checksum(ROOT / "src", ROOT / "tools" / "faults")


@cache
def checksum(*places: Path) -> str:
    """Return a short checksum of the code in folders and files."""
    digest = hashlib.sha256()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if path.suffix in (".py", ".c"):
                digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def result(point: Point, found: list[tuple[str, str]], seconds: float) -> Result:
    """Return the result of a point."""
    made = Findings(tuple(found))
    return Result(
        point.part, point.case, point.kind, point.place, source(), made.outcome, made.detail, round(seconds, 2)
    )


def append(path: Path, one: Result) -> None:
    """Append a result to the file."""
    _append(path, asdict(one))


def _append(path: Path, line: dict[str, object]) -> None:
    """Append an object on a new line, also after one that a killed session did not finish."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            file.write(b"" if file.read(1) == b"\n" else b"\n")
        file.write(json.dumps(line).encode() + b"\n")


def append_size(path: Path, part: str, case: str, points: int) -> None:
    """Append the number of all points of a case, of which a session may try fewer."""
    _append(path, {"part": part, "case": case, "points": points, "source": source()})


def sizes(path: Path, of: str | None = None) -> dict[tuple[str, str], int]:
    """Return the number of all points of each case that sessions have reached, for this code or that of a checksum."""
    wanted, found = of or source(), {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            about = json.loads(line)
            if about["source"] == wanted and "points" in about:
                found[about["part"], about["case"]] = about["points"]
    return found


def read(path: Path) -> Iterator[Result]:
    """Yield the results of a file, in order; the line of a session that was killed may be incomplete."""
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            yield Result(**json.loads(line))
        except (ValueError, TypeError):
            continue


def latest(path: Path, of: str | None = None) -> dict[Key, Result]:
    """Return the last result of each point, for this code or that of a checksum."""
    wanted = of or source()
    return {one.key(): one for one in read(path) if one.source == wanted}
