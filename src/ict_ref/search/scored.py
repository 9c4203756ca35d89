"""Storage of scores in a folder, so that a search can be resumed and scores each level once."""

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
    """A folder with scores.csv, one row per scored list of noise levels, and search.json, their description."""

    folder: Path

    def begin(self, about: dict[str, Any]) -> dict[tuple[float, ...], float]:
        """Create the folder or resume the same search, and return the scores so far.

        Raises:
            ValueError: The folder holds another search or other files.
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
            raise ValueError(
                f"--out: expected a new folder or a search that can resume, got {self.folder}. Choose another --out."
            ) from None
        for name in about:
            if there.get(name) != about[name]:
                raise ValueError(
                    f"--out: {self.folder} has another search: expected {name} {about[name]}, got {there.get(name)}. "
                    "Choose another --out."
                )
        return known

    def keep(self, known: dict[tuple[float, ...], float]) -> None:
        """Write all scores."""
        rows = [",".join(COLUMNS), *(f"{' '.join(map(repr, levels))},{score!r}" for levels, score in known.items())]
        write_atomically(self.folder / SCORES, "\n".join([*rows, ""]).encode())

    def finish(self, about: dict[str, Any], found: dict[str, Any]) -> None:
        """Write the result and the description of the search."""
        content = {"search": about, "found": found}
        write_atomically(self.folder / ABOUT, json.dumps(content, indent=2).encode() + b"\n")


def _levels(words: str) -> tuple[float, ...]:
    return tuple(float(word) for word in words.split())
