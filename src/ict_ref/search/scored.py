"""Scores of levels, kept in a folder as they come: what is stopped goes on, and nothing is scored twice."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ict_ref.utils.atomic import write_atomically

SCORES, ABOUT = "scores.csv", "search.json"
COLUMNS = ("sigmas", "frechet_distance")


@dataclass(frozen=True)
class Scored:
    """A folder with scores.csv, a row for each list of levels that was scored, and search.json, what they are."""

    folder: Path

    def begin(self, about: dict[str, Any]) -> dict[tuple[float, ...], float]:
        """Make the folder, or go on with one of the same search; return what is scored.

        Raises ValueError if it holds something else.
        """
        file = self.folder / ABOUT
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            write_atomically(file, json.dumps({"search": about}, indent=2).encode() + b"\n")
        try:
            there = json.loads(file.read_text())["search"]
            scores = self.folder / SCORES
            rows = csv.DictReader(scores.read_text().splitlines() if scores.exists() else [])
            known = {_levels(row["sigmas"]): float(row["frechet_distance"]) for row in rows}
        except (OSError, ValueError, KeyError, TypeError):
            raise ValueError(f"{self.folder} is there, and no search that can go on; choose another --out") from None
        for name in about:
            if there.get(name) != about[name]:
                raise ValueError(
                    f"{self.folder} is another search: {name} is {there.get(name)} there and {about[name]} here; "
                    "choose another --out"
                )
        return known

    def keep(self, known: dict[tuple[float, ...], float]) -> None:
        """Write all scores."""
        rows = [",".join(COLUMNS), *(f"{' '.join(map(repr, levels))},{score!r}" for levels, score in known.items())]
        write_atomically(self.folder / SCORES, "\n".join([*rows, ""]).encode())

    def finish(self, about: dict[str, Any], found: dict[str, Any]) -> None:
        """Write what was found beside what was searched."""
        content = {"search": about, "found": found}
        write_atomically(self.folder / ABOUT, json.dumps(content, indent=2).encode() + b"\n")


def _levels(words: str) -> tuple[float, ...]:
    return tuple(float(word) for word in words.split())
