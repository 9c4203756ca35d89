"""Storage of scores in a folder, so that a search can be resumed and scores each level once."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ict_ref.utils import file_format
from ict_ref.utils.atomic import remove_leftovers, write_atomically
from ict_ref.utils.file_format import LaterFormatError, first_difference, format_of
from ict_ref.utils.json_file import LARGEST_FILE, read_json
from ict_ref.utils.regular_file import read_regular

FORMAT = 2
"""Format of search.json; format 1, of version 0.1.0, has no number."""
SCORES, ABOUT = "scores.csv", "search.json"
FILES = (SCORES, ABOUT, "curve.png", "curve.svg")
HEAD = "sigmas,frechet_distance,sha256"
OLD_HEAD = "sigmas,frechet_distance"
"""Head of files of versions before 0.2, without a checksum of each row."""
DIGITS = 16
"""Hexadecimal digits of the SHA-256 of a row's first two cells."""


@dataclass(frozen=True)
class Scored:
    """A folder with scores.csv, one row per scored list of noise levels, and search.json, their description."""

    folder: Path

    def begin(self, about: dict[str, Any]) -> dict[tuple[float, ...], float]:
        """Create the folder or resume the same search, and return the scores so far.

        The caller holds a lock on the folder.

        Raises:
            ValueError: The folder holds another search or other files, or a row is not a score.
        """
        file = self.folder / ABOUT
        if not self.folder.exists() or self.folder.is_dir():
            self.folder.mkdir(exist_ok=True)
            remove_leftovers(self.folder, FILES.__contains__)
            if not any(self.folder.iterdir()):  # also where a process was killed before it wrote the file
                self._write({"search": about})
        try:
            content = read_json(file)
            format_of(file, content, FORMAT)
            there = dict(content["search"])
            scores = self.folder / SCORES
            head, *rows = read_regular(scores, LARGEST_FILE).decode().splitlines() if scores.exists() else [HEAD]
            if head not in (HEAD, OLD_HEAD):
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
        has_sums = head == HEAD
        return dict(_score(row, f"{scores}, line {number}", has_sums) for number, row in enumerate(rows, start=2))

    def count(self) -> int:
        """Return the number of scores in the folder."""
        scores = self.folder / SCORES
        return len(read_regular(scores, LARGEST_FILE).splitlines()) - 1 if scores.exists() else 0

    def keep(self, known: dict[tuple[float, ...], float]) -> None:
        """Write all scores."""
        rows = (f"{' '.join(map(repr, levels))},{score!r}" for levels, score in known.items())
        lines = [HEAD, *(f"{row},{_digest(row)}" for row in rows), ""]
        write_atomically(self.folder / SCORES, "\n".join(lines).encode())

    def finish(self, about: dict[str, Any], found: dict[str, Any]) -> None:
        """Write the result and the description of the search."""
        self._write({"search": about, "found": found})

    def _write(self, content: dict[str, Any]) -> None:
        described = {file_format.KEY: FORMAT, **content}
        write_atomically(self.folder / ABOUT, json.dumps(described, indent=2).encode() + b"\n")


def _digest(row: str) -> str:
    """Return the checksum of the levels and the score of a row."""
    return hashlib.sha256(row.encode()).hexdigest()[:DIGITS]


def _score(row: str, place: str, has_sums: bool) -> tuple[tuple[float, ...], float]:
    """Return the noise levels of a row, and their score.

    Raises:
        ValueError: The row does not have positive noise levels and a finite score >= 0, or not their checksum.
    """
    cells = row.split(",")
    words, last = cells[0], ",".join(cells[1:2] if has_sums else cells[1:])
    try:
        levels, score = tuple(float(word) for word in words.split()), float(last)
    except ValueError:
        levels, score = (), math.nan
    if not levels or not all(0 < level < math.inf for level in levels) or not 0 <= score < math.inf:
        raise ValueError(
            f"{place}: expected noise levels > 0 and a finite Frechet distance >= 0, got {row}. "
            "Delete the line, and the same command scores its levels again."
        )
    if has_sums and cells[2:] != [_digest(",".join(cells[:2]))]:
        got = ",".join(cells[2:]) or "nothing"
        raise ValueError(
            f"{place}: expected the sha256 {_digest(','.join(cells[:2]))}, got {got}: the row has changed. "
            "Delete the line, and the same command scores its levels again."
        )
    return levels, score
