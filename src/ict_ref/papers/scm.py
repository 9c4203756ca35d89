"""The equations of sCM (arXiv:2410.11081, as published at ICLR 2025) in its notation.

t is TrigFlow's angle, r the warm-up, F the network, v = dx/dt, and z has the standard deviation sigma_data.
`properties/test_papers.py` tests the domain on which these forms and `ict_ref.formulas` agree.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor

ConsistencyFunction: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]
]
Network: TypeAlias = ConsistencyFunction


# Notation.


def _per_example(t: Float[Tensor, " batch"], x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch *ones"]:
    """Return t in a shape that multiplies the examples x."""
    return t.reshape(-1, *(1 for _ in x.shape[1:]))


def _norm(x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Return ||x||_2 of each example."""
    norm: Tensor = torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1)
    return norm


def _stopgrad(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return stopgrad(x)."""
    return x.detach()


def _derivative(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
) -> Float[Tensor, " batch *event"]:
    """Return dF/dt along dx/dt = velocity."""
    derivative: Tensor = torch.func.jvp(network, (x, t), (velocity, torch.ones_like(t)))[1]
    return derivative


# Section 3 and Appendix B: TrigFlow.


def trigflow_interpolant(
    x0: Float[Tensor, " batch *event"], z: Float[Tensor, " batch *event"], t: Float[Tensor, " batch"]
) -> Float[Tensor, " batch *event"]:
    """Section 3: x = cos(t) x0 + sin(t) z."""
    return torch.cos(_per_example(t, x0)) * x0 + torch.sin(_per_example(t, x0)) * z


def trigflow_velocity(
    x0: Float[Tensor, " batch *event"], z: Float[Tensor, " batch *event"], t: Float[Tensor, " batch"]
) -> Float[Tensor, " batch *event"]:
    """Eq. (4): v = cos(t) z - sin(t) x0."""
    return torch.cos(_per_example(t, x0)) * z - torch.sin(_per_example(t, x0)) * x0


def trigflow_parameterization(
    network: Network, x: Float[Tensor, " batch *event"], t: Float[Tensor, " batch"], *, sigma_data: float = 0.5
) -> Float[Tensor, " batch *event"]:
    """Eq. (5): f(x, t) = cos(t) x - sin(t) sigma_data F(x/sigma_data, t)."""
    cos, sin = torch.cos(_per_example(t, x)), torch.sin(_per_example(t, x))
    return cos * x - sin * sigma_data * network(x / sigma_data, t)


def trigflow_step(
    x: Float[Tensor, " batch *event"],
    velocity: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    t_low: Float[Tensor, " batch"],
) -> Float[Tensor, " batch *event"]:
    """Eq. (26): x' = cos(t - t') x - sin(t - t') v. Row S3."""
    gap = _per_example(t - t_low, x)
    return torch.cos(gap) * x - torch.sin(gap) * velocity


def trigflow_time(sigma: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """Eq. (29): t = atan(sigma/sigma_data)."""
    return torch.atan(sigma / sigma_data)


def trigflow_level(t: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """Eq. (30): sigma = sigma_data tan(t)."""
    return sigma_data * torch.tan(t)


def trigflow_sample(
    f: ConsistencyFunction, noises: Float[Tensor, " levels batch *event"], times: Float64[Tensor, " levels"]
) -> Float[Tensor, " batch *event"]:
    """CM's Algorithm 1: x = f(sin(t_1) z_1, t_1); x = f(cos(t_k) x + sin(t_k) z_k, t_k), k > 1."""
    x = f(torch.sin(times[0]) * noises[0], times[0].expand(len(noises[0])))
    for k in range(1, len(times)):
        x = f(torch.cos(times[k]) * x + torch.sin(times[k]) * noises[k], times[k].expand(len(x)))
    return x


# Section 4: the tangent, the loss and the law of the time.


def trigflow_tangent(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
    *,
    sigma_data: float = 0.5,
    warmup: float = 1.0,
) -> tuple[Float[Tensor, " batch *event"], Float[Tensor, " batch *event"]]:
    """Eq. (6): F and g = -cos(t)^2 (sigma_data F - v) - r cos(t) sin(t) (x + sigma_data dF/dt). Row S1."""
    value, cos, sin = network(x / sigma_data, t), torch.cos(_per_example(t, x)), torch.sin(_per_example(t, x))
    rate = _derivative(network, x / sigma_data, t, velocity / sigma_data)
    g = -(cos**2) * (sigma_data * value - velocity) - warmup * cos * sin * (x + sigma_data * rate)
    return value, _stopgrad(g)


def trigflow_difference(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    t_low: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
    *,
    sigma_data: float = 0.5,
    warmup: float = 1.0,
) -> Float[Tensor, " batch *event"]:
    """Eq. (37): -cos(t') (sigma_data F - v) - r sin(t') (x + sigma_data (cos(h) F - F')/sin(h)) with h = t - t'."""
    lower, h, low = trigflow_step(x, velocity, t, t_low), _per_example(t - t_low, x), _per_example(t_low, x)
    value, value_low = network(x / sigma_data, t), network(lower / sigma_data, t_low)
    change = x + sigma_data * (torch.cos(h) * value - value_low) / torch.sin(h)
    return _stopgrad(-torch.cos(low) * (sigma_data * value - velocity) - warmup * torch.sin(low) * change)


def tangent_warmup(step: int, *, warmup_steps: int = 10_000) -> float:
    """Algorithm 1: r = min(1, k/H)."""
    return min(1.0, step / warmup_steps)


def normalized_tangent(g: Float[Tensor, " batch *event"], *, c: float = 0.1) -> Float[Tensor, " batch *event"]:
    """Algorithm 1: g/(||g||_2 + c). Row S4: the norm is over the whole example."""
    return g / (_per_example(_norm(g), g) + c)


def adaptive_weighting(
    squared_norm: Float[Tensor, " batch"], log_weight: Float[Tensor, " batch"], *, dim: int
) -> Float[Tensor, " batch"]:
    """Eq. (8): exp(w) s/d - w."""
    return torch.exp(log_weight) * squared_norm / dim - log_weight


def scm_loss(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
    log_weight: Float[Tensor, " batch"],
    *,
    c: float = 0.1,
    warmup: float = 1.0,
    sigma_data: float = 0.5,
) -> Float[Tensor, " batch"]:
    """Eq. (8): exp(w)/d ||F_theta - F_theta- - g/(||g||_2 + c)||_2^2 - w."""
    value, g = trigflow_tangent(network, x, t, velocity, sigma_data=sigma_data, warmup=warmup)
    error = _norm(value - _stopgrad(value) - g / (_per_example(_norm(g), g) + c)) ** 2
    return torch.exp(log_weight) / (x.numel() // len(x)) * error - log_weight


def trigflow_time_density(
    t: Float[Tensor, "*shape"], *, p_mean: float = -1.0, p_std: float = 1.4, sigma_data: float = 0.5
) -> Float[Tensor, "*shape"]:
    """Appendix C.2: p(t) = exp(-(log(sigma_data tan(t)) - P_mean)^2/(2 P_std^2))/(sqrt(2 pi) P_std sin(t) cos(t)).

    Row S2.
    """
    z = (torch.log(sigma_data * torch.tan(t)) - p_mean) / p_std
    return torch.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * p_std * torch.sin(t) * torch.cos(t))
