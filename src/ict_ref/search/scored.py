"""Storage of scores in a folder, so that a search can be resumed and scores each level once."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ict_ref.utils import file_format
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.file_format import LaterFormatError, first_difference, format_of

FORMAT = 2
"""Format of search.json; format 1, of version 0.1.0, has no number."""
SCORES, ABOUT = "scores.csv", "search.json"
HEAD = "sigmas,frechet_distance"


@dataclass(frozen=True)
class Scored:
    """A folder with scores.csv, one row per scored list of noise levels, and search.json, their description."""

    folder: Path

    def begin(self, about: dict[str, Any]) -> dict[tuple[float, ...], float]:
        """Create the folder or resume the same search, and return the scores so far.

        Raises:
            ValueError: The folder holds another search or other files, or a row is not a score.
        """
        file = self.folder / ABOUT
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            self._write({"search": about})
        try:
            content = json.loads(file.read_text())
            format_of(file, content, FORMAT)
            there = dict(content["search"])
            scores = self.folder / SCORES
            head, *rows = scores.read_text().splitlines() if scores.exists() else [HEAD]
            if head != HEAD:
                raise ValueError
        except LaterFormatError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"--out: expected a new folder or a search that can resume, got {self.folder}. Choose another --out."
            ) from None
        if differs := first_difference(there, about):
            name, got, expected = differs
            raise ValueError(
                f"--out: {self.folder} has another search: expected {name} {expected}, got {got}. Choose another --out."
            )
        return dict(_score(row, f"{scores}, line {number}") for number, row in enumerate(rows, start=2))

    def keep(self, known: dict[tuple[float, ...], float]) -> None:
        """Write all scores."""
        rows = [HEAD, *(f"{' '.join(map(repr, levels))},{score!r}" for levels, score in known.items())]
        write_atomically(self.folder / SCORES, "\n".join([*rows, ""]).encode())

    def finish(self, about: dict[str, Any], found: dict[str, Any]) -> None:
        """Write the result and the description of the search."""
        self._write({"search": about, "found": found})

    def _write(self, content: dict[str, Any]) -> None:
        described = {file_format.KEY: FORMAT, **content}
        write_atomically(self.folder / ABOUT, json.dumps(described, indent=2).encode() + b"\n")


def _score(row: str, place: str) -> tuple[tuple[float, ...], float]:
    """Return the noise levels of a row, and their score.

    Raises:
        ValueError: The row does not have positive noise levels and a finite score >= 0.
    """
    words, _, last = row.partition(",")
    try:
        levels, score = tuple(float(word) for word in words.split()), float(last)
    except ValueError:
        levels, score = (), math.nan
    if not levels or not all(0 < level < math.inf for level in levels) or not 0 <= score < math.inf:
        raise ValueError(
            f"{place}: expected noise levels > 0 and a finite Frechet distance >= 0, got {row}. "
            "Delete the line, and the same command scores its levels again."
        )
    return levels, score
