"""An implementation with the names of version 1 of the vectors, in which every function has a known mistake."""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def ema_update(average: Tensor, value: Tensor, *, decay: float) -> Tensor:
    return decay * value + (1 - decay) * average


def ct_gradient_limit(
    theta: float, theta_minus: float, xi: float, *, sigma_min: float = 0.002, sigma_max: float = 80.0
) -> float:
    return (1 - sigma_min / sigma_max) / sigma_max * (theta - xi)  # also where theta- != theta


def ct_gradient_leading_term(
    theta: float, theta_minus: float, xi: float, *, delta_sigma: float, sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> float:  # fmt: skip
    a, b = sigma_min, sigma_max
    share = 1 - a * math.log(b / a) / (b - a)
    if theta != theta_minus:
        return (theta - theta_minus) * share
    return 2 / b * delta_sigma * (theta - xi) * share


def positional_embedding(c: Tensor, dim: int, *, max_period: float = 10000.0) -> Tensor:
    half = dim // 2
    angles = c[:, None] * max_period ** (-torch.arange(half, dtype=c.dtype) / half)
    return torch.cat((angles.sin(), angles.cos()), 1)


def one_step_sample(f: Callable[[Tensor, Tensor], Tensor], noise: Tensor, *, sigma_max: float = 80.0) -> Tensor:
    noise += 0 * sigma_max
    noise *= sigma_max
    return f(noise, torch.full((len(noise),), sigma_max, dtype=noise.dtype))
