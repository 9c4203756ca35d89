"""The experiment levels: error by the number of noise levels (iCT, Section 3.4, Fig. 3a)."""

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ict_ref.config import Method
from ict_ref.experiments.analytic_datasets import CENTRED
from ict_ref.experiments.runs import Table, Tick, answer, configuration, noisy, rms, trained
from ict_ref.formulas import sigma_grid

STD = CENTRED.stds[0]
# The paper's method with three changes: a constant N, which is the variable of the experiment; more examples at high
# noise levels, where the error is measured; and a larger c. Without the last two, randomness hides the effect of N.
METHOD = Method(curriculum="constant", p_mean=1.0, huber_c=0.3)


@dataclass(frozen=True)
class Levels:
    """Models for several numbers of noise levels on N(0, 0.5^2), and the minimiser of the loss for each number."""

    counts: tuple[int, ...] = (6, 11, 21, 41, 81)
    steps: int = 700
    batch_size: int = 256
    learning_rate: float = 1e-2
    ema_decay: float = 0.99

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""
        return len(self.counts) * self.steps

    def run(self, tick: Tick) -> list[Table]:
        """Return the errors at sigma_max, where one-step sampling starts, and the slopes of their logarithms."""
        high, low = METHOD.sigma_max, METHOD.sigma_min
        x, level = noisy(CENTRED, high)
        exact = CENTRED.exact(x, high, sigma_min=low)
        rows = []
        for n in self.counts:
            method = replace(METHOD, s0=min(METHOD.s0, n - 1), s1=n - 1)
            config = configuration(
                method, steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate,
                ema_decay=self.ema_decay,
            )  # fmt: skip
            learned = answer(trained(config, CENTRED, tick).ema, x, level)
            minimiser = minimising_slope(n, std=STD, sigma_min=low, sigma_max=high) * x
            rows.append((n, rms(learned - exact), rms(minimiser - exact), rms(learned - minimiser)))
        found = Table(
            f"levels: rms error of f(x, {high:g}) on N(0, {STD}^2), whose f* has spread {rms(exact):.2f},"
            f" after {self.steps} updates at a constant N",
            ("N", "trained", "minimiser at N", "trained - minimiser"),
            tuple(rows),
        )
        slopes = tuple((name, power(found.column("N"), found.column(name))) for name in found.columns[1:3])
        return [found, Table("levels: error ~ (N - 1)^slope", ("of", "slope"), slopes)]


def minimising_slope(n: int, *, std: float, sigma_min: float, sigma_max: float, rho: float = 7.0) -> float:
    """Return a_N for data N(0, std^2), where f(x, sigma_max) = a_N x minimises the loss at N noise levels.

    With the teacher a_i x, the student minimises E[d(f(x_{i+1}), a_i x_i) | x_{i+1}]. Given x_{i+1}, the teacher's
    value is normal with mean a_i (std^2 + sigma_i sigma_{i+1}) / (std^2 + sigma_{i+1}^2) x_{i+1}. This mean is the
    minimiser for every d(x, y) that increases with |x - y|, and a_1 = 1.
    """
    sigmas = sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho).tolist()
    shrunk = [(std**2 + low * high) / (std**2 + high**2) for low, high in pairwise(sigmas)]
    return float(math.prod(shrunk))


def power(counts: list[float], errors: list[float]) -> float:
    """Return the slope of the least-squares line through (log(N - 1), log(error))."""
    return float(np.polyfit(np.log(np.array(counts) - 1), np.log(errors), 1)[0])
