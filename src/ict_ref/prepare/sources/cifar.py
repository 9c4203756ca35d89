"""CIFAR-10 as its authors publish it: batches of pickles or of plain bytes, in an archive or unpacked."""

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from ict_ref.prepare.sources.source import Part, Source, Split, recipe
from ict_ref.utils.archive import refuse_damaged

Kind = Literal["python", "binary"]
FILES: dict[Kind, dict[Split, tuple[str, ...]]] = {
    "python": {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)},
    "binary": {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)},
}
INNER: dict[Kind, str] = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


def folder_kind(names: list[str]) -> Kind | None:
    """Return which kind of batches a folder with these files has, if any."""
    for kind, files in FILES.items():
        if not {*files["train"], *files["test"]}.isdisjoint(names):
            return kind
    return None


def from_folder(path: Path, kind: Kind, split: Split) -> Source:
    """Return the batches in a folder, in order."""
    missing = [name for name in FILES[kind][split] if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path} lacks {missing[0]}")
    return _source(path, kind, split, {name: (path / name).read_bytes() for name in FILES[kind][split]})


def from_archive(path: Path, split: Split) -> Source:
    """Return the batches in an archive, in order. Members are read by name; nothing is extracted."""
    with refuse_damaged(path):
        # The whole first, for gzip's own checksum stands at its end.
        content = gzip.decompress(path.read_bytes())
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = {member.name: member for member in archive if member.isfile()}
            kind: Kind = "binary" if any(name.startswith(INNER["binary"]) for name in members) else "python"
            batches = {}
            for name in FILES[kind][split]:
                member = members.get(f"{INNER[kind]}/{name}")
                file = archive.extractfile(member) if member else None
                if file is None:
                    raise ValueError(f"it lacks {INNER[kind]}/{name}")
                batches[name] = file.read()
    return _source(path, kind, split, batches)


def _source(path: Path, kind: Kind, split: Split, batches: Mapping[str, bytes]) -> Source:
    read = {"python": _python, "binary": _binary}[kind]
    parts, labels = [], []
    for name, content in batches.items():
        place = path / name if path.is_dir() else f"{name} in {path}"
        with refuse_damaged(place):
            pixels, classes = read(content)
            if len(pixels) == 0 or classes.min() < 0 or classes.max() > 9:
                raise ValueError(f"needs images with a label from 0 to 9 each; got {len(pixels)} and {classes}")
        parts.append(Part(len(pixels), partial(pixels.reshape, -1, *SHAPE)))
        labels.append(classes)
    sizes = [(name, len(content)) for name, content in batches.items()]
    return Source(
        words=f"CIFAR-10, {split} split, its {kind} batches in their order; pixels and labels as published",
        recipe=recipe(f"CIFAR-10 {kind}", path, sizes, split=split),
        shape=SHAPE,
        labels=np.concatenate(labels),
        classes=10,
        names=NAMES,
        parts=parts,
    )


def _binary(content: bytes) -> tuple[UInt8[np.ndarray, " n d"], Int64[np.ndarray, " n"]]:
    """Return pixels and labels of rows of a byte for the label and 3072 for the image."""
    if len(content) % (1 + PIXELS):
        raise ValueError(f"needs rows of {1 + PIXELS} bytes; got {len(content)} bytes in all")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _python(content: bytes) -> tuple[UInt8[np.ndarray, " n d"], Int64[np.ndarray, " n"]]:
    batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    pixels, labels = batch[b"data"], np.array(batch[b"labels"])
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (len(pixels), PIXELS)):
        raise ValueError(f"needs uint8 data of {PIXELS} columns; got {getattr(pixels, 'dtype', type(pixels))}")
    if labels.dtype != np.int64 or labels.shape != (len(pixels),):
        raise ValueError(f"needs a list of {len(pixels)} whole numbers as labels; got {labels.dtype} {labels.shape}")
    return np.ascontiguousarray(pixels), labels


def _empty(*_: object) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return an array that the state in the pickle is put into; stands for NumPy's private _reconstruct."""
    return np.empty(0, np.uint8)


class _ArraysOnly(pickle.Unpickler):
    """Reads pickles of plain objects and NumPy arrays. Any other name in them could execute code, and is refused."""

    ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _empty,
        ("numpy._core.multiarray", "_reconstruct"): _empty,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str, /) -> Callable[..., Any]:
        """Return what a name in the pickle stands for."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"its pickle names {module}.{name}, and CIFAR-10's name NumPy arrays alone")
        return self.ALLOWED[module, name]
