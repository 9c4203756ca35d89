"""Sets of images in batches, from storage or from a model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel
from ict_ref.data.stored_images import stored_images
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.shared_options import SharedOptions
from ict_ref.sample.recipe import Recipe
from ict_ref.utils.printable import printable

BATCH = 64
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
    remarks: tuple[str, ...] = ()
    """One line for each kind of files or of content that is left out, and on unusual noise levels."""


def stored(place: str, option: str = "--reference") -> ImageSet:
    """Return the images of a folder, an .npz, a prepared folder, an image, digits:train or digits:held-out.

    Raises:
        ValueError: The path does not hold images, or a file is damaged. The message begins with `option`.
        OSError: A file cannot be read.
    """
    images = stored_images(place, option)
    described = {"recipe": images.recipe, **STORED} if images.recipe else STORED
    return _in_memory(place, images.array, described, images.remarks)


def print_remarks(images: ImageSet, group: ProcessGroup) -> None:
    """Print, in the first process, what a user should know of these images."""
    for remark in images.remarks if group.first else ():
        print(printable(f"{images.name}: {remark}"))


def sampled(recipe: Recipe) -> ImageSet:
    """Return samples of a model, which are made on demand."""
    trained = recipe.trained
    described = recipe.described()
    return ImageSet(
        trained.name,
        recipe.count,
        trained.event,
        described,
        recipe.batches,
        recipe.make,
        sampled=True,
        remarks=recipe.remarks,
    )


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
    return _in_memory(name, pixels.numpy(), STORED, ())


def _in_memory(
    name: str,
    array: UInt8[np.ndarray, " n channels height width"],
    described: dict[str, Any],
    remarks: tuple[str, ...],
) -> ImageSet:
    """Return a named set of the images in an array, which may be memory-mapped."""
    count, channels, height, width = array.shape
    return ImageSet(
        name,
        count,
        (channels, height, width),
        described,
        _batches(count),
        lambda chunk: torch.from_numpy(array[chunk.start : chunk.stop].copy()),
        remarks=remarks,
    )


def _batches(count: int) -> list[range]:
    return [range(start, min(start + BATCH, count)) for start in range(0, count, BATCH)]
