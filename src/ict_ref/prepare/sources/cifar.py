"""Reader of CIFAR-10 as its authors publish it: batches of pickles or plain bytes, in an archive or unpacked."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from jaxtyping import Int64, UInt8

from ict_ref.data.published import CIFAR10_NAMES, CIFAR10_TEST, CIFAR10_TRAIN, COUNTS, PublishedSplit, contents
from ict_ref.prepare.sources.plain_pickle import load_plain
from ict_ref.prepare.sources.source import Part, Source, Split, folder_of, origin, recipe
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.regular_file import read_regular

Kind = Literal["python", "binary"]
FILES: dict[Kind, dict[Split, tuple[str, ...]]] = {
    "python": {"train": tuple(f"data_batch_{k}" for k in range(1, 6)), "test": ("test_batch",)},
    "binary": {"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)},
}
INNER: dict[Kind, str] = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}
KNOWN: dict[Kind, frozenset[str]] = {
    kind: frozenset((*files["train"], *files["test"], "batches.meta", "batches.meta.txt", "readme.html"))
    for kind, files in FILES.items()
}
"""Every file of the published folders."""
PUBLISHED: dict[Split, PublishedSplit] = {"train": CIFAR10_TRAIN, "test": CIFAR10_TEST}
MD5: dict[Kind, str] = {"python": "c58f30108f718f92721af3b95e74349a", "binary": "c32a1d4ab5d03f1284b67883e8d87530"}
"""Checksums of the archives, from https://www.cs.toronto.edu/~kriz/cifar.html."""
BATCH_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""Checksums of the python batches, from torchvision's datasets/cifar.py; none are published for binary batches."""
LARGEST_ARCHIVE = 256 * 2**20
"""Largest content of an archive in bytes. The published ones have six batches of 31 MB."""
LARGEST_BATCH = 64 * 2**20
"""Largest batch in bytes; a published one has 31 MB."""
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


def folder_kind(names: list[str]) -> Kind | None:
    """Return the kind of batches in a folder with these files, or None."""
    for kind, files in FILES.items():
        if not {*files["train"], *files["test"]}.isdisjoint(names):
            return kind
    return None


def from_folder(path: Path, kind: Kind, split: Split, *, unknown_files: bool = False) -> Source:
    """Return the batches in a folder, in order.

    Raises:
        ValueError: A batch is missing or damaged, or is not the published one and `unknown_files` is false.
    """
    missing = [name for name in FILES[kind][split] if not (path / name).is_file()]
    if missing:
        raise ValueError(f"{path}: expected {missing[0]} in this folder, got other files")
    batches = {name: read_regular(path / name, LARGEST_BATCH) for name in FILES[kind][split]}
    return _source(path, kind, split, batches, _of_batches(batches), unknown_files=unknown_files)


def from_archive(path: Path, split: Split, *, unknown_files: bool = False) -> Source:
    """Return the batches in an archive, in order; members are read by name and not extracted.

    Raises:
        ValueError: The archive is damaged or a batch is missing, or the content is not the published one and
            `unknown_files` is false.
    """
    with refuse_damaged(path):
        # The whole file is decompressed first, because gzip's checksum is at its end.
        compressed = read_regular(path, LARGEST_ARCHIVE)
        content = _decompressed(compressed)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            members = {PurePosixPath(member.name): member for member in archive if member.isfile()}
            kind, folder = _inner(members, split)
            batches = {}
            for name in FILES[kind][split]:
                member = members.get(folder / name)
                file = archive.extractfile(member) if member else None
                if file is None:
                    raise ValueError(f"expected the member {folder / name}, got other members")
                batches[name] = file.read()
    compared = _of_archive(path, kind, _md5(compressed), batches)
    return _source(path, kind, split, batches, compared, unknown_files=unknown_files)


def _inner(members: Collection[PurePosixPath], split: Split) -> tuple[Kind, PurePosixPath]:
    """Return the kind of batches in an archive and their folder, which may have another name in one packed again.

    Raises:
        ValueError: Several folders have batches of this split.
    """
    kind = folder_kind([member.name for member in members]) or "python"
    folders = sorted({member.parent for member in members if member.name in FILES[kind][split]})
    if len(folders) > 1:
        raise ValueError(f"expected the batches in one folder, got {folders[0]} and {folders[1]}")
    if not folders or ".." in folders[0].parts:
        return kind, PurePosixPath(INNER[kind])
    return kind, folders[0]


def _decompressed(compressed: bytes) -> bytes:
    """Return the content of an archive, whose published size limits it.

    Raises:
        ValueError: the content is larger.
    """
    with gzip.GzipFile(fileobj=io.BytesIO(compressed)) as file:
        content = file.read(LARGEST_ARCHIVE + 1)
    if len(content) > LARGEST_ARCHIVE:
        raise ValueError(f"expected at most {LARGEST_ARCHIVE} bytes in the archive, got more")
    return content


@dataclass(frozen=True)
class Compared:
    """The result of a comparison with published MD5s."""

    files: Literal["published", "unknown"] | None
    """Whether the files are the published ones; None: no MD5 is published for them."""
    evidence: str
    """Reason to take the content for CIFAR-10, if it has its counts."""
    difference: str = ""
    """The expected and the found MD5 of unknown files."""


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _of_archive(path: Path, kind: Kind, md5: str, batches: Mapping[str, bytes]) -> Compared:
    """Compare an archive that has this MD5, or else its batches, which another archive may hold too."""
    if md5 == MD5[kind]:
        return Compared("published", f"the MD5 of its archive, {md5}")
    inner = _of_batches(batches)
    if inner.files is not None:
        return inner
    evidence = f"{COUNTS}; the MD5 of the archive, {md5}, is not a published one"
    return Compared("unknown", evidence, f"expected {path.name} with the published MD5 {MD5[kind]}, got {md5}")


def _of_batches(batches: Mapping[str, bytes]) -> Compared:
    """Compare the batches."""
    if not BATCH_MD5.keys() >= batches.keys():
        return Compared(None, f"{COUNTS}; no MD5 is published for unpacked binary batches")
    for name, content in batches.items():
        expected, got = BATCH_MD5[name], _md5(content)
        if got != expected:
            evidence = f"{COUNTS}; the MD5 of {name}, {got}, is not the published one"
            return Compared("unknown", evidence, f"expected {name} with the published MD5 {expected}, got {got}")
    return Compared("published", "the MD5s of its batches")


def _source(
    path: Path, kind: Kind, split: Split, batches: Mapping[str, bytes], compared: Compared, *, unknown_files: bool
) -> Source:
    read = {"python": _python, "binary": _binary}[kind]
    parts, labels = [], []
    for name, content in batches.items():
        place = path / name if path.is_dir() else f"{name} in {path}"
        with refuse_damaged(place):
            pixels, classes = read(content)
            if len(pixels) == 0 or classes.min() < 0 or classes.max() > 9:
                raise ValueError(f"expected images with labels from 0 to 9, got {len(pixels)} images, labels {classes}")
        file = name if path.is_dir() else path.name
        parts.append(Part(len(pixels), partial(pixels.reshape, -1, *SHAPE), (file,)))
        labels.append(classes)
    if compared.files == "unknown" and not unknown_files:
        advice = "Download it again, or give --unknown-files for other data in this format."
        raise ValueError(f"{path}: {compared.difference}. {advice}")
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
        folder=folder_of(path),
        published=published,
        split=split,
        evidence=compared.evidence,
        files=compared.files,
    )


def _binary(content: bytes) -> tuple[UInt8[np.ndarray, " n d"], Int64[np.ndarray, " n"]]:
    """Return pixels and labels from rows of one byte for the label and 3072 bytes for the image."""
    if len(content) % (1 + PIXELS):
        raise ValueError(f"expected rows of {1 + PIXELS} bytes, got {len(content)} bytes in total")
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:], rows[:, 0].astype(np.int64)


def _python(content: bytes) -> tuple[UInt8[np.ndarray, " n d"], Int64[np.ndarray, " n"]]:
    """Return pixels and labels from a pickled dict, whose keys are bytes or, pickled again by Python 3, strings."""
    batch = load_plain(content)
    if not isinstance(batch, dict):
        raise ValueError(f"expected a dict with data and labels, got {type(batch).__name__}")
    pixels, labels = _entry(batch, "data"), _entry(batch, "labels")
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape == (len(pixels), PIXELS)):
        got = f"{pixels.dtype} {list(pixels.shape)}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"expected uint8 data of {PIXELS} columns, got {got}")
    listed = labels.tolist() if isinstance(labels, np.ndarray) else labels
    if not isinstance(listed, list) or len(listed) != len(pixels) or not all(type(one) is int for one in listed):
        raise ValueError(f"expected a list of {len(pixels)} integer labels, got {_of_list(listed)}")
    if not all(0 <= one <= 9 for one in listed):
        raise ValueError(f"expected images with labels from 0 to 9, got {min(listed)} to {max(listed)}")
    return np.ascontiguousarray(pixels), np.array(listed, np.int64)


def _entry(batch: dict[object, object], name: str) -> object:
    """Return the entry of this name, which is bytes or a string.

    Raises:
        ValueError: the entry is missing or there twice.
    """
    found = [batch[key] for key in (name, name.encode()) if key in batch]
    if len(found) != 1:
        raise ValueError(f"expected one entry {name}, got {len(found)}")
    return found[0]


def _of_list(value: object) -> str:
    """Return the length of a list in words, or the type of another value."""
    return f"{len(value)} values" if isinstance(value, list) else type(value).__name__
