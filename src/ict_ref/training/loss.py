"""One training step: draw noise levels, noise and dropout masks, and compare student and teacher by the formulas."""

import math
from collections.abc import Callable, Iterable, Sequence
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
    consistency_matching_loss,
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
from ict_ref.networks.dropout import DropoutSite, Masks, draw_masks
from ict_ref.networks.model import Model
from ict_ref.training.distance import metric
from ict_ref.training.distillation import LabelledScore
from ict_ref.utils.rng import stream

CPU = torch.device("cpu")

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

    def to(self, device: torch.device) -> "Discretization":
        """Return the same on a device."""
        return Discretization(self.sigmas.to(device), self.pmf.to(device), self.weights.to(device))


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
    if method.sigma_data > math.sqrt(torch.finfo(ends.dtype).max):
        raise ValueError(f"needs method.sigma_data that {config.train.dtype} can square; got {method.sigma_data}")
    for function in (c_skip, c_out):
        function(ends, sigma_min=method.sigma_min, sigma_data=method.sigma_data)


def discretization(step: int, config: Config, device: torch.device = CPU) -> Discretization:
    """Return the N(k) noise levels of step k."""
    method = config.method
    n = CURRICULA[method.curriculum](step, total_steps=config.train.steps, s0=method.s0, s1=method.s1)
    return _discretization(n, method, device)


# Kept, for a copy to a device makes the host wait.
@lru_cache(maxsize=4)
def _discretization(n: int, method: Method, device: torch.device) -> Discretization:
    sigmas = sigma_grid(n, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho)
    pmf = PROBABILITIES[method.noise_schedule](sigmas, method)
    return Discretization(sigmas, pmf, WEIGHTS[method.weighting](sigmas)).to(device)


def teacher_decay(step: int, config: Config) -> float:
    """Return mu(k), the decay of the teacher's average at step k; 0 where the teacher is the student."""
    method = config.method
    if method.mu0 is None:
        return 0.0
    return teacher_ema_decay(len(discretization(step, config).sigmas), s0=method.s0, mu0=method.mu0)


def draw_levels_and_noise(
    step: int, lanes: Iterable[int], config: Config, *, event: tuple[int, ...]
) -> tuple[Int64[Tensor, " batch"], Float[Tensor, " batch *event"]]:
    """Return the cells of these lanes and their noise, made on the CPU."""
    seed, size = config.train.seed, config.train.batch_size // config.train.lanes
    lanes = list(lanes)
    u = np.concatenate([stream(seed, "noise level", step, lane).random(size) for lane in lanes])
    z = [stream(seed, "noise", step, lane).standard_normal((size, *event), dtype=np.float32) for lane in lanes]
    index = index_from_uniform(torch.from_numpy(u), discretization(step, config).pmf)
    return index, torch.from_numpy(np.concatenate(z)).to(getattr(torch, config.train.dtype))


def draw_step_masks(
    step: int, lanes: Iterable[int], config: Config, sites: Sequence[DropoutSite], device: torch.device
) -> Masks:
    """Return the dropout masks of these lanes, made on the device."""
    seed, size = config.train.seed, config.train.batch_size // config.train.lanes
    keys = [int(stream(seed, "dropout", step, lane).bit_generator.random_raw()) for lane in lanes]
    by_lane = [draw_masks(sites, size, key, device=device) for key in keys]
    return by_lane[0] if len(by_lane) == 1 else tuple(torch.cat(masks) for masks in zip(*by_lane, strict=True))


def training_loss(
    model: Model,
    x: Float[Tensor, " batch *event"],
    labels: Int64[Tensor, " batch"] | None,
    draws: Draws,
    levels: Discretization,
    method: Method,
    *,
    teacher: Model | None = None,
    score: LabelledScore | None = None,
) -> Float[Tensor, " batch"]:
    """Return the training loss of each example; without a teacher the student is its own (mu(k) = 0).

    Student and teacher are called as model(x, sigma, labels, masks). `score` is what is distilled.
    """
    f = partial(model, labels=labels, masks=draws.masks)
    g = f if teacher is None else partial(teacher, labels=labels, masks=draws.masks)
    distance = metric(method, x[0].numel())
    if method.objective == "continuous":
        sigma = levels.sigmas[draws.index + 1].to(x)
        # Fused attention has no derivative in forward mode.
        with sdpa_kernel(SDPBackend.MATH):
            return continuous_consistency_training_loss(
                f, x, draws.z, sigma, weights=torch.ones_like(sigma), distance=distance
            )
    if method.objective == "distillation":
        if score is None:
            raise ValueError("needs the score that method.objective distillation distils; got none; see load_score")
        sigma_hi = levels.sigmas[draws.index + 1].to(x)
        x_hi = x + sigma_hi.reshape(-1, *[1] * (x.ndim - 1)) * draws.z
        return consistency_matching_loss(
            f,
            g,
            lambda noisy, sigma: score(noisy, sigma, labels),
            x_hi,
            draws.index,
            levels.sigmas,
            distance=distance,
            weights=levels.weights,
        )
    return consistency_training_loss(
        f, g, x, draws.z, draws.index, levels.sigmas, distance=distance, weights=levels.weights
    )
