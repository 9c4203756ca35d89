"""Prepared folders: a dataset as one memory-mapped array, its labels, and a description.

images.npy  uint8, (count, channels, side, side), values 0 to 255
labels.npy  int64, (count,), from 0 to classes - 1; absent if images have no classes
data.json   recipe, count, shape, classes, their names and order, the sha256 of both files, the published set it is
"""

import dataclasses
import hashlib
import json
import math
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from ict_ref.utils.command_line import expect
from ict_ref.utils.file_format import format_of
from ict_ref.utils.json_file import entry, read_json, refuse_changed, with_checksum
from ict_ref.utils.lfs import explained
from ict_ref.utils.regular_file import open_regular
from ict_ref.utils.version import __version__

FORMAT = 1
IMAGES, LABELS, ABOUT, JOURNAL = "images.npy", "labels.npy", "data.json", "journal.partial"
OWN_CHECKSUM = "sha256_of_others"
"""Entry of data.json with the SHA-256 of its other entries; earlier versions do not write it."""
Recipe = Mapping[str, str | int | None]
# Arrays up to this number of bytes are compared with their checksum when they are opened: under a second.
SMALL = 256 << 20


@dataclass(frozen=True)
class About:
    """The content of data.json."""

    words: str
    """The recipe in words."""
    recipe: Recipe
    """The recipe as data: the source, its files and each option that changes the result."""
    count: int
    shape: tuple[int, int, int]
    classes: int
    """Number of classes; 0 without labels."""
    names: tuple[str, ...] | None
    """Names of the classes, if known."""
    sha256: Mapping[str, str]
    """Checksums of the files by name."""
    published: Mapping[str, str] | None = None
    """The published split that was recognised: its name, its split and the evidence. None: not recognised, or prepared
    by an earlier version."""
    class_order: str | None = None
    """Order of the classes in words; None: that of `names`, or not known."""
    files: str | None = None
    """Whether the MD5s of the files that were read are `published` or `unknown`; None: they were not compared."""
    ict_ref: str = __version__
    format: int = FORMAT

    def to_json(self) -> bytes:
        """Return the content of data.json."""
        return json.dumps(with_checksum(dataclasses.asdict(self), OWN_CHECKSUM), indent=2).encode() + b"\n"

    def checksum(self) -> str:
        """Return 16 hexadecimal digits that identify the dataset, wherever its folder is."""
        return hashlib.sha256(" ".join(self.sha256[name] for name in sorted(self.sha256)).encode()).hexdigest()[:16]


def read_about(folder: Path) -> About:
    """Return the description of a prepared folder.

    Raises:
        LaterFormatError: a later version of ict_ref prepared the folder.
        ValueError: the folder is not prepared, not complete, or its data.json is damaged.
    """
    path = folder / ABOUT
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise ValueError(f"expected a prepared folder, got {folder}, which {problem}. Run python -m ict_ref.prepare.")
    if not path.exists() and (folder / JOURNAL).exists():
        raise ValueError(f"{folder} is not complete. Run the same python -m ict_ref.prepare command again.")
    if not path.exists():
        raise ValueError(f"{folder} is not a prepared folder: {ABOUT} is missing. See python -m ict_ref.prepare.")
    tree = read_json(path, _advice(folder))
    format_of(path, tree, FORMAT)
    try:
        about = _about(tree)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}). {_advice(folder)}") from None
    refuse_changed(tree, path, OWN_CHECKSUM)
    return about


def open_arrays(
    folder: Path,
) -> tuple[About, UInt8[np.ndarray, " n channels side side"], Int64[np.ndarray, " n"] | None]:
    """Return the description of a prepared folder, its memory-mapped pixels, and its labels.

    Raises:
        ValueError: a file is missing, truncated, or differs from data.json. The message names it.
    """
    about = read_about(folder)
    pixels = _mapped(folder / IMAGES, np.dtype(np.uint8), (about.count, *about.shape))
    labels = None
    if about.classes:
        labels = np.array(_mapped(folder / LABELS, np.dtype(np.int64), (about.count,)))
        if not 0 <= labels.min() <= labels.max() < about.classes:
            span = f"{labels.min()} to {labels.max()}"
            raise ValueError(f"{folder / LABELS}: expected labels from 0 to {about.classes - 1}, got {span}")
    if pixels.nbytes <= SMALL:
        verify(folder, about)
    return about, pixels, labels


def verify(folder: Path, about: About, progress: Callable[[int], object] = lambda _: None) -> None:
    """Read the folder's arrays completely and compare their checksums with data.json.

    `progress` is called with the number of bytes of each block that was read.

    Raises:
        ValueError: a checksum differs.
    """
    for name, expected in about.sha256.items():
        if sha256(folder / name, progress) != expected:
            raise ValueError(f"{folder / name} is damaged: its checksum is not that of {ABOUT}. {_advice(folder)}")


def sha256(path: Path, progress: Callable[[int], object] = lambda _: None) -> str:
    """Return the sha256 of a file, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()


def _about(tree: Mapping[str, Any]) -> About:
    """Return the description that data.json holds.

    Raises:
        ValueError: an entry is missing, has another type or is out of range. The message names it.
    """
    about = About(
        words=entry(tree, "words", str),
        recipe=entry(tree, "recipe", Recipe),
        count=entry(tree, "count", int, least=1),
        shape=entry(tree, "shape", tuple[int, int, int], least=1),
        classes=entry(tree, "classes", int, least=0),
        names=entry(tree, "names", tuple[str, ...] | None),
        sha256=entry(tree, "sha256", Mapping[str, str]),
        published=_optional(tree, "published", Mapping[str, str] | None),
        class_order=_optional(tree, "class_order", str | None),
        files=_optional(tree, "files", str | None),
        ict_ref=entry(tree, "ict_ref", str),
    )
    _, height, width = about.shape
    expect(height == width, "shape", "equal height and width", f"{height} and {width}")
    files = {IMAGES, LABELS} if about.classes else {IMAGES}
    same = about.sha256.keys() == files
    expect(same, "sha256", f"the files {', '.join(sorted(files))}", reprlib.repr(sorted(about.sha256)))
    return about


def _optional(tree: Mapping[str, Any], name: str, kind: Any) -> Any:
    """Return an entry that earlier versions did not write, or None if it is missing.

    Raises:
        ValueError: the entry has another type. The message names it.
    """
    return entry(tree, name, kind) if name in tree else None


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    """Return the memory-mapped array in a file.

    Raises:
        ValueError: the file is missing, damaged, or has another shape or dtype.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing. {_advice(path.parent)}")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, TokenError, MemoryError, RecursionError) as error:
        reason = explained(path, error)
        raise ValueError(f"{path} is truncated or damaged ({reason}). {_advice(path.parent)}") from None
    if array.shape != shape or array.dtype != dtype or not array.flags.c_contiguous:
        got = f"{array.dtype} {array.shape}"
        raise ValueError(f"{path}: expected {dtype} {shape} as in {ABOUT}, got {got}. {_advice(path.parent)}")
    whole = array.offset + math.prod(shape) * dtype.itemsize
    if path.stat().st_size != whole:
        raise ValueError(f"{path}: expected {whole} bytes, got {path.stat().st_size}. {_advice(path.parent)}")
    return np.asarray(array)


def _advice(folder: Path) -> str:
    return f"Restore {folder} from a copy, or prepare the data again in another folder."
