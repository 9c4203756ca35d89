"""Sets of images, by what the user calls them: in batches, as they are stored or as a model makes them."""

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
    """Images of one size, which are looked at once."""

    name: str
    count: int
    event: tuple[int, int, int]
    """Channels, height and width."""
    made: dict[str, Any]
    """How they were made, for the protocol."""
    batches: Callable[[], Iterator[UInt8[Tensor, " batch channels height width"]]]


def stored(place: str) -> ImageSet:
    """Return the images of a folder, an .npz, a prepared folder, or of digits:train or digits:held-out.

    Raises ValueError, by the file's name, for what has none or is damaged.
    """
    if place in DIGITS:
        both = digits()
        return _in_memory(place, (both.train if place == "digits:train" else both.held_out).pixels)
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
        raise ValueError(f"{path} is a run's folder; --reference needs real images: a folder, an .npz, prepared data")
    return _in_memory(place, read_pixels(path))


def sampled(recipe: Recipe) -> ImageSet:
    """Return samples of a model, made when they are looked at."""

    def batches() -> Iterator[UInt8[Tensor, " batch channels height width"]]:
        for chosen in recipe.batches:
            yield from torch.split(recipe.make(chosen), BATCH)

    trained = recipe.trained
    return ImageSet(trained.name, recipe.count, trained.event, recipe.described(), batches)


def _in_memory(name: str, pixels: UInt8[Tensor, " n channels height width"]) -> ImageSet:
    count, channels, height, width = pixels.shape
    return ImageSet(name, count, (channels, height, width), STORED, lambda: iter(torch.split(pixels, BATCH)))
