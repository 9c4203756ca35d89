"""Reader of the downsampled ImageNet: .npz batches with `data`, one row per image, and `labels` from 1."""

import math
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ict_ref.prepare.sources.source import Part, Source, Split, of_split, recipe
from ict_ref.utils.archive import refuse_damaged

CLASSES = 1000


def from_npz(path: Path, split: Split) -> Source:
    """Return the batches in a file or folder, in the order of their numbers.

    Raises:
        ValueError: A file is missing, damaged or has another format.
    """
    files = of_split(path, ".npz", split)
    shapes = {file: _shape(file) for file in files}
    side = math.isqrt(shapes[files[0]][1] // 3)
    for file, (_, row) in shapes.items():
        if row != 3 * side**2:
            raise ValueError(f"{file}: expected rows of three square channels of one size, got {row} bytes")
    return Source(
        words=f"ImageNet downsampled to {side}x{side}, {split} split; pixels as published, labels less one",
        recipe=recipe("npz", path, [(file.name, file.stat().st_size) for file in files], split=split),
        shape=(3, side, side),
        labels=np.concatenate([_labels(file, shape[0]) for file, shape in shapes.items()]),
        classes=CLASSES,
        names=None,
        parts=[Part(shape[0], partial(_pixels, file, side)) for file, shape in shapes.items()],
    )


def _shape(file: Path) -> tuple[int, int]:
    """Return the shape of `data` from its header."""
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
