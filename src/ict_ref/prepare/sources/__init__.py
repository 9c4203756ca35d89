"""Readers of published data sets and of folders of images.

Reading never executes code: pickles may name only NumPy arrays, arrays with objects are rejected, and members of
archives are read by name and never extracted.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from ict_ref.data.image_listing import SUFFIXES, ending, left_out
from ict_ref.prepare.sources import arrays, cifar, image_folder, parquet
from ict_ref.prepare.sources.class_map import FILE
from ict_ref.prepare.sources.source import Part, Source, Split

__all__ = ["Part", "Source", "Split", "find"]

BATCH_NAMES = {
    ".parquet": re.compile(r"(train|test|val|validation)(-\d+-of-\d+)?\.parquet"),
    ".npz": re.compile(r"(train_data_batch_\d+|val_data)\.npz"),
}
"""Names of the files of the published sets: CIFAR-10 from Hugging Face, and the downsampled ImageNet."""


def find(
    path: Path,
    *,
    split: Split = "train",
    size: int | None = None,
    grey: bool = False,
    class_map: Path | None = None,
    unknown_files: bool = False,
) -> Source:
    """Return the data set at this path; its kind follows from its files.

    Raises:
        ValueError: The path does not exist, an option does not fit it, or a file cannot be used.
        OSError: A file cannot be read.
    """
    if not path.exists():
        raise ValueError(f"SOURCE: expected a data set, got {path}, which does not exist")
    published = _published(path, split, class_map, unknown_files=unknown_files)
    if class_map is not None and (published is None or published.recipe["reader"] != arrays.READER):
        raise ValueError(f"--class-map: expected .npz batches of the downsampled ImageNet, got {path}. Leave it out.")
    if unknown_files and (published is None or not str(published.recipe["reader"]).startswith("CIFAR-10")):
        raise ValueError(f"--unknown-files: expected CIFAR-10's archive or batches, got {path}. Leave it out.")
    if published is not None:
        if size is not None or grey:
            raise ValueError(
                f"--size and --grey: expected a folder of images, got the published {path}. Leave these options out."
            )
        return published
    if path.is_file():
        raise ValueError(
            f"SOURCE: expected a folder, .tar.gz, .npz or .parquet, got {path}; see python -m ict_ref.prepare --help"
        )
    if split != "train":
        raise ValueError(
            f"--split: expected a published file, got the folder of images {path}. Give the folder of the split."
        )
    return image_folder.from_folder(path, size, grey)


def _published(path: Path, split: Split, class_map: Path | None, *, unknown_files: bool) -> Source | None:
    """Return CIFAR-10 or the downsampled ImageNet, or None for other files."""
    if path.is_file():
        if path.name.endswith((".tar.gz", ".tgz")):
            return cifar.from_archive(path, split, unknown_files=unknown_files)
        return _of_kind(path, path.suffix, split, class_map)
    names = sorted(file.name for file in path.iterdir())
    kind = cifar.folder_kind(names)
    if kind is not None:
        source = cifar.from_folder(path, kind, split, unknown_files=unknown_files)
        return _with_left_out(source, path, names, cifar.KNOWN[kind].__contains__)
    suffix = _suffix_of_batches(path, names)
    batches = _of_kind(path, suffix, split, class_map)
    if batches is None:
        return None
    return _with_left_out(batches, path, names, lambda name: _is_batch(name, suffix) or name == FILE)


def _of_kind(path: Path, suffix: str, split: Split, class_map: Path | None) -> Source | None:
    """Return the set in files with this suffix, or None for another suffix."""
    if suffix == ".parquet":
        return parquet.from_parquet(path, split)
    return arrays.from_npz(path, split, class_map) if suffix == ".npz" else None


def _suffix_of_batches(path: Path, names: Sequence[str]) -> str:
    """Return the suffix of the batches of a published set in a folder, or "" if it is a folder of images.

    A folder with images, or with folders, is a folder of images unless a file has the name of a published batch: tools
    for scores leave an .npz or a .parquet beside images.
    """
    for suffix, published in BATCH_NAMES.items():
        if any(map(published.fullmatch, names)):
            return suffix
    if any(ending(name) in SUFFIXES or (ending(name) != "hidden" and (path / name).is_dir()) for name in names):
        return ""
    return next((suffix for suffix in BATCH_NAMES if any(name.endswith(suffix) for name in names)), "")


def _is_batch(name: str, suffix: str) -> bool:
    return name.startswith(("train", "test", "val")) and name.endswith(suffix)


def _with_left_out(source: Source, path: Path, names: Sequence[str], is_known: Callable[[str], bool]) -> Source:
    """Return the source with a count of the files and folders beside its own."""
    others = [name for name in names if not is_known(name)]
    kinds = Counter("folder" if (path / name).is_dir() else ending(name) for name in others)
    return dataclasses.replace(source, left_out=left_out(kinds))
