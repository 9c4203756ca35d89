"""Reader of map_clsloc.txt, which lists the classes of the downsampled ImageNet in the order of its labels."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.regular_file import read_regular

FILE = "map_clsloc.txt"
LINE = re.compile(r"(n\d{8}) (\d{1,4}) (\S.*)")
CLASSES = 1000


@dataclass(frozen=True)
class ClassMap:
    """The translation of the publishers' labels to the order of sorted synsets."""

    names: tuple[str, ...]
    """Synset and name of each class, sorted."""
    indices: Int64[np.ndarray, " classes"]
    """Index in sorted order of each label, the label 1 first."""
    words: str
    """The file's name and the beginning of its SHA-256."""


LARGEST = 2**20
"""Largest file in bytes; the published one has 31 kB."""


def read_class_map(path: Path) -> ClassMap:
    """Return the translation that a file holds, with lines such as `n02119789 1 kit_fox`.

    Raises:
        ValueError: A line has another form, or a class or a label is missing or repeated.
        OSError: The file cannot be read.
    """
    content = read_regular(path, LARGEST)
    with refuse_damaged(path):
        classes = _classes(content.decode().splitlines())
    in_order = [classes[label] for label in range(1, CLASSES + 1)]
    ranks = {synset: rank for rank, (synset, _) in enumerate(sorted(in_order))}
    return ClassMap(
        names=tuple(f"{synset} {name}" for synset, name in sorted(in_order)),
        indices=np.array([ranks[synset] for synset, _ in in_order], np.int64),
        words=f"{path.name} {hashlib.sha256(content).hexdigest()[:16]}",
    )


def _classes(lines: list[str]) -> dict[int, tuple[str, str]]:
    """Return the synset and the name of each label.

    Raises:
        ValueError: A line has another form, or a class or a label is missing or repeated.
    """
    classes: dict[int, tuple[str, str]] = {}
    for number, line in enumerate(lines, start=1):
        found = LINE.fullmatch(line.strip())
        if found is None:
            raise ValueError(f"line {number}: expected a line such as n02119789 1 kit_fox, got {line[:40]!r}")
        label = int(found[2])
        if label in classes or not 1 <= label <= CLASSES:
            raise ValueError(f"line {number}: expected each label from 1 to {CLASSES} once, got {label}")
        classes[label] = found[1], found[3]
    synsets = len({synset for synset, _ in classes.values()})
    if not len(lines) == synsets == CLASSES:
        raise ValueError(f"expected {CLASSES} lines of different synsets, got {len(lines)} of {synsets}")
    return classes
