"""An implementation of some of the formulas in NumPy, to be checked with `--arrays numpy`."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erfc

Array = np.ndarray[Any, np.dtype[np.float64]]


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Array:
    if n < 2 or not (0 < sigma_min < sigma_max < math.inf) or not 0 < rho < math.inf:
        raise ValueError("domain")
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (low + np.arange(n) / (n - 1) * (high - low)) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max
    return np.asarray(sigmas)


def lognormal_pmf(sigmas: Array, *, p_mean: float = -1.1, p_std: float = 2.0) -> Array:
    if len(sigmas) < 2 or not (np.isfinite(sigmas) & (sigmas > 0)).all() or not (np.diff(sigmas) > 0).all():
        raise ValueError("levels")
    if not (0 < p_std < math.inf and math.isfinite(p_mean)):
        raise ValueError("lognormal")
    t = (np.log(sigmas) - p_mean) / (math.sqrt(2) * p_std)
    low, high = t[:-1], t[1:]
    mass = np.where(low + high > 0, erfc(low) - erfc(high), erfc(-high) - erfc(-low))
    if not mass.sum() > 0:
        raise ValueError("no mass")
    return np.asarray(mass / mass.sum())


def pseudo_huber(x: Array, y: Array, *, c: float) -> Array:
    if x.shape != y.shape or not 0 < c < math.inf:
        raise ValueError("domain")
    squared = ((x - y) ** 2).reshape(len(x), -1).sum(axis=1)
    return np.asarray(squared / (np.sqrt(squared + c * c) + c))


def one_step_sample(f: Callable[[Array, Array], Array], z: Array, *, sigma_max: float = 80.0) -> Array:
    if not 0 < sigma_max < math.inf:
        raise ValueError("sigma_max")
    return f(sigma_max * z, np.full(len(z), sigma_max))
