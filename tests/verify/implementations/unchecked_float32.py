"""Right formulas in torch, computed in float32 whatever they get, which leave checks to the caller."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor, Tensor], Tensor]


def column(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.view(-1, *[1] * (x.ndim - 1))


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    steps = torch.arange(n) / (n - 1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas: Tensor = (low + steps * (high - low)) ** rho
    return sigmas


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    k_prime = math.floor(total_steps / (math.log2(s1 // s0) + 1))
    return int(min(s0 * 2 ** (step // k_prime), s1)) + 1


def lognormal_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Tensor:
    edges = torch.erf((sigmas.float().log() - p_mean) / (math.sqrt(2) * p_std))
    p = edges[1:] - edges[:-1]
    return p / p.sum()


def inverse_gap_weights(sigmas: Tensor) -> Tensor:
    sigmas = sigmas.float()
    return 1 / (sigmas[1:] - sigmas[:-1])


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    return sigma_data**2 / ((sigma.float() - sigma_min) ** 2 + sigma_data**2)


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    sigma = sigma.float()
    return sigma_data * (sigma - sigma_min) / (sigma**2 + sigma_data**2).sqrt()


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Tensor:
    return 1 / (sigma.float() ** 2 + sigma_data**2).sqrt()


def c_noise(sigma: Tensor) -> Tensor:
    return sigma.float().log() / 4


def boundary_parameterization(
    network: Function, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Tensor:
    x = x.float()
    scaled = column(c_in(sigma, sigma_data=sigma_data), x) * x
    skip, out = (c(sigma, sigma_min=sigma_min, sigma_data=sigma_data) for c in (c_skip, c_out))
    return column(skip, x) * x + column(out, x) * network(scaled, c_noise(sigma))


def pseudo_huber(x: Tensor, y: Tensor, *, c: float) -> Tensor:
    return ((x.float() - y.float()).reshape(len(x), -1).square().sum(1) + c**2).sqrt() - c


def consistency_training_loss(
    student: Function, teacher: Function, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor, *,
    distance: Function, weights: Tensor,
) -> Tensor:  # fmt: skip
    x, z, sigmas = x.float(), z.float(), sigmas.float()
    low, high = sigmas[index], sigmas[index + 1]
    value = student(x + column(high, x) * z, high)
    with torch.no_grad():
        target = teacher(x + column(low, x) * z, low)
    return weights[index].float() * distance(value, target)


def ema_update(ema: Tensor, value: Tensor, *, decay: float) -> Tensor:
    return decay * ema.detach().float() + (1 - decay) * value.detach().float()


def multistep_sample(f: Function, noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002) -> Tensor:
    noises, sigmas = noises.float(), sigmas.float()
    x = f(sigmas[0] * noises[0], sigmas[0].expand(len(noises[0])))
    for z, sigma in zip(noises[1:], sigmas[1:], strict=True):
        x = f(x + (sigma**2 - sigma_min**2).clamp(min=0).sqrt() * z, sigma.expand(len(z)))
    return x
