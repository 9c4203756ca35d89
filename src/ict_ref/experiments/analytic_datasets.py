"""Data sets with a known consistency function: a point, a normal distribution and a mixture of normals."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ict_ref.formulas import gaussian_consistency_function, gaussian_mixture_score, heun_step, sigma_grid
from ict_ref.utils.rng import stream

# Number of levels from sigma_max to sigma_min for solving Eq. (1); the error for TWO_MODES is below 0.0003.
HEUN_LEVELS = 501


@dataclass(frozen=True)
class Mixture:
    """The mixture of N(means[m], stds[m]^2 I) with weights[m], as images of one pixel with one value per channel."""

    means: tuple[tuple[float, ...], ...]
    stds: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def event(self) -> tuple[int, ...]:
        """Return the shape of an example."""
        return (len(self.means[0]), 1, 1)

    @property
    def classes(self) -> int:
        """Return 0, because the examples do not have classes."""
        return 0

    def draw(self, generator: np.random.Generator, count: int) -> Float[Tensor, " count *event"]:
        """Return `count` independent examples in float64."""
        component = generator.choice(len(self.stds), size=count, p=self.weights)
        z = generator.standard_normal((count, *self.event))
        means = np.array(self.means).reshape(-1, *self.event)[component]
        return torch.from_numpy(means + np.array(self.stds)[component].reshape(-1, 1, 1, 1) * z)

    def batch(
        self, step: int, *, batch_size: int, seed: int, rows: slice
    ) -> tuple[Float[Tensor, " rows *event"], Int64[Tensor, " rows"]]:
        """Return these rows of the batch of this step; every step draws new examples."""
        x = self.draw(stream(seed, "data", step), batch_size)[rows]
        return x, torch.zeros(len(x), dtype=torch.int64)

    def score(
        self, x: Float[Tensor, " batch *event"], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch *event"]:
        """Return grad_x log p_sigma(x)."""
        means = x.new_tensor(self.means).reshape(-1, *self.event)
        return gaussian_mixture_score(
            x, sigma, means=means, stds=x.new_tensor(self.stds), mixture_weights=x.new_tensor(self.weights)
        )

    def posterior_mean(
        self, x: Float[Tensor, " batch *event"], sigma: Float[Tensor, " batch"]
    ) -> Float[Tensor, " batch *event"]:
        """Return the ideal denoiser E[x_0 | x_0 + sigma z = x] = x + sigma^2 score(x, sigma)."""
        return x + sigma.square().reshape(-1, 1, 1, 1) * self.score(x, sigma)

    def exact(
        self, x: Float[Tensor, " batch *event"], sigma: float, *, sigma_min: float
    ) -> Float[Tensor, " batch *event"]:
        """Return f*(x, sigma), the end at sigma_min of the trajectory of Eq. (1) through x."""
        if len(self.stds) == 1:
            # With std 0 this equals `delta_consistency_function`.
            mean, level = x.new_tensor(self.means[0]).reshape(self.event), x.new_full((len(x),), sigma)
            return gaussian_consistency_function(x, level, mean=mean, std=self.stds[0], sigma_min=sigma_min)
        if sigma == sigma_min:
            return x
        levels = sigma_grid(HEUN_LEVELS, sigma_min=sigma_min, sigma_max=sigma).flip(0).to(x)
        for high, low in pairwise(levels):
            x = heun_step(x, high.expand(len(x)), low.expand(len(x)), self.score)
        return x


POINT = Mixture(means=((0.5, -0.5),), stds=(0.0,), weights=(1.0,))
NORMAL = Mixture(means=((0.4, -0.3),), stds=(0.3,), weights=(1.0,))
TWO_MODES = Mixture(means=((-0.5,), (0.5,)), stds=(0.1, 0.1), weights=(0.5, 0.5))
CENTRED = Mixture(means=((0.0,),), stds=(0.5,), weights=(1.0,))
