"""Choice and order of the points, and the loop that checks them and stores the results."""

import hashlib
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from tools.faults.results import OUTCOMES, RIGHT, Key, Point, Result, append, append_size, latest, result

Found: TypeAlias = list[tuple[str, str]]
"""Findings of a point: each an outcome of `OUTCOMES` and a detail."""


class Part(Protocol):
    """A part of the session: cases, each with points."""

    def cases(self) -> Sequence[str]:
        """Return the names of the cases."""

    def points(self, case: str) -> Iterable[Point]:
        """Return the points of a case."""

    def check(self, point: Point) -> Found:
        """Return the findings of a point; none if it is right."""


@dataclass(frozen=True)
class Choice:
    """The points that one call of the session tries."""

    only: tuple[str, ...] = ()
    """Beginnings of names of parts or cases; all if empty."""
    share: tuple[int, int] = (1, 1)
    """Number of this share, and the number of shares."""
    seed: str = ""
    """Seed of the order; without one, points are tried in their own order."""
    seconds: float | None = None
    """Time since `begun` after which no other point is tried."""
    begun: float = 0.0
    each: int | None = None
    """Largest number of points of a case."""
    again: bool = False
    """Whether points that failed are tried again, and nothing else."""

    def is_over(self) -> bool:
        """Return whether the time is over."""
        return self.seconds is not None and time.monotonic() - self.begun > self.seconds

    def takes(self, part: str, case: str) -> bool:
        """Return whether the session tries points of this case."""
        return not self.only or any(part == name or case.startswith(name) for name in self.only)

    def chosen(self, points: Iterable[Point]) -> list[Point]:
        """Return the chosen points of a case, in the order in which they are tried."""
        number, shares = self.share
        found = [one for one in points if digest(one.name) % shares == number - 1]
        if self.seed:
            random.Random(f"{self.seed}{found[0].case if found else ''}").shuffle(found)  # noqa: S311 (an order)
        return found[: self.each]


def digest(name: str) -> int:
    """Return a number that depends on a name only."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def units(parts: dict[str, Part], choice: Choice) -> list[tuple[str, str]]:
    """Return the chosen parts and cases, in the order in which they are tried."""
    found = [(name, case) for name, part in parts.items() for case in part.cases() if choice.takes(name, case)]
    if choice.seed:
        random.Random(choice.seed).shuffle(found)  # noqa: S311 (an order)
    return found


def run(parts: dict[str, Part], choice: Choice, path: Path, show: Callable[[str], None]) -> list[Result]:
    """Check the chosen points that the file has no result of, append the results, and return them."""
    known = latest(path)
    found: list[Result] = []

    def keep(one: Result) -> None:
        append(path, one)
        found.append(one)
        if one.outcome != RIGHT:
            show(f"{one.outcome:12} {one.part}|{one.case}|{one.kind}|{one.place}: {one.detail}")

    for name, case in units(parts, choice):
        if choice.is_over():
            break
        try:
            every = list(parts[name].points(case))
            append_size(path, name, case, len(every))
            points = list(_ahead(every, choice, known))
        except RuntimeError as error:
            keep(result(Point(name, case, "without a fault", "all"), [("lost", str(error))], 0.0))
            continue
        for point in points:
            if choice.is_over():
                break
            keep(checked(parts[name], point))
    return found


def _ahead(points: Iterable[Point], choice: Choice, known: dict[Key, Result]) -> Iterator[Point]:
    """Yield those points of a case that are tried."""
    for point in choice.chosen(points):
        earlier = known.get(result(point, [], 0.0).key())
        if choice.again:
            if earlier is not None and earlier.outcome != RIGHT:
                yield point
        elif earlier is None or choice.seconds is not None:
            yield point


def checked(part: Part, point: Point) -> Result:
    """Return the result of a point."""
    begun = time.monotonic()
    found = part.check(point)
    unknown = {kind for kind, _ in found} - set(OUTCOMES)
    if unknown:
        raise ValueError(f"{point.name}: expected outcomes of {OUTCOMES}, got {unknown}")
    return result(point, found, time.monotonic() - begun)


def show(line: str) -> None:
    """Print a line to standard error at once."""
    print(line, file=sys.stderr, flush=True)
