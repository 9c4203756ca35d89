"""Sets of images in batches, from storage or from a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel
from ict_ref.data.dataset import digits
from ict_ref.data.image_files import read_pixels
from ict_ref.data.prepared import ABOUT, open_arrays
from ict_ref.evaluate.shared_options import SharedOptions
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
    chunks: Sequence[range]
    """Ranges of images that are loaded or made together."""
    load: Callable[[range], UInt8[Tensor, " chunk channels height width"]]
    """Function that returns the images of a chunk."""
    sampled: bool = False
    """Whether `load` makes samples of a model, so that each chunk is loaded once, by one process."""


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
        return ImageSet(
            place,
            about.count,
            about.shape,
            {"recipe": about.words, **STORED},
            _batches(about.count),
            lambda chunk: torch.from_numpy(array[chunk.start : chunk.stop].copy()),
        )
    if (path / "config.json").is_file():
        raise ValueError(
            f"--reference: expected a folder of images, an .npz or prepared data, got the run folder {path}"
        )
    return in_memory(place, read_pixels(path))


def sampled(recipe: Recipe) -> ImageSet:
    """Return samples of a model, which are made on demand."""
    trained = recipe.trained
    described = recipe.described()
    return ImageSet(trained.name, recipe.count, trained.event, described, recipe.batches, recipe.make, sampled=True)


def recipe_of(
    trained: PretrainedModel,
    options: SharedOptions,
    *,
    count: int,
    sigmas: Sequence[float],
    labels: tuple[int, ...],
    seed: int,
    clip: bool | None = None,
) -> Recipe:
    """Return the recipe of samples by the options of a command.

    Raises:
        ValueError: The model does not support the noise levels, labels or precision.
    """
    return Recipe(
        trained,
        count,
        sigmas,
        labels,
        seed,
        clip,
        precision=options.precision,
        compiled=options.compile,
        truncate=options.truncate,
        label_order=options.label_order,
    )


def in_memory(name: str, pixels: UInt8[Tensor, " n channels height width"]) -> ImageSet:
    """Return a named set of the images in a tensor."""
    count, channels, height, width = pixels.shape
    return ImageSet(
        name,
        count,
        (channels, height, width),
        STORED,
        _batches(count),
        lambda chunk: pixels[chunk.start : chunk.stop],
    )


def _batches(count: int) -> list[range]:
    return [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
