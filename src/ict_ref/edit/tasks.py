"""The editing tasks, each by a formula of `ict_ref.formulas.editing`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from ict_ref.data.dataset import to_float, to_uint8
from ict_ref.formulas import (
    Operator,
    colorization_mask,
    colorization_operator,
    denoise,
    edit,
    inpainting_operator,
    renoise,
    stroke_edit,
    super_resolution_mask,
    super_resolution_operator,
)
from ict_ref.formulas.editing import LUMA
from ict_ref.formulas.objective import ConsistencyFunction
from ict_ref.sample.images import noise

Change: TypeAlias = Callable[
    [ConsistencyFunction, Float[Tensor, " some *event"], Float[Tensor, " levels some *event"], slice],
    Float[Tensor, " some *event"],
]
"""Function (f, images, noise of each level, slice of the images) that returns the edited images."""
# Colour of masked pixels in a picture; it is not grey, because images may be grey.
UNSEEN = (70, 110, 190)
# Largest number of rows in the picture.
ROWS = 10


@dataclass(frozen=True)
class Levels:
    """The descending noise levels of a task, with sigma_min and the seed of their noise."""

    sigmas: Float64[Tensor, " levels"]
    sigma_min: float
    seed: int

    def noises(self, chosen: range, event: tuple[int, ...]) -> Float[Tensor, " levels some *event"]:
        """Return the noise of each level for these images."""
        return torch.stack([noise(self.seed, chosen, event, level) for level in range(len(self.sigmas))])


@dataclass(frozen=True)
class Task:
    """Input images, the function that edits them, and the pictures shown beside the result."""

    y: UInt8[Tensor, " n channels height width"]
    beside: dict[str, UInt8[Tensor, " n _ height width"]]
    change: Change


def inpaint(
    images: UInt8[Tensor, " n channels height width"], mask: Bool[Tensor, " n 1 height width"], at: Levels
) -> Task:
    """Return the task that makes the pixels of the mask and keeps all others exactly."""
    colours = images.expand(-1, 3, -1, -1)
    seen = torch.where(mask, torch.tensor(UNSEEN, dtype=torch.uint8).reshape(1, 3, 1, 1), colours)
    return Task(
        images,
        {"input": images, "seen": seen},
        lambda f, y, noises, chosen: edit(
            f, y, inpainting_operator(), mask[chosen].to(y.device), noises, at.sigmas, sigma_min=at.sigma_min
        ),
    )


def colorize(images: UInt8[Tensor, " n channels height width"], at: Levels) -> Task:
    """Return the task that makes colours and keeps the luma of each pixel up to rounding.

    The model sees only the grey value of colour images.

    Raises:
        ValueError: The model is for grey images.
    """
    if images.shape[1] != 3:
        raise ValueError("--task: expected a model of colour images for colorize, got a model of grey images")
    weights = torch.tensor(LUMA, dtype=torch.float64)
    grey = torch.einsum("nchw,c->nhw", images.double(), weights / weights.sum())
    y = grey.round().to(torch.uint8)[:, None].repeat(1, 3, 1, 1)

    def of_pixel(share: Float[Tensor, " some 3 height width"]) -> Float[Tensor, " some 1 height width"]:
        return share.amin(1, keepdim=True)

    change = _keeping(colorization_operator(), colorization_mask(), of_pixel, at)
    return Task(y, {"input": images, "seen": y}, change)


def super_resolve(images: UInt8[Tensor, " n channels height width"], side: int, patch: int, at: Levels) -> Task:
    """Return the task that makes details and keeps the mean of each patch up to rounding.

    Images with `side` pixels a side are averaged first. Each pixel of smaller images is the mean of a patch.
    """
    full = images.shape[-1] == side
    means = F.avg_pool2d(images.double(), patch).round().to(torch.uint8) if full else images

    def repeated(means: Float[Tensor, " n channels h w"] | UInt8[Tensor, " n channels h w"]) -> Tensor:
        return means.repeat_interleave(patch, dim=2).repeat_interleave(patch, dim=3)

    def of_patch(share: Float[Tensor, " some channels height width"]) -> Float[Tensor, " some channels height width"]:
        return repeated(-F.max_pool2d(-share, patch))

    y = repeated(means)
    operator, mask = super_resolution_operator(patch), super_resolution_mask(images.shape[1], patch)
    beside = {"input": images, "seen": y} if full else {"input": y}
    return Task(y, beside, _keeping(operator, mask, of_patch, at))


def stroke(images: UInt8[Tensor, " n channels height width"], at: Levels) -> Task:
    """Return the task that makes an image from the input with noise of the first level (stroke guidance)."""
    shown = images[:ROWS]
    z = noise(at.seed, range(len(shown)), tuple(shown.shape[1:]))
    seen = to_uint8(to_float(shown) + float(at.sigmas[0]) * z)
    return Task(
        images,
        {"input": images, "seen": seen},
        lambda f, y, noises, _: stroke_edit(f, y, noises, at.sigmas, sigma_min=at.sigma_min),
    )


def remove_noise(images: UInt8[Tensor, " n channels height width"], noisy: bool, at: Levels) -> Task:
    """Return the task that removes noise of one level, which it adds first unless the images are noisy."""
    sigma = float(at.sigmas[0])

    def with_noise(y: Float[Tensor, " some *event"], z: Float[Tensor, " some *event"]) -> Float[Tensor, " some *event"]:
        return y if noisy else renoise(y, z, sigma=sigma, sigma_min=at.sigma_min)

    shown = images[:ROWS]
    z = noise(at.seed, range(len(shown)), tuple(shown.shape[1:]))
    seen = to_uint8(with_noise(to_float(shown), z))
    return Task(
        images,
        {"input": images} if noisy else {"input": images, "seen": seen},
        lambda f, y, noises, _: denoise(f, with_noise(y, noises[0]), y.new_full((len(y),), sigma)),
    )


def _keeping(operator: Operator, mask: Bool[Tensor, "..."], least: Callable[[Tensor], Tensor], at: Levels) -> Change:
    """Return Algorithm 4, followed by `into_range`."""
    return lambda f, y, noises, _: into_range(
        edit(f, y, operator, mask.to(y.device), noises, at.sigmas, sigma_min=at.sigma_min), y, least
    )


def into_range(
    x: Float[Tensor, " some *event"], y: Float[Tensor, " some *event"], least: Callable[[Tensor], Tensor]
) -> Float[Tensor, " some *event"]:
    """Return the last point on the segment from y to x at which each group of values is within [-1, 1].

    y is within the range. `least` replaces each value by the smallest of its group. The values of a group share a known
    coordinate and a common fraction of the way, so patch means and lumas of y do not change. Clipping x would change
    them.
    """
    share = torch.where(x > 1, (1 - y) / (x - y), torch.where(x < -1, (-1 - y) / (x - y), 1.0))
    return y + least(share) * (x - y)
