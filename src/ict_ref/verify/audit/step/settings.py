"""Settings of the audit of a training step: those of the method, and the size of the batch."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from ict_ref import formulas

IMAGES = 2_654_435_769
"""Difference between the seed of the images and the number of a step.

Equal seeds would make noise and images depend on each other, in a step that seeds a generator by its number too. The
CPU's generator uses the last 32 bits of a seed.
"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a right step does, and on which data it is observed; by default that of iCT."""

    method: Literal["ict", "ct", "gridless"] = "ict"
    shape: tuple[int, ...] = (3, 4, 4)
    """Shape of one example."""
    batch: int = 64
    sigma_data: float = 0.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    s0: int | None = None
    s1: int | None = None
    p_mean: float = -1.1
    p_std: float = 2.0
    total_steps: int = 8007
    """K. With 8 007, K' is 1 000; rounded to the nearest integer or up it would be 1 001."""
    device: str = "cpu"
    seed: int = 0
    draws: tuple[int, int, int] = (320, 120, 160)
    """Numbers of steps whose intervals and noise are counted: in the first stage, in a middle one and in the last."""

    @property
    def ends(self) -> tuple[int, int]:
        """Return s0 and s1; by default those of Table 1."""
        s0, s1 = (2, 150) if self.method == "ct" else (10, 1280)
        return self.s0 or s0, self.s1 or s1

    @property
    def dim(self) -> int:
        """Return the number of values of an example."""
        return math.prod(self.shape)

    @property
    def constant(self) -> float:
        """Return c of the pseudo-Huber distance."""
        return formulas.pseudo_huber_constant(self.dim)

    @property
    def most_levels(self) -> int:
        """Return the largest number of levels that is searched for."""
        return max(1290, self.ends[1] + 10)

    def number_of_levels(self, step: int) -> int:
        """Return N(k) of the method."""
        s0, s1 = self.ends
        curriculum = formulas.sqrt_curriculum if self.method == "ct" else formulas.exponential_curriculum
        return curriculum(step, total_steps=self.total_steps, s0=s0, s1=s1)

    def grid(self, n: int) -> Tensor:
        """Return the n noise levels."""
        return _grid(n, self)

    def pmf(self, n: int) -> Tensor:
        """Return the probabilities of the n - 1 intervals."""
        return _pmf(n, self)

    def images(self, seed: int) -> Tensor:
        """Return the images of a step: uniform in [-1, 1], in float32 on the CPU."""
        generator = torch.Generator().manual_seed(IMAGES + seed)
        return torch.rand((self.batch, *self.shape), generator=generator) * 2 - 1


@lru_cache(256)
def _grid(n: int, settings: Settings) -> Tensor:
    return formulas.sigma_grid(n, sigma_min=settings.sigma_min, sigma_max=settings.sigma_max, rho=settings.rho)


@lru_cache(256)
def _pmf(n: int, settings: Settings) -> Tensor:
    if settings.method == "ct":
        return formulas.uniform_pmf(settings.grid(n))
    return formulas.lognormal_pmf(settings.grid(n), p_mean=settings.p_mean, p_std=settings.p_std)
