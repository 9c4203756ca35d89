"""The description of a data set before preparation."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from ict_ref.data.prepared import Recipe

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Part:
    """A range of consecutive images that are read on demand."""

    count: int
    read: Callable[[], UInt8[np.ndarray, " n channels height width"]]


@dataclass(frozen=True)
class Source:
    """A data set before preparation; the recipe identifies it and its conversion."""

    words: str
    recipe: Recipe
    shape: tuple[int, int, int]
    labels: Int64[np.ndarray, " n"] | None
    classes: int
    names: tuple[str, ...] | None
    parts: Sequence[Part]

    @property
    def count(self) -> int:
        """Return the number of images."""
        return sum(part.count for part in self.parts)


def recipe(
    reader: str, path: Path, files: Iterable[tuple[str, int]], **options: str | int | None
) -> dict[str, str | int | None]:
    """Return a recipe of reader, source name, options, and a digest of the files' names and sizes."""
    digest = hashlib.sha256()
    for name, size in files:
        digest.update(os.fsencode(f"{name}\0{size}\n"))
    return {"reader": reader, "source": path.resolve().name, "files": digest.hexdigest()[:16], **options}


def of_split(path: Path, suffix: str, split: Split) -> list[Path]:
    """Return the file, or the folder's files of the split (`train...`, or `test...` and `val...`), by their numbers.

    Raises:
        ValueError: The folder does not have such a file.
    """
    if path.is_file():
        return [path]
    starts = ("train",) if split == "train" else ("test", "val")
    found = [file for file in path.iterdir() if file.name.startswith(starts) and file.name.endswith(suffix)]
    if not found:
        expected = " or ".join(start + "..." + suffix for start in starts)
        raise ValueError(f"{path}: expected files {expected}, got other files. Give a file instead.")
    return sorted(found, key=lambda file: [int(part) if part.isdigit() else part for part in _words(file.name)])


def _words(name: str) -> list[str]:
    """Return a name split before and after each number: text, number, text, ..."""
    return re.split(r"(\d+)", name)
