"""Right formulas in NumPy, float64, which leave checks of their arguments to the caller."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import erf

Array = Any
Function = Callable[[Array, Array], Array]


def column(sigma: Array, x: Array) -> Array:
    return np.reshape(sigma, (-1, *(1,) * (np.ndim(x) - 1)))


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Array:
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (low + np.arange(n) / (n - 1) * (high - low)) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max
    return sigmas


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    k_prime = math.floor(total_steps / (math.log2(s1 // s0) + 1))
    return int(min(s0 * 2 ** min(step // k_prime, 40), s1)) + 1


def lognormal_pmf(sigmas: Array, *, p_mean: float = -1.1, p_std: float = 2.0) -> Array:
    p = np.diff(erf((np.log(sigmas) - p_mean) / (math.sqrt(2) * p_std)))
    return p / p.sum()


def inverse_gap_weights(sigmas: Array) -> Array:
    return 1 / np.diff(sigmas)


def c_skip(sigma: Array, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Array:
    return sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)


def c_out(sigma: Array, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Array:
    return sigma_data * (sigma - sigma_min) / np.sqrt(sigma**2 + sigma_data**2)


def c_in(sigma: Array, *, sigma_data: float = 0.5) -> Array:
    return 1 / np.sqrt(sigma**2 + sigma_data**2)


def c_noise(sigma: Array) -> Array:
    return np.log(sigma) / 4


def boundary_parameterization(
    network: Function, x: Array, sigma: Array, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Array:
    scaled = column(c_in(sigma, sigma_data=sigma_data), x) * x
    skip, out = (c(sigma, sigma_min=sigma_min, sigma_data=sigma_data) for c in (c_skip, c_out))
    return column(skip, x) * x + column(out, x) * network(scaled, c_noise(sigma))


def pseudo_huber(x: Array, y: Array, *, c: float) -> Array:
    return np.sqrt(((x - y) ** 2).reshape(len(x), -1).sum(axis=1) + c**2) - c


def pseudo_huber_constant(dim: int) -> float:
    return 0.00054 * math.sqrt(dim)


def squared_l2(x: Array, y: Array) -> Array:
    return ((x - y) ** 2).reshape(len(x), -1).sum(axis=1)


def consistency_training_loss(
    student: Function, teacher: Function, x: Array, z: Array, index: Array, sigmas: Array, *,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    low, high = sigmas[index], sigmas[index + 1]
    x_lo, x_hi = (x + column(sigma, x) * z for sigma in (low, high))
    return weights[index] * distance(student(x_hi, high), teacher(x_lo, low))


def ema_update(ema: Array, value: Array, *, decay: float) -> Array:
    return decay * ema + (1 - decay) * value


def one_step_sample(f: Function, z: Array, *, sigma_max: float = 80.0) -> Array:
    return f(sigma_max * z, np.full(len(z), sigma_max))


def multistep_sample(f: Function, noises: Array, sigmas: Array, *, sigma_min: float = 0.002) -> Array:
    x = f(sigmas[0] * noises[0], np.full(len(noises[0]), sigmas[0]))
    for z, sigma in zip(noises[1:], sigmas[1:], strict=True):
        x = f(x + np.sqrt(sigma**2 - sigma_min**2) * z, np.full(len(z), sigma))
    return x
