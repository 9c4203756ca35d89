"""The noise levels of a training step, by the curriculum, noise schedule and weighting of a configuration."""

from bisect import bisect_left
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
    snr_weights,
    sqrt_curriculum,
    square_curriculum,
    teacher_ema_decay,
    uniform_pmf,
    uniform_weights,
)
from ict_ref.training.level_pairs import has_stages

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
WEIGHTS: dict[str, Callable[[Tensor, Method], Tensor]] = {
    "inverse_gap": lambda sigmas, _: inverse_gap_weights(sigmas),
    "uniform": lambda sigmas, _: uniform_weights(sigmas),
    "snr": lambda sigmas, method: snr_weights(sigmas[1:], sigma_data=method.sigma_data),
}


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
    return _discretization(number_of_levels(step, config), config.method, device)


def number_of_levels(step: int, config: Config) -> int:
    """Return N(k) for the update after k = `step` others."""
    method = config.method
    return CURRICULA[method.curriculum](step, total_steps=config.train.steps, s0=method.s0, s1=method.s1)


def milestones(config: Config) -> frozenset[int]:
    """Return the steps whose checkpoints are never deleted.

    >>> from dataclasses import replace
    >>> from ict_ref.config import PRESETS
    >>> sorted(milestones(PRESETS["cifar10"]()))
    [50000, 100000, 150000, 200000, 250000, 300000, 350000, 400000]
    """
    every, steps = config.record.milestone_every, config.train.steps
    regular = range(every, steps + 1, every) if every else ()
    stages = stage_ends(config) if config.record.milestone_stages else ()
    return frozenset(regular) | frozenset(stages) | frozenset(snapshots(config))


def snapshots(config: Config) -> list[int]:
    """Return the steps whose checkpoints are needed for post-hoc EMA, the last of them K."""
    count, steps = config.record.ema_snapshots, config.train.steps
    return sorted({-(-k * steps // count) for k in range(1, count + 1)}) if config.train.ema_sigmas else []


def stage_ends(config: Config) -> list[int]:
    """Return the numbers of updates after which a stage of the curriculum ends, the last of them K.

    A stage ends where N(k) - 1 first reaches s0, 2 s0, 4 s0 and so on. The exponential curriculum has one N per stage.
    Stages of consistency tuning have equal numbers of updates.
    """
    steps, ends = config.train.steps, set[int]()
    if has_stages(config):
        every = config.tuning.steps_per_stage
        return [*range(every, steps, every), steps]
    intervals = config.method.s0
    while intervals <= config.method.s1:
        # N(k) does not fall, so the first step with enough levels is found by bisection.
        ends.add(bisect_left(range(steps), intervals + 1, key=lambda step: number_of_levels(step, config)))
        intervals *= 2
    return sorted((ends | {steps}) - {0})


# Cached because a copy to a device makes the host wait.
@lru_cache(maxsize=4)
def _discretization(n: int, method: Method, device: torch.device) -> Discretization:
    sigmas = sigma_grid(n, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho)
    pmf = PROBABILITIES[method.noise_schedule](sigmas, method)
    return Discretization(sigmas, pmf, WEIGHTS[method.weighting](sigmas, method)).to(device)


def teacher_decay(step: int, config: Config) -> float:
    """Return mu(k), the EMA decay of the teacher after k = `step` updates; 0 if the teacher is the student."""
    method = config.method
    if method.mu0 is None:
        return 0.0
    return teacher_ema_decay(len(discretization(step, config).sigmas), s0=method.s0, mu0=method.mu0)
