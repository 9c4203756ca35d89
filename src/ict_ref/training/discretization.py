"""The noise levels of a training step, by the curriculum, noise schedule and weighting of a configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float64
from torch import Tensor

from ict_ref.config import Config, Method
from ict_ref.formulas import (
    constant_curriculum,
    cosine_curriculum,
    exponential_curriculum,
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
    """The noise levels of a step, with the probability and the weight of each interval between two of them."""

    sigmas: Float64[Tensor, " n"]
    pmf: Float64[Tensor, " n-1"]
    weights: Float64[Tensor, " n-1"]

    def to(self, device: torch.device) -> "Discretization":
        """Return a copy on a device."""
        return Discretization(self.sigmas.to(device), self.pmf.to(device), self.weights.to(device))


def discretization(step: int, config: Config, device: torch.device = CPU) -> Discretization:
    """Return the N(k) noise levels of the update after k = `step` others, ascending, in float64.

    >>> from ict_ref.config import minimal
    >>> levels = discretization(0, minimal())
    >>> len(levels.sigmas), len(levels.pmf), float(levels.sigmas[-1])
    (11, 10, 80.0)

    Raises:
        ValueError: neighbouring noise levels are equal in float64, or the noise schedule gives all of them
            probability 0.
    """
    method = config.method
    n = CURRICULA[method.curriculum](step, total_steps=config.train.steps, s0=method.s0, s1=method.s1)
    return _discretization(n, method, device)


# Cached because a copy to a device makes the host wait.
@lru_cache(maxsize=4)
def _discretization(n: int, method: Method, device: torch.device) -> Discretization:
    sigmas = sigma_grid(n, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho)
    pmf = PROBABILITIES[method.noise_schedule](sigmas, method)
    return Discretization(sigmas, pmf, WEIGHTS[method.weighting](sigmas)).to(device)


def teacher_decay(step: int, config: Config) -> float:
    """Return mu(k), the EMA decay of the teacher after k = `step` updates; 0 if the teacher is the student."""
    method = config.method
    if method.mu0 is None:
        return 0.0
    return teacher_ema_decay(len(discretization(step, config).sigmas), s0=method.s0, mu0=method.mu0)
