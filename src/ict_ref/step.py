"""One training step: draw noise levels, noise and dropout masks, and compare student and teacher by the formulas."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ict_ref.config import Config, Method
from ict_ref.formulas import (
    c_out,
    c_skip,
    consistency_training_loss,
    constant_curriculum,
    continuous_consistency_training_loss,
    cosine_curriculum,
    exponential_curriculum,
    index_from_uniform,
    inverse_gap_weights,
    linear_curriculum,
    lognormal_pmf,
    sigma_grid,
    sqrt_curriculum,
    square_curriculum,
    teacher_ema_decay,
    uniform_pmf,
    uniform_weights,
)
from ict_ref.metric import metric
from ict_ref.networks.masks import DropoutSite, Masks, draw_masks
from ict_ref.networks.model import ConsistencyModel
from ict_ref.randomness import stream

CURRICULA: dict[str, Callable[..., int]] = {
    "exponential": exponential_curriculum,
    "sqrt": sqrt_curriculum,
    "constant": constant_curriculum,
    "linear": linear_curriculum,
    "square": square_curriculum,
    "cosine": cosine_curriculum,
}
PROBABILITIES: dict[str, Callable[[Tensor, Method], Tensor]] = {
    "lognormal": lambda sigmas, method: lognormal_pmf(sigmas, p_mean=method.p_mean, p_std=method.p_std),
    "uniform": lambda sigmas, _: uniform_pmf(sigmas),
}
WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {"inverse_gap": inverse_gap_weights, "uniform": uniform_weights}


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
        teacher_decay(step, config)
    method = config.method
    distance, one = metric(method, 1), torch.zeros(1, 1, dtype=getattr(torch, config.train.dtype))
    if method.distance != "lpips":  # which takes images
        distance(one, one)
    ends = torch.tensor([method.sigma_min, method.sigma_max], dtype=getattr(torch, config.train.dtype))
    coefficients = [
        function(ends, sigma_min=method.sigma_min, sigma_data=method.sigma_data) for function in (c_skip, c_out)
    ]
    if not all(bool(coefficient.isfinite().all()) for coefficient in coefficients):
        raise ValueError(f"needs method.sigma_data that {config.train.dtype} can square; got {method.sigma_data}")


def discretization(step: int, config: Config) -> Discretization:
    """Return the N(k) noise levels of step k."""
    method = config.method
    n = CURRICULA[method.curriculum](step, total_steps=config.train.steps, s0=method.s0, s1=method.s1)
    return _discretization(n, method)


@lru_cache(maxsize=2)
def _discretization(n: int, method: Method) -> Discretization:
    sigmas = sigma_grid(n, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho)
    pmf = PROBABILITIES[method.noise_schedule](sigmas, method)
    return Discretization(sigmas, pmf, WEIGHTS[method.weighting](sigmas))


def teacher_decay(step: int, config: Config) -> float:
    """Return mu(k), the decay of the teacher's average at step k; 0 where the teacher is the student."""
    method = config.method
    if method.mu0 is None:
        return 0.0
    return teacher_ema_decay(len(discretization(step, config).sigmas), s0=method.s0, mu0=method.mu0)


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
    method: Method,
    *,
    teacher: ConsistencyModel | None = None,
) -> Float[Tensor, " batch"]:
    """Return the consistency training loss of each example; without a teacher the student is its own (mu(k) = 0)."""
    f = partial(model, labels=labels, masks=draws.masks)
    distance = metric(method, x[0].numel())
    if method.objective == "continuous":
        sigma = levels.sigmas[draws.index + 1]
        # Fused attention has no derivative in forward mode.
        with sdpa_kernel(SDPBackend.MATH):
            return continuous_consistency_training_loss(
                f, x, draws.z, sigma, weight=torch.ones_like(sigma), metric=distance
            )
    return consistency_training_loss(
        student=f,
        teacher=f if teacher is None else partial(teacher, labels=labels, masks=draws.masks),
        x=x,
        z=draws.z,
        index=draws.index,
        sigmas=levels.sigmas,
        distance=distance,
        weights=levels.weights,
    )
