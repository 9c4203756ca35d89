"""Images from a consistency model in one or more steps; image k depends only on the seed and k.

The noise of image k is always the same to the bit. Its pixels may differ by the network's rounding if it belongs to a
shorter last batch.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from ict_ref.config import Config
from ict_ref.data.dataset import to_uint8
from ict_ref.formulas import multistep_sample
from ict_ref.networks.model import ConsistencyModel
from ict_ref.networks.precision import computing_in
from ict_ref.utils.dtypes import torch_dtype
from ict_ref.utils.rng import stream

# Largest number of values in a batch: 170 colour images of 32x32, which fit in memory with the largest network.
VALUES = 1 << 19
# Largest number of images in a batch; a process finishes its batch before it stops.
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
    """Return images 0 to `count` - 1, made at these descending noise levels, batch by batch as `some_images` does."""
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
    precision: str = "float32",
    truncate: bool = False,
) -> UInt8[Tensor, " some *event"]:
    """Return the chosen images as one batch, rounded to 8 bits or with `truncate` rounded down.

    The network computes in a policy of `train.precision`, by default in float32 without TF32.

    `labels` has an entry for every image, not only for the chosen ones. The noise depends only on the seed, so images
    of one and two steps are comparable. With `clip` each step's result is clipped to [-1, 1], unlike in the formula.
    """
    dtype, device = next(model.parameters()).dtype, next(model.parameters()).device
    noises = torch.stack([noise(seed, chosen, event, level) for level in range(len(sigmas))])
    of_these = None if labels is None else labels[chosen.start : chosen.stop].to(device)

    def f(x: Float[Tensor, " some *event"], sigma: Float[Tensor, " some"]) -> Float[Tensor, " some *event"]:
        value: Tensor = model(x, sigma, of_these)
        return value.clamp(-1, 1) if clip else value

    levels = torch.tensor(sigmas, dtype=torch.float64)
    with computing_in(precision), _autocast(precision, device):
        made = multistep_sample(f, noises.to(device, dtype), levels, sigma_min=model.sigma_min)
    return to_uint8(made, truncate=truncate).cpu()


def _autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a network computes in 16 bits, if the policy requires it."""
    low = precision in ("bfloat16", "float16")
    return torch.autocast(device.type, torch_dtype(precision)) if low else nullcontext()


def together(count: int, event: tuple[int, ...]) -> list[range]:
    """Return the batches of `count` images; they depend only on the shape of an image, not on the process."""
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
    """Return images made in one step and in two steps from the same noise, by title."""
    high, middle = config.method.sigma_max, config.sample.two_step_sigma
    levels = {"one step": [high], f"two steps, sigma {middle}": [high, middle]}
    seed, clip = config.train.seed, config.sample.clip
    return {
        name: images(model, labels, sigmas, count=count, event=event, seed=seed, clip=clip)
        for name, sigmas in levels.items()
    }


def shown_labels(classes: int, config: Config) -> tuple[int, Int64[Tensor, " n"] | None]:
    """Return the number of samples in a picture and their classes, evenly from the first ten."""
    labels = torch.arange(SHOWN) * min(classes, 10) // SHOWN if config.data.labels else None
    return SHOWN, labels


def noise(seed: int, chosen: range, event: tuple[int, ...], level: int = 0) -> Float[Tensor, " some *event"]:
    """Return the noise of the chosen images for sampling step `level`, a pure function of seed, image and step."""
    draws = [stream(seed, "sample", step=k, shard=level).standard_normal(event, dtype=np.float32) for k in chosen]
    return torch.from_numpy(np.stack(draws))
