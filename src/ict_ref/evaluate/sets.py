"""Sets of images in batches, from storage or from a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ict_ref.data.dataset import digits
from ict_ref.data.image_files import read_pixels
from ict_ref.data.prepared import ABOUT, open_arrays
from ict_ref.sample.recipe import Recipe

BATCH = 64
DIGITS = ("digits:train", "digits:held-out")
STORED = {"quantisation": "8 bits a channel, as stored"}


@dataclass(frozen=True)
class ImageSet:
    """A named set of images of one size in batches."""

    name: str
    count: int
    event: tuple[int, int, int]
    """Channels, height and width."""
    made: dict[str, Any]
    """Description of their origin for the protocol."""
    batches: Callable[[], Iterator[UInt8[Tensor, " batch channels height width"]]]


def stored(place: str) -> ImageSet:
    """Return the images of a folder, an .npz, a prepared folder, digits:train or digits:held-out.

    Raises:
        ValueError: The path does not hold images, or a file is damaged.
        OSError: A file cannot be read.
    """
    if place in DIGITS:
        both = digits()
        return in_memory(place, (both.train if place == "digits:train" else both.held_out).pixels)
    path = Path(place)
    if (path / ABOUT).is_file():
        about, array, _ = open_arrays(path)
        starts = range(0, about.count, BATCH)
        return ImageSet(
            place,
            about.count,
            about.shape,
            {"recipe": about.words, **STORED},
            lambda: (torch.from_numpy(array[start : start + BATCH].copy()) for start in starts),
        )
    if (path / "config.json").is_file():
        raise ValueError(
            f"--reference: expected a folder of images, an .npz or prepared data, got the run folder {path}"
        )
    return in_memory(place, read_pixels(path))


def sampled(recipe: Recipe) -> ImageSet:
    """Return samples of a model, which are made on demand."""

    def batches() -> Iterator[UInt8[Tensor, " batch channels height width"]]:
        for chosen in recipe.batches:
            yield from torch.split(recipe.make(chosen), BATCH)

    trained = recipe.trained
    return ImageSet(trained.name, recipe.count, trained.event, recipe.described(), batches)


def in_memory(name: str, pixels: UInt8[Tensor, " n channels height width"]) -> ImageSet:
    """Return a named set of the images in a tensor."""
    count, channels, height, width = pixels.shape
    return ImageSet(name, count, (channels, height, width), STORED, lambda: iter(torch.split(pixels, BATCH)))
