"""Reader of the downsampled ImageNet: .npz batches with `data`, one row per image, and `labels` from 1."""

import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ict_ref.data.published import IMAGENET_TRAIN, IMAGENET_VALIDATION, contents
from ict_ref.prepare.sources.class_map import CLASSES, FILE, ClassMap, read_class_map
from ict_ref.prepare.sources.source import Part, Source, Split, folder_of, of_split, origin, recipe
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.inflation import refuse_inflated_arrays
from ict_ref.utils.regular_file import open_regular

READER = "npz"
# The training set is published as ten batches (Chrabaszcz, Loshchilov & Hutter 2017).
BATCH, BATCHES = re.compile(r"train_data_batch_(\d+)\.npz"), 10
PUBLISHERS_ORDER = "order of the downsampled set's labels, 1 to 1000, not sorted synsets"


def from_npz(path: Path, split: Split, class_map: Path | None = None) -> Source:
    """Return the batches in a file or folder, in the order of their numbers.

    Labels are translated to sorted synsets if `class_map` is given or map_clsloc.txt is beside the batches.

    Raises:
        ValueError: A file is missing, given twice, damaged, or has another format.
        OSError: A file cannot be read.
    """
    files = of_split(path, ".npz", split)
    shapes = {file: _shape(file) for file in files}
    side = _side(shapes)
    labels = [_labels(file, shape[0]) for file, shape in shapes.items()]
    _refuse_repeated(files, labels)
    if path.is_dir() and split == "train":
        _refuse_gaps(path, files)
    of_all, order = np.concatenate(labels), _class_map(path, class_map)
    translated = of_all if order is None else order.indices[of_all]
    published = (IMAGENET_TRAIN, IMAGENET_VALIDATION) if split == "train" else (IMAGENET_VALIDATION, IMAGENET_TRAIN)
    names, shape = order.names if order else None, (3, side, side)
    whence = origin(published, contents(len(of_all), shape, translated, names), split)
    meaning = f"sorted synsets by {order.words}" if order else f"label less one; {PUBLISHERS_ORDER}"
    mapped = {"class_map": order.words} if order else {}
    return Source(
        words=f"{whence}, batches of the downsampled set, pixels unchanged; classes: {meaning}",
        recipe=recipe(READER, path, [(file.name, file.stat().st_size) for file in files], split=split, **mapped),
        shape=shape,
        labels=translated,
        classes=CLASSES,
        names=names,
        parts=[Part(shape[0], partial(_pixels, file, side), (file.name,)) for file, shape in shapes.items()],
        folder=folder_of(path),
        published=published,
        split=split,
        missing=_missing(files),
        class_order=None if order else PUBLISHERS_ORDER,
    )


def _side(shapes: Mapping[Path, tuple[int, ...]]) -> int:
    """Return the side of the images, whose number of bytes each file's shape states.

    Raises:
        ValueError: The images of a file are not square, or not of the size of the first file's.
    """
    side = math.isqrt(next(iter(shapes.values()))[1] // 3)
    for file, (_, row) in shapes.items():
        if row != 3 * side**2:
            raise ValueError(f"{file}: expected rows of three square channels of one size, got {row} bytes")
    return side


def _class_map(path: Path, given: Path | None) -> ClassMap | None:
    """Return the translation of the labels from this file, or from map_clsloc.txt beside the batches if it is there."""
    beside = (path if path.is_dir() else path.parent) / FILE
    if given is None and not beside.is_file():
        return None
    return read_class_map(given or beside)


def _refuse_repeated(files: Sequence[Path], labels: Sequence[Int64[np.ndarray, " n"]]) -> None:
    """Reject a batch that is there twice, under one number or as a copy under another name.

    Raises:
        ValueError: Two files are the same batch. The message names both.
    """
    by_number: dict[int, Path] = {}
    by_content: dict[object, Path] = {}
    for file, of_file in zip(files, labels, strict=True):
        with zipfile.ZipFile(file) as archive:
            data = archive.getinfo("data.npy")
        # The checksum of the pixels is in the archive's directory, so that they are not read for this.
        first = by_content.setdefault((data.CRC, data.file_size, of_file.tobytes()), file)
        if first is file and (number := _number(file)) is not None:
            first = by_number.setdefault(number, file)
        if first is not file:
            raise ValueError(f"{file}: expected each batch once, got the batch of {first.name} again. Remove one.")


def _refuse_gaps(path: Path, files: Sequence[Path]) -> None:
    """Reject a folder of training batches that are not 1, 2, ..., at most ten, or with other training files.

    Raises:
        ValueError: A number is missing or too large, or a file is not a batch by its name. The message names it.
    """
    numbers = {file: _number(file) for file in files}
    there = {number for number in numbers.values() if number is not None}
    if not there:
        return
    first = "train_data_batch_1.npz, train_data_batch_2.npz, ..."
    expected = f"{path}: expected {first} without a gap, {BATCHES} as published"
    odd = next((file for file, number in numbers.items() if number not in range(1, BATCHES + 1)), None)
    if odd is not None:
        raise ValueError(f"{expected}, got also {odd.name}. Move it away.")
    gap = next((number for number in range(1, max(there)) if number not in there), None)
    if gap is not None:
        got = f"train_data_batch_{max(there)}.npz without train_data_batch_{gap}.npz"
        raise ValueError(f"{expected}, got {got}. Add it, or prepare single batches by their files.")


def _number(file: Path) -> int | None:
    """Return the number of a training batch by its name, or None for another file."""
    found = BATCH.fullmatch(file.name)
    return int(found[1]) if found else None


def _missing(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of training batches that are not there, if these are training batches."""
    numbers = {number for file in files if (number := _number(file)) is not None}
    return tuple(f"train_data_batch_{k}.npz" for k in range(1, BATCHES + 1) if k not in numbers) if numbers else ()


def _shape(file: Path) -> tuple[int, int]:
    """Return the shape of `data` from its header."""
    with refuse_damaged(file), open_regular(file) as stream:
        refuse_inflated_arrays(stream, ["data", "labels"])
    with refuse_damaged(file), zipfile.ZipFile(file) as archive, archive.open("data.npy") as data:
        version = np.lib.format.read_magic(data)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = header(data)
        if dtype != np.uint8 or len(shape) != 2 or shape[0] < 1 or fortran_order:
            raise ValueError(f"expected `data` of uint8 (images, bytes), got {dtype} {shape}")
        return shape


def _labels(file: Path, count: int) -> Int64[np.ndarray, " n"]:
    with refuse_damaged(file), np.load(file, allow_pickle=False) as archive:
        labels = archive["labels"]
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(f"expected `labels` of {count} integers, got {labels.dtype} {labels.shape}")
        if labels.min() < 1 or labels.max() > CLASSES:
            raise ValueError(f"expected `labels` from 1 to {CLASSES}, got {labels.min()} to {labels.max()}")
        indices: Int64[np.ndarray, " n"] = labels.astype(np.int64) - 1
        return indices


def _pixels(file: Path, side: int) -> UInt8[np.ndarray, " n channels height width"]:
    with refuse_damaged(file), np.load(file, allow_pickle=False) as archive:
        data: UInt8[np.ndarray, " n d"] = archive["data"]
        return data.reshape(-1, 3, side, side)
