"""The one list of the images below a folder, which every command reads, and a count of what is not in it."""

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ict_ref.utils.progress import bar

# Endings of the formats that are read, in lower case.
SUFFIXES = (
    ".bmp", ".dib", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff",
    ".webp",
)  # fmt: skip
# Folder that macOS adds to archives, with descriptions of the files in it.
MACOS = "__MACOSX"
# Largest number of endings that are named.
NAMED = 6


@dataclass(frozen=True)
class ImageListing:
    """The images below a folder, in the order of their paths."""

    images: tuple[tuple[str, int], ...]
    """Path of each image below the folder, with `/`, and its size in bytes."""
    folders: tuple[str, ...]
    """Path of each folder, except hidden ones."""
    others: Mapping[str, int]
    """Number of other files by their ending; hidden files and folders are counted as `hidden`."""

    def left_out(self) -> str:
        """Return the number of files that are not images that are read, with their endings; "" for none.

        >>> ImageListing((), (), {".heic": 3, "hidden": 1}).left_out()
        '4 other files left out (3 .heic, 1 hidden)'
        """
        return left_out(self.others)


def left_out(others: Mapping[str, int]) -> str:
    """Return the number of files that are left out, with the commonest endings first; "" for none."""
    count = sum(others.values())
    if not count:
        return ""
    by_number = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    endings = ", ".join([f"{number} {ending}" for ending, number in by_number[:NAMED]])
    more = ", ..." if len(by_number) > NAMED else ""
    return f"{count} other file{'' if count == 1 else 's'} left out ({endings}{more})"


def list_images(folder: Path) -> ImageListing:
    """Return the images below a folder, also those behind links.

    A folder whose name ends like that of an image is a folder. A link to a folder above itself is left out and counted,
    as its images are in the list already.

    Raises:
        ValueError: An image is a pipe or a device.
        OSError: The folder cannot be read, or an image is a link to a file that does not exist.
    """
    images: list[tuple[str, int]] = []
    folders: list[str] = []
    others: Counter[str] = Counter()
    with bar(None, "listing", "images") as shown:
        for name, entry in _walk(folder, "", (_identity(folder.stat()),)):
            if isinstance(entry, str):
                others[entry] += 1
            elif entry is None:
                folders.append(name)
            else:
                images.append((name, entry))
                shown.update()
    in_order = {name: PurePosixPath(name).parts for name in (*folders, *(name for name, _ in images))}
    images.sort(key=lambda image: in_order[image[0]])
    return ImageListing(tuple(images), tuple(sorted(folders, key=in_order.__getitem__)), others)


def ending(name: str) -> str:
    """Return the ending of a file's name in lower case, for a count.

    >>> ending("photo.HEIC"), ending(".DS_Store"), ending("README")
    ('.heic', 'hidden', 'without an ending')
    """
    if name.startswith(".") or name == MACOS:
        return "hidden"
    return PurePosixPath(name).suffix.lower() or "without an ending"


def _walk(folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, int | str | None]]:
    """Yield each file below a folder with its size or the kind of what is left out, and each folder with None."""
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        name, kind = f"{prefix}{entry.name}", ending(entry.name)
        if kind == "hidden":
            yield name, kind
        elif entry.is_dir():
            identity = _identity(entry.stat())
            if identity in above:
                yield name, "link to a folder above"
                continue
            yield name, None
            yield from _walk(folder / entry.name, f"{name}/", (*above, identity))
        elif kind in SUFFIXES:
            yield name, _size(folder / entry.name, entry.stat())
        else:
            yield name, kind


def _size(path: Path, status: os.stat_result) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        ValueError: It is another kind of file.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: expected a regular file, got a pipe, a socket or a device. Remove it.")
    return status.st_size


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
