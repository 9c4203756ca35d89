"""The images that a command reads by one name: of a folder, a prepared folder, a file, or the bundled digits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ict_ref.data.dataset import Images, digits
from ict_ref.data.image_files import ACCEPTED, read_images
from ict_ref.data.prepared import ABOUT, JOURNAL, open_arrays
from ict_ref.utils.command_line import expect
from ict_ref.utils.nearest import hint

DIGITS = ("digits:train", "digits:held-out")


@dataclass(frozen=True)
class StoredImages:
    """Images of one size, in memory or in a memory-mapped file."""

    array: UInt8[np.ndarray, " n channels height width"]
    labels: Int64[Tensor, " n"] | None
    """Class of each image of the bundled digits, else None."""
    recipe: str
    """Recipe of a prepared folder in words, else ""."""
    remarks: tuple[str, ...]
    """One line for each kind of files or of content that is left out."""


def stored_images(place: str, option: str) -> StoredImages:
    """Return the images of a folder, a prepared folder, an .npz, an image, digits:train or digits:held-out.

    `option` is the name of the option or of the argument, for messages.

    Raises:
        ValueError: The place does not hold images, or a file is damaged.
        OSError: A file cannot be read.
    """
    if place in DIGITS:
        both = digits()
        images: Images = both.train if place == "digits:train" else both.held_out
        return StoredImages(images.array, images.labels, "", ())
    path = Path(place)
    if not path.exists():
        raise ValueError(
            f"{option}: {place} does not exist{hint(place, DIGITS)}. Give {ACCEPTED}, {' or '.join(DIGITS)}."
        )
    if (path / ABOUT).is_file() or (path / JOURNAL).is_file():
        about, array, _ = open_arrays(path)
        return StoredImages(array, None, about.words, ())
    is_run = (path / "config.json").is_file()
    expect(not is_run, option, ACCEPTED, f"the run folder {path}")
    read = read_images(path)
    return StoredImages(read.pixels.numpy(), None, "", read.remarks)


def evenly(
    sets: Sequence[StoredImages], count: int, channels: int
) -> tuple[UInt8[Tensor, " {count} {channels} height width"], Int64[Tensor, " {count}"] | None]:
    """Return `count` images, evenly spaced over all sets, and their labels if all have labels.

    Only these images are read from a memory-mapped file. Grey images are expanded to `channels`.
    """
    starts = np.cumsum([0, *(len(each.array) for each in sets)])
    chosen = np.arange(count) * starts[-1] // count
    pixels, labels = [], []
    for each, start, stop in zip(sets, starts[:-1], starts[1:], strict=True):
        here = chosen[(chosen >= start) & (chosen < stop)] - start
        pixels.append(np.repeat(each.array[here], channels // each.array.shape[1], axis=1))
        labels += [] if each.labels is None else [each.labels[here]]
    return torch.from_numpy(np.concatenate(pixels)), torch.cat(labels) if len(labels) == len(sets) else None
