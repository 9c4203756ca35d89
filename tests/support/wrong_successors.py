"""Wrong implementations of the formulas of iCT's successors, one per deviation."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ict_ref.formulas import log_student_t_level, trigflow_time_density


def column(t: Tensor, x: Tensor) -> Tensor:
    """One number per example, broadcastable to x."""
    return t.reshape(-1, *(1,) * (x.ndim - 1))


def mapping_above_zero(t: Tensor, *, exponent: int, q: float = 2.0, k: float = 8.0, b: float = 1.0) -> Tensor:
    gap = t * q**-exponent * (1 + k / (1 + torch.exp(b * t)))
    return (t - gap).clamp(min=1e-6)


def ceiled_exponent(step: int, *, steps_per_stage: int) -> int:
    return max(1, -(-step // steps_per_stage))


def epsilon_not_squared(x: Tensor, y: Tensor, *, c: float = 0.06, p: float = 0.5) -> Tensor:
    return ((x - y).reshape(len(x), -1).square().sum(1) + c).pow(-p)


def target_above_zero(
    student: Callable[..., Tensor], teacher: Callable[..., Tensor], x: Tensor, z: Tensor, t: Tensor, r: Tensor,
    *, distance: Callable[..., Tensor], weights: Tensor,
) -> Tensor:  # fmt: skip
    low = r.clamp(min=1e-6)
    target = teacher(x + column(low, x) * z, low).detach()
    return weights * distance(student(x + column(t, x) * z, t), target)


def rms_tangent(g: Tensor, *, c: float = 0.1) -> Tensor:
    return g / (column(g.reshape(len(g), -1).square().mean(1).sqrt(), g) + c)


def tangent(
    network: Callable[..., Tensor], x: Tensor, t: Tensor, v: Tensor, sigma_data: float, warmup: float,
    slow: Tensor | float = 1.0, fast: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return F and the tangent with `slow` times dF/dt and `fast` in place of cos(t)^2."""
    cos, sin = column(t.cos(), x), column(t.sin(), x)
    value = network(x / sigma_data, t)
    rate: Tensor = torch.func.jvp(network, (x / sigma_data, t), (v / sigma_data, torch.ones_like(t)))[1]
    first = (cos**2 if fast is None else fast) * (v - sigma_data * value)
    return value, first - warmup * cos * sin * (x + sigma_data * slow * rate)


def sigma_data_twice(
    network: Callable[..., Tensor], x: Tensor, t: Tensor, velocity: Tensor,
    *, sigma_data: float = 0.5, warmup: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return tangent(network, x, t, velocity, sigma_data, warmup, sigma_data)


def cos_sin_twice(
    network: Callable[..., Tensor], x: Tensor, t: Tensor, velocity: Tensor,
    *, sigma_data: float = 0.5, warmup: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return tangent(network, x, t, velocity, sigma_data, warmup, column(t.cos() * t.sin(), x))


def warmup_by_root(
    network: Callable[..., Tensor], x: Tensor, t: Tensor, velocity: Tensor,
    *, sigma_data: float = 0.5, warmup: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    fast = column(t.cos() * (1 - warmup**2 * t.sin() ** 2).sqrt(), x)
    return tangent(network, x, t, velocity, sigma_data, warmup, 1.0, fast)


def divided_twice(squared_norm: Tensor, log_weight: Tensor, *, dim: int) -> Tensor:
    return log_weight.exp() * squared_norm / dim**2 - log_weight


def second_prior_weight(
    network: Callable[..., Tensor], x: Tensor, t: Tensor, velocity: Tensor, log_weight: Tensor,
    *, c: float = 0.1, warmup: float = 1.0, sigma_data: float = 0.5,
) -> Tensor:  # fmt: skip
    g = tangent(network, x, t, velocity, sigma_data, warmup)[1].reshape(len(x), -1)
    norms = g.square().sum(1).sqrt()
    square = (norms / (norms + c)) ** 2 / (sigma_data * t.tan())
    return log_weight.exp() * square / g.shape[1] - log_weight


def strict_cut(
    f: Callable[..., Tensor], f0: Callable[..., Tensor], x: Tensor, sigma: Tensor, *, sigma_cut: float = 1.0
) -> Tensor:
    return torch.where(column(sigma, x) > sigma_cut, f(x, sigma), f0(x, sigma).detach())


def unscaled_log_level(
    u: Tensor, *, loc: float = 0.0, scale: float = 0.2, dof: float = 0.01, sigma_min: float = 1.0,
    sigma_max: float = 80.0,
) -> Tensor:  # fmt: skip
    del loc, scale
    return log_student_t_level(u, loc=0.0, scale=1.0, dof=dof, sigma_min=sigma_min, sigma_max=sigma_max)


def one_mean(boundary: Tensor, *, boundary_weight: float = 0.1) -> Tensor:
    return torch.where(boundary, torch.tensor(boundary_weight, dtype=torch.float64), 1.0)


WRONG: dict[str, Callable[..., Any]] = {
    "MappingAboveZero": mapping_above_zero,
    "CeiledExponent": ceiled_exponent,
    "EpsilonNotSquared": epsilon_not_squared,
    "TargetAboveZero": target_above_zero,
    "RmsTangent": rms_tangent,
    "SigmaDataTwice": sigma_data_twice,
    "CosSinTwice": cos_sin_twice,
    "WarmupByRoot": warmup_by_root,
    "DividedTwice": divided_twice,
    "SecondPriorWeight": second_prior_weight,
    "StrictCut": strict_cut,
    "UnscaledLogLevel": unscaled_log_level,
    "OneMean": one_mean,
}


def swapped_levels(*, t: Tensor, r: Tensor, student: Any, teacher: Any, x: Tensor, z: Tensor, **others: Any) -> Tensor:
    """Return the loss whose student is at r and whose teacher is at t."""
    low = torch.where(r > 0, r, t)
    d: Tensor = others["distance"](student(x + column(low, x) * z, low), teacher(x + column(t, x) * z, t).detach())
    loss: Tensor = others["weights"] * d
    return loss


def leaking_target(*, t: Tensor, r: Tensor, student: Any, teacher: Any, x: Tensor, z: Tensor, **others: Any) -> Tensor:
    """Return the loss with a gradient through its target."""
    d: Tensor = others["distance"](student(x + column(t, x) * z, t), teacher(x + column(r, x) * z, r))
    loss: Tensor = others["weights"] * d
    return loss


def network_of_x(*, network: Any, x: Tensor, t: Tensor, sigma_data: float = 0.5) -> Tensor:
    """Return TrigFlow's f with F(x, t), not F(x/sigma_data, t)."""
    value: Tensor = column(t.cos(), x) * x - column(t.sin(), x) * sigma_data * network(x, t)
    return value


def fixed_warmup(*, step: int, warmup_steps: int) -> float:
    """Return a warm-up of 10 000 updates, whatever is asked for."""
    return min(1.0, step / 10_000)


def fixed_data(*, t: Tensor, sigma_data: float, **law: float) -> Tensor:
    """Return the density of the time for sigma_data = 0.5."""
    return trigflow_time_density(t, **law)


# Implementations that a law is there to find, by the law's name.
SPECIAL: dict[str, list[Callable[..., object]]] = {
    "consistency_tuning_loss:compares_two_levels_of_one_path": [swapped_levels],
    "consistency_tuning_loss:sends_no_gradient_to_its_target": [leaking_target],
    "trigflow_parameterization:calls_its_network_with_the_angle": [network_of_x],
    "tangent_warmup:depends_on_the_ratio_of_updates": [fixed_warmup],
    "trigflow_time_density:moves_with_the_scale_of_the_data": [fixed_data],
}
