"""One training step: draw noise levels, noise and dropout masks, and compare student and teacher by the formulas."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ict_ref.config import Config, Method
from ict_ref.formulas import (
    c_out,
    c_skip,
    consistency_training_loss,
    exponential_curriculum,
    index_from_uniform,
    inverse_gap_weights,
    lognormal_pmf,
    pseudo_huber,
    pseudo_huber_constant,
    sigma_grid,
)
from ict_ref.networks.masks import DropoutSite, Masks, draw_masks
from ict_ref.networks.model import ConsistencyModel
from ict_ref.randomness import stream


@dataclass(frozen=True)
class Discretization:
    """The noise levels of a step, and for each cell between two of them its probability and its weight."""

    sigmas: Float64[Tensor, " n"]
    pmf: Float64[Tensor, " n-1"]
    weights: Float64[Tensor, " n-1"]


@dataclass(frozen=True)
class Draws:
    """What chance decides in one step: the cell of each example, its noise, and what is dropped."""

    index: Int64[Tensor, " batch"]
    z: Float[Tensor, " batch *event"]
    masks: Masks


def refuse_bad_numbers(config: Config) -> None:
    """Raise the ValueError of the first formula in whose domain the configuration does not lie."""
    for step in (0, config.train.steps):
        discretization(step, config)
    method = config.method
    ends = torch.tensor([method.sigma_min, method.sigma_max], dtype=getattr(torch, config.train.dtype))
    coefficients = [
        function(ends, sigma_min=method.sigma_min, sigma_data=method.sigma_data) for function in (c_skip, c_out)
    ]
    if not all(bool(coefficient.isfinite().all()) for coefficient in coefficients):
        raise ValueError(f"needs method.sigma_data that {config.train.dtype} can square; got {method.sigma_data}")


def discretization(step: int, config: Config) -> Discretization:
    """Return the N(k) noise levels of step k."""
    method = config.method
    n = exponential_curriculum(step, total_steps=config.train.steps, s0=method.s0, s1=method.s1)
    return _discretization(n, method)


@lru_cache(maxsize=2)
def _discretization(n: int, method: Method) -> Discretization:
    sigmas = sigma_grid(n, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho)
    pmf = lognormal_pmf(sigmas, p_mean=method.p_mean, p_std=method.p_std)
    return Discretization(sigmas, pmf, inverse_gap_weights(sigmas))


def draw(
    step: int,
    lanes: Iterable[int],
    config: Config,
    *,
    event: tuple[int, ...],
    sites: list[DropoutSite],
) -> Draws:
    """Return the draws of these lanes of the batch, each a pure function of (seed, step, lane)."""
    seed, size = config.train.seed, config.train.batch_size // config.train.lanes
    pmf = discretization(step, config).pmf
    dtype = getattr(torch, config.train.dtype)

    def one_lane(lane: int) -> Draws:
        u = stream(seed, "noise level", step, lane).random(size)
        z = stream(seed, "noise", step, lane).standard_normal((size, *event), dtype=np.float32)
        return Draws(
            index_from_uniform(torch.from_numpy(u), pmf),
            torch.from_numpy(z).to(dtype),
            draw_masks(sites, size, int(stream(seed, "dropout", step, lane).bit_generator.random_raw())),
        )

    drawn = [one_lane(lane) for lane in lanes]
    return Draws(
        torch.cat([one.index for one in drawn]),
        torch.cat([one.z for one in drawn]),
        tuple(torch.cat(masks) for masks in zip(*(one.masks for one in drawn), strict=True)),
    )


def training_loss(
    model: ConsistencyModel,
    x: Float[Tensor, " batch *event"],
    labels: Int64[Tensor, " batch"] | None,
    draws: Draws,
    levels: Discretization,
) -> Float[Tensor, " batch"]:
    """Return the consistency training loss of each example; the teacher is the student itself (iCT: mu(k) = 0)."""
    f = partial(model, labels=labels, masks=draws.masks)
    return consistency_training_loss(
        student=f,
        teacher=f,
        x=x,
        z=draws.z,
        index=draws.index,
        sigmas=levels.sigmas,
        distance=partial(pseudo_huber, c=pseudo_huber_constant(x[0].numel())),
        weights=levels.weights,
    )
