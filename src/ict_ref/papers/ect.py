"""The equations of ECT (arXiv:2406.14548) in its notation: levels t > r >= 0, x_t = x + t z, exponent a = stage + 1.

The text of the paper was not at hand. The numbers of equations are those that reviews and public code quote; what they
leave open is from the authors' public code, locuslab/ect 4311059. `properties/test_papers.py` tests the domain on which
these forms and `ict_ref.formulas` agree.
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
Distance: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch *event"]], Float[Tensor, " batch"]
]


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


def _phi(z: float) -> float:
    """Return Phi(z), the distribution function of a unit normal."""
    return math.erf(z / math.sqrt(2)) / 2 + 1 / 2


def _log(level: float) -> float:
    """Return log(level), and -infinity for 0."""
    return float(torch.log(torch.tensor(level, dtype=torch.float64)))


# The loss.


def consistency_tuning_loss(
    student: ConsistencyFunction,
    teacher: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    r: Float[Tensor, " batch"],
    *,
    distance: Distance,
    weights: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Eq. (12): w d(f_theta(x + t z, t), f_theta-(x + r z, r)).

    Row E3: where r = 0 the printed target is f(x, 0), which is x for every consistency function.
    """
    student_value = student(x + _per_example(t, x) * z, t)
    teacher_value = teacher(x + _per_example(r, x) * z, r)
    return weights * distance(student_value, _stopgrad(teacher_value))


# Section 3.3: the mapping and its stages.


def ect_mapping(
    t: Float[Tensor, "*shape"], *, exponent: int, q: float = 2.0, k: float = 8.0, b: float = 1.0
) -> Float[Tensor, "*shape"]:
    """Eqs. (17) and (18): r = max(0, t (1 - n/q^a)) with n = 1 + k/(1 + exp(b t))."""
    n = 1 + k / (1 + torch.exp(b * t))
    return torch.clamp(t * (1 - n / q**exponent), min=0)


def ect_exponent(step: int, *, steps_per_stage: int) -> int:
    """Public code: a = floor(k/d) + 1. Row E2."""
    return math.floor(step / steps_per_stage) + 1


# Weights and distance.


def gap_weights(t: Float[Tensor, "*shape"], r: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Public code: w = 1/(t - r)."""
    return 1 / (t - r)


def snr_weights(t: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """Public code: w = 1/t^2 + 1/sigma_data^2."""
    return 1 / t**2 + 1 / sigma_data**2


def l2(x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Public code: d(x, y) = ||x - y||_2."""
    return _norm(x - y)


def adaptive_weights(
    x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"], *, c: float = 0.06, p: float = 0.5
) -> Float[Tensor, " batch"]:
    """Eq. (19): w = 1/(||x - y||_2^2 + c^2)^p. Row E1: the printed epsilon is c^2."""
    return _stopgrad(1 / (_norm(x - y) ** 2 + c**2) ** p)


# The law of the level.


def lognormal_level(
    u: Float64[Tensor, " batch"],
    *,
    p_mean: float = -1.1,
    p_std: float = 2.0,
    sigma_min: float = 0.0,
    sigma_max: float = math.inf,
) -> Float64[Tensor, " batch"]:
    """Public code: m exp(P_std Q(A + u (B - A))), A, B = Phi(log(sigma/m)/P_std) of both ends, m = exp(P_mean)."""
    low, high = (_phi((_log(sigma) - p_mean) / p_std) for sigma in (sigma_min, sigma_max))
    return torch.exp(p_mean + p_std * torch.special.ndtri(low + u * (high - low)))
