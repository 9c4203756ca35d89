"""The table of results, for a terminal, for docs/faults.md and for docs/faults.json."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

from tools.faults.results import OUTCOMES, RIGHT, Result

TITLES = ("part", "case", "kind", "points", RIGHT, *OUTCOMES)


def rows(results: Iterable[Result]) -> list[tuple[str, ...]]:
    """Return a row for each kind of fault of each case, and a row of sums."""
    counted: dict[tuple[str, str, str], Counter[str]] = {}
    for one in results:
        counted.setdefault((one.part, one.case, one.kind), Counter())[one.outcome] += 1
    found = [(*key, *figures(count)) for key, count in sorted(counted.items())]
    total: Counter[str] = sum(counted.values(), Counter())
    return [*found, ("all", "", "", *figures(total))]


def figures(count: Counter[str]) -> tuple[str, ...]:
    """Return the number of points, and how many of them had each outcome."""
    return tuple(str(number) for number in (count.total(), count[RIGHT], *(count[name] for name in OUTCOMES)))


def summary(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Return a row for each part, and a row of sums."""
    counted: dict[str, Counter[str]] = {}
    for one in results:
        counted.setdefault(one.part, Counter())[one.outcome] += 1
    total: Counter[str] = sum(counted.values(), Counter())
    return [(part, *figures(count)) for part, count in sorted(counted.items())] + [("all", *figures(total))]


def as_text(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table for a terminal."""
    widths = [max(len(line[k]) for line in (titles, *lines)) for k in range(len(titles))]
    shown = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (titles, *lines)
    )
    return "\n".join(line.rstrip() for line in shown)


def as_markdown(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *lines))


def as_json(results: Sequence[Result], head: dict[str, object]) -> str:
    """Return all figures, and each point that is not right, for programs."""
    names = ("points", RIGHT, *OUTCOMES)
    table = [
        dict(zip(("part", "case", "kind"), line[:3], strict=True))
        | {name: int(value) for name, value in zip(names, line[3:], strict=True)}
        for line in rows(results)
    ]
    wrong = [
        {"part": one.part, "case": one.case, "kind": one.kind, "place": one.place, "outcome": one.outcome,
         "detail": one.detail}
        for one in results if one.outcome != RIGHT
    ]  # fmt: skip
    return json.dumps({"schema": 1, **head, "table": table, "not_right": wrong}, indent=1) + "\n"
