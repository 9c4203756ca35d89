"""Formulas with the deviations of the most copied public library: written for this test, from its known deviations.

The levels are float32 and their number is a float; the network gets x and sigma unscaled; the Huber distance is taken
of each value; the error function of p(i) is float32.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def column(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.view(-1, *[1] * (x.ndim - 1))


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> float:
    k_prime = math.floor(total_steps / (math.log2(math.floor(s1 / s0)) + 1))
    return min(s0 * math.pow(2, math.floor(step / k_prime)), s1) + 1


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas: Tensor = (low + torch.arange(n) / (n - 1) * (high - low)) ** rho
    return sigmas


def lognormal_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    p = torch.erf((sigmas.float().log() - p_mean) / (math.sqrt(2) * p_std)).diff()
    return p / p.sum()


def inverse_gap_weights(sigmas: Tensor) -> Tensor:
    return 1 / (sigmas[1:] - sigmas[:-1])


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    return sigma_data**2 / ((sigma - sigma_min) ** 2 + sigma_data**2)


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    return sigma_data * (sigma - sigma_min) / (sigma**2 + sigma_data**2) ** 0.5


def boundary_parameterization(
    network: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    sigma: Tensor,
    *,
    sigma_min: float = 0.002,
    sigma_data: float = 0.5,
) -> Tensor:
    skip, out = (c(sigma, sigma_min=sigma_min, sigma_data=sigma_data) for c in (c_skip, c_out))
    return column(skip, x) * x + column(out, x) * network(x, sigma)


def pseudo_huber(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    return (((x - y) ** 2 + c**2).sqrt() - c).flatten(1).mean(1)


def multistep_sample(
    f: Callable[[Tensor, Tensor], Tensor], noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002
) -> Tensor:
    x = f(sigmas[0] * noises[0], sigmas[0].expand(noises.shape[1]))
    for z, sigma in zip(noises[1:], sigmas[1:], strict=True):
        x = f(x + (sigma**2 - sigma_min**2) ** 0.5 * z, sigma.expand(len(z)))
    return x
