"""Readers of published data sets and of folders of images.

Reading never executes code: pickles may name only NumPy arrays, arrays with objects are rejected, and members of
archives are read by name and never extracted.
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
    class_map: Path | None = None,
) -> Source:
    """Return the data set at this path; its kind follows from its files.

    Raises:
        ValueError: The path does not exist, an option does not fit it, or a file cannot be used.
        OSError: A file cannot be read.
    """
    if not path.exists():
        raise ValueError(f"SOURCE: expected a data set, got {path}, which does not exist")
    published = _published(path, split, class_map)
    if class_map is not None and (published is None or published.recipe["reader"] != arrays.READER):
        raise ValueError(f"--class-map: expected .npz batches of the downsampled ImageNet, got {path}. Leave it out.")
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


def _published(path: Path, split: Split, class_map: Path | None) -> Source | None:
    """Return CIFAR-10 or the downsampled ImageNet, or None for other files."""
    if path.is_file() and path.name.endswith((".tar.gz", ".tgz")):
        return cifar.from_archive(path, split)
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    kind = cifar.folder_kind(names)
    if path.is_dir() and kind is not None:
        return cifar.from_folder(path, kind, split)
    suffixes = {Path(name).suffix for name in names}
    if ".parquet" in suffixes:
        return parquet.from_parquet(path, split)
    if ".npz" in suffixes:
        return arrays.from_npz(path, split, class_map)
    return None
