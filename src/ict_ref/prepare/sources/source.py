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
from ict_ref.data.published import COUNTS, Contents, PublishedSplit, contents, differences, recognised
from ict_ref.utils.regular_file import real_path, refuse_irregular

Split = Literal["train", "test"]


@dataclass(frozen=True)
class Part:
    """A range of consecutive images that are read on demand."""

    count: int
    read: Callable[[], UInt8[np.ndarray, " n channels height width"]]
    files: tuple[str, ...]
    """Paths of the files that have the images, below the folder of the source."""


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
    folder: Path
    """Folder of the files: the source, or the one in which it is."""
    published: tuple[PublishedSplit, ...] = ()
    """Published splits that these can be by their format or the names of their classes, the likeliest first."""
    split: Split = "train"
    """Split that the options name."""
    evidence: str = COUNTS
    """Reason to take the data for a published split, if they have its counts."""
    files: Literal["published", "unknown"] | None = None
    """Whether the MD5s of the files are the published ones; None: they are not compared."""
    missing: tuple[str, ...] = ()
    """Files of the published set that are not there."""
    class_order: str | None = None
    """Order of the classes in words, if it is not that of `names`."""
    left_out: str = ""
    """Number and endings of the files that are not read."""
    remarks: Callable[[], list[str]] = list
    """Function that returns lines on the images that were read until then, such as dropped transparency."""

    @property
    def count(self) -> int:
        """Return the number of images."""
        return sum(part.count for part in self.parts)

    def contents(self) -> Contents:
        """Return the properties by which the data set is recognised."""
        return contents(self.count, self.shape, self.labels, self.names)

    def recognised(self) -> PublishedSplit | None:
        """Return the published split that this is, or None."""
        return recognised(self.contents(), self.published)

    def recognised_as(self) -> dict[str, str] | None:
        """Return the entry `published` of data.json."""
        split = self.recognised()
        if split is None:
            return None
        return {"name": split.title(self.shape), "split": split.split, "evidence": self.evidence}


def origin(published: Sequence[PublishedSplit], found: Contents, split: Split) -> str:
    """Return the name and the split of a published set, or the differences from the first of these splits."""
    known = recognised(found, published)
    if known is not None:
        return f"{known.title(found.shape)}, {known.split} split"
    phrases = ", ".join(differences(published[0], found))
    return f"not {published[0].title(found.shape)} as published ({phrases}), {split} split"


def recipe(
    reader: str, path: Path, files: Iterable[tuple[str, int]], **options: str | int | None
) -> dict[str, str | int | None]:
    """Return a recipe of reader, source name, options, and a digest of the files' names and sizes."""
    digest = hashlib.sha256()
    for name, size in files:
        digest.update(os.fsencode(f"{name}\0{size}\n"))
    return {"reader": reader, "source": real_path(path).name, "files": digest.hexdigest()[:16], **options}


def folder_of(path: Path) -> Path:
    """Return a folder itself, or the one of a file."""
    return path if path.is_dir() else path.parent


def of_split(path: Path, suffix: str, split: Split) -> list[Path]:
    """Return the file, or the folder's files of the split (`train...`, or `test...` and `val...`), by their numbers.

    Raises:
        ValueError: The folder does not have such a file, or one is a pipe or a device.
        OSError: A file is a loop of links.
    """
    if path.is_file():
        return [path]
    starts = ("train",) if split == "train" else ("test", "val")
    found = [file for file in path.iterdir() if file.name.startswith(starts) and file.name.endswith(suffix)]
    if not found:
        expected = " or ".join(start + "..." + suffix for start in starts)
        raise ValueError(f"{path}: expected files {expected}, got other files. Give a file instead.")
    for file in found:
        refuse_irregular(file)
    return sorted(found, key=lambda file: [int(part) if part.isdigit() else part for part in _words(file.name)])


def _words(name: str) -> list[str]:
    """Return a name split before and after each number: text, number, text, ..."""
    return re.split(r"(\d+)", name)
