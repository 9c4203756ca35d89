"""Images from a consistency model, in one step or in several. Image k depends on the seed and on k alone.

Its noise to the bit; its pixels too, but for the rounding of the network's sums, which may differ where the last batch
is shorter than the others.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from ict_ref.config import Config
from ict_ref.data.dataset import to_uint8
from ict_ref.formulas import multistep_sample
from ict_ref.networks.model import ConsistencyModel
from ict_ref.utils.rng import stream

# Values of the images that are made at once: 170 of 32x32 in colour, which the largest network has memory for.
VALUES = 1 << 19
# Images that are made at once at the most: who is asked to stop finishes these first.
MOST = 1024
# Images in a picture.
SHOWN = 80


def images(
    model: ConsistencyModel,
    labels: Int64[Tensor, " n"] | None,
    sigmas: Sequence[float],
    *,
    count: int,
    event: tuple[int, ...],
    seed: int,
    clip: bool = True,
) -> UInt8[Tensor, " {count} *event"]:
    """Return images 0 to `count` - 1, made at these descending noise levels. See `some_images`."""
    made = [
        some_images(model, labels, sigmas, chosen, event=event, seed=seed, clip=clip)
        for chosen in together(count, event)
    ]
    return torch.cat(made)


@torch.no_grad()
def some_images(
    model: ConsistencyModel,
    labels: Int64[Tensor, " n"] | None,
    sigmas: Sequence[float],
    chosen: range,
    *,
    event: tuple[int, ...],
    seed: int,
    clip: bool = True,
) -> UInt8[Tensor, " some *event"]:
    """Return these images, made at once; pixels are rounded to the nearest of 256.

    `labels` are of all images, from the first. The same seed gives the same noise, so that images of one and of two
    steps can be laid side by side. `clip` cuts each step's result to [-1, 1], which the formula does not.
    """
    dtype, device = next(model.parameters()).dtype, next(model.parameters()).device
    noises = torch.stack([noise(seed, chosen, event, level) for level in range(len(sigmas))])
    of_these = None if labels is None else labels[chosen.start : chosen.stop].to(device)

    def f(x: Float[Tensor, " some *event"], sigma: Float[Tensor, " some"]) -> Float[Tensor, " some *event"]:
        value: Tensor = model(x, sigma, of_these)
        return value.clamp(-1, 1) if clip else value

    levels = torch.tensor(sigmas, dtype=torch.float64)
    return to_uint8(multistep_sample(f, noises.to(device, dtype), levels, sigma_min=model.sigma_min)).cpu()


def together(count: int, event: tuple[int, ...]) -> list[range]:
    """Return which of `count` images are made at once: by the size of an image alone, not by who makes them."""
    size = max(1, min(MOST, VALUES // math.prod(event)))
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def one_and_two_steps(
    model: ConsistencyModel,
    labels: Int64[Tensor, " n"] | None,
    config: Config,
    *,
    count: int,
    event: tuple[int, ...],
) -> dict[str, UInt8[Tensor, " {count} *event"]]:
    """Return images made in one step and, of the same noise, in two, under what they are called."""
    high, middle = config.method.sigma_max, config.sample.two_step_sigma
    levels = {"one step": [high], f"two steps, sigma {middle}": [high, middle]}
    seed, clip = config.train.seed, config.sample.clip
    return {
        name: images(model, labels, sigmas, count=count, event=event, seed=seed, clip=clip)
        for name, sigmas in levels.items()
    }


def shown_labels(classes: int, config: Config) -> tuple[int, Int64[Tensor, " n"] | None]:
    """Return how many samples a picture shows, and their classes: some of each of the first ten."""
    labels = torch.arange(SHOWN) * min(classes, 10) // SHOWN if config.data.labels else None
    return SHOWN, labels


def noise(seed: int, chosen: range, event: tuple[int, ...], level: int = 0) -> Float[Tensor, " some *event"]:
    """Return a level's noise of these images: of each a pure function of the seed, its number and the level's."""
    draws = [stream(seed, "sample", step=k, shard=level).standard_normal(event, dtype=np.float32) for k in chosen]
    return torch.from_numpy(np.stack(draws))
