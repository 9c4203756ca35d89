"""Images from a consistency model, in one step or in several. Image k depends on the seed and on k alone."""

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from ict_ref.data import to_uint8
from ict_ref.formulas import multistep_sample
from ict_ref.networks.model import ConsistencyModel
from ict_ref.randomness import stream


@torch.no_grad()
def images(
    model: ConsistencyModel,
    labels: Int64[Tensor, " n"] | None,
    sigmas: list[float],
    *,
    count: int,
    event: tuple[int, ...],
    seed: int,
    clip: bool = True,
) -> UInt8[Tensor, " {count} *event"]:
    """Return `count` images, made at these descending noise levels; pixels are rounded to the nearest of 256.

    The same seed gives the same noise, so that images of one and of two steps can be laid side by side. `clip` cuts
    each step's result to [-1, 1], which the formula does not.
    """
    dtype = next(model.parameters()).dtype
    noises = np.stack([[_noise(seed, k, level, event) for k in range(count)] for level in range(len(sigmas))])

    def f(x: Float[Tensor, " n *event"], sigma: Float[Tensor, " n"]) -> Float[Tensor, " n *event"]:
        value: Tensor = model(x, sigma, labels)
        return value.clamp(-1, 1) if clip else value

    levels = torch.tensor(sigmas, dtype=torch.float64)
    return to_uint8(multistep_sample(f, torch.from_numpy(noises).to(dtype), levels, sigma_min=model.sigma_min))


def _noise(seed: int, k: int, level: int, event: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return stream(seed, "sample", step=k, lane=level).standard_normal(event, dtype=np.float32)
