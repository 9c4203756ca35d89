"""Data sets as they are published, and folders of images: what is in them, in which order, and how pixels are read.

Nothing that is read can execute code: pickles may name NumPy arrays and nothing else, arrays hold no objects, and
members of archives are read by name and never extracted.
"""

from pathlib import Path

from ict_ref.prepare.sources import arrays, cifar, image_folder, parquet
from ict_ref.prepare.sources.source import Part, Source, Split

__all__ = ["Part", "Source", "Split", "find"]


def find(
    path: Path,
    *,
    split: Split = "train",
    size: int | None = None,
    grey: bool = False,
) -> Source:
    """Return the data set at this path, whose kind is seen from its files.

    Raises ValueError, by the name of the file, for what cannot be used.
    """
    if not path.exists():
        raise ValueError(f"needs a data set; there is no {path}")
    published = _published(path, split)
    if published is not None:
        if size is not None or grey:
            raise ValueError(f"--size and --grey are for folders of images; {path} is taken as it was published")
        return published
    if path.is_file():
        raise ValueError(f"needs a folder, .tar.gz, .npz or .parquet; got {path}; see python -m ict_ref.prepare --help")
    if split != "train":
        raise ValueError(f"--split is for published files; {path} is a folder of images: name the folder of the split")
    return image_folder.from_folder(path, size, grey)


def _published(path: Path, split: Split) -> Source | None:
    """Return CIFAR-10 or the downsampled ImageNet, if this is one of them."""
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz")):
        return cifar.from_archive(path, split)
    if path.is_dir() and (kind := cifar.folder_kind(names)) is not None:
        return cifar.from_folder(path, kind, split)
    if any(name.endswith(".parquet") for name in names):
        return parquet.from_parquet(path, split)
    if any(name.endswith(".npz") for name in names):
        return arrays.from_npz(path, split)
    return None
