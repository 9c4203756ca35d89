"""Reader of CIFAR-10 as its authors publish it: batches of pickles or plain bytes, in an archive or unpacked."""

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from ict_ref.data.published import CIFAR10_NAMES, CIFAR10_TEST, CIFAR10_TRAIN, COUNTS, PublishedSplit, contents
from ict_ref.prepare.sources.source import Part, Source, Split, origin, recipe
from ict_ref.utils.archive import refuse_damaged

Kind = Literal["python", "binary"]
FILES: dict[Kind, dict[Split, tuple[str, ...]]] = {
    "python": {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)},
    "binary": {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)},
}
INNER: dict[Kind, str] = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}
PUBLISHED: dict[Split, PublishedSplit] = {"train": CIFAR10_TRAIN, "test": CIFAR10_TEST}
MD5: dict[Kind, str] = {"python": "c58f30108f718f92721af3b95e74349a", "binary": "c32a1d4ab5d03f1284b67883e8d87530"}
"""Checksums of the archives, from https://www.cs.toronto.edu/~kriz/cifar.html."""
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


def folder_kind(names: list[str]) -> Kind | None:
    """Return the kind of batches in a folder with these files, or None."""
    for kind, files in FILES.items():
        if not {*files["train"], *files["test"]}.isdisjoint(names):
            return kind
    return None


def from_folder(path: Path, kind: Kind, split: Split) -> Source:
    """Return the batches in a folder, in order.

    Raises:
        ValueError: A batch is missing or damaged.
    """
    missing = [name for name in FILES[kind][split] if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path}: expected {missing[0]} in this folder, got other files")
    return _source(path, kind, split, {name: (path / name).read_bytes() for name in FILES[kind][split]})


def from_archive(path: Path, split: Split) -> Source:
    """Return the batches in an archive, in order; members are read by name and not extracted.

    Raises:
        ValueError: The archive is damaged or a batch is missing.
    """
    with refuse_damaged(path):
        # The whole file is decompressed first, because gzip's checksum is at its end.
        compressed = path.read_bytes()
        content = gzip.decompress(compressed)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = {member.name: member for member in archive if member.isfile()}
            kind: Kind = "binary" if any(name.startswith(INNER["binary"]) for name in members) else "python"
            batches = {}
            for name in FILES[kind][split]:
                member = members.get(f"{INNER[kind]}/{name}")
                file = archive.extractfile(member) if member else None
                if file is None:
                    raise ValueError(f"expected the member {INNER[kind]}/{name}, got other members")
                batches[name] = file.read()
    return _source(path, kind, split, batches, evidence_of(hashlib.md5(compressed, usedforsecurity=False).hexdigest()))


def evidence_of(md5: str) -> str:
    """Return the reason to take the content of an archive with this MD5 for CIFAR-10, if it has its counts."""
    if md5 in MD5.values():
        return f"the MD5 of its archive, {md5}"
    return f"{COUNTS}; the MD5 of the archive, {md5}, is not a published one"


def _source(path: Path, kind: Kind, split: Split, batches: Mapping[str, bytes], evidence: str = COUNTS) -> Source:
    read = {"python": _python, "binary": _binary}[kind]
    parts, labels = [], []
    for name, content in batches.items():
        place = path / name if path.is_dir() else f"{name} in {path}"
        with refuse_damaged(place):
            pixels, classes = read(content)
            if len(pixels) == 0 or classes.min() < 0 or classes.max() > 9:
                raise ValueError(f"expected images with labels from 0 to 9, got {len(pixels)} images, labels {classes}")
        parts.append(Part(len(pixels), partial(pixels.reshape, -1, *SHAPE)))
        labels.append(classes)
    sizes = [(name, len(content)) for name, content in batches.items()]
    published, of_all = (PUBLISHED[split],), np.concatenate(labels)
    whence = origin(published, contents(len(of_all), SHAPE, of_all, CIFAR10_NAMES), split)
    return Source(
        words=f"{whence}, {kind} batches in their order; pixels and labels unchanged",
        recipe=recipe(f"CIFAR-10 {kind}", path, sizes, split=split),
        shape=SHAPE,
        labels=of_all,
        classes=10,
        names=CIFAR10_NAMES,
        parts=parts,
        published=published,
        split=split,
        evidence=evidence,
    )


def _binary(content: bytes) -> tuple[UInt8[np.ndarray, " n d"], Int64[np.ndarray, " n"]]:
    """Return pixels and labels from rows of one byte for the label and 3072 bytes for the image."""
    if len(content) % (1 + PIXELS):
        raise ValueError(f"expected rows of {1 + PIXELS} bytes, got {len(content)} bytes in total")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _python(content: bytes) -> tuple[UInt8[np.ndarray, " n d"], Int64[np.ndarray, " n"]]:
    batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    pixels, labels = batch[b"data"], np.array(batch[b"labels"])
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (len(pixels), PIXELS)):
        raise ValueError(f"expected uint8 data of {PIXELS} columns, got {getattr(pixels, 'dtype', type(pixels))}")
    if labels.dtype != np.int64 or labels.shape != (len(pixels),):
        raise ValueError(f"expected a list of {len(pixels)} integer labels, got {labels.dtype} {labels.shape}")
    return np.ascontiguousarray(pixels), labels


def _empty(*_: object) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return an array for the state in the pickle; replaces NumPy's private _reconstruct."""
    return np.empty(0, np.uint8)


class _ArraysOnly(pickle.Unpickler):
    """An unpickler of plain objects and NumPy arrays that rejects all other names, which could execute code."""

    ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty,
        ("numpy._core.multiarray", "_reconstruct"): _empty,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str, /) -> Callable[..., Any]:
        """Return the object for a name in the pickle.

        Raises:
            UnpicklingError: The name is not that of a NumPy array.
        """
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"expected a pickle of NumPy arrays, got the name {module}.{name}")
        return self.ALLOWED[module, name]
