"""Power-function averages of parameters, and the reconstruction of any width from stored ones (EDM2, Section 3).

EDM2 is Karras et al. 2024, arXiv:2312.02696. The average of exponent gamma after t updates weighs the parameters of
time tau by the profile p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), for 0 <= tau <= t. These functions are not part
of `ict_ref.formulas`, which holds the formulas of consistency models.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float64
from torch import Tensor

WIDEST = 12**-0.5
"""Relative width of gamma = 0, the mean of all parameters. Wider profiles would weigh old parameters most."""


class Profile(NamedTuple):
    """A power-function profile."""

    updates: float
    """Number of updates t at the end of the profile."""
    sigma_rel: float
    """Relative width: the standard deviation of the profile, as a fraction of t."""


class Reconstruction(NamedTuple):
    """The coefficients that combine stored averages to another one."""

    coefficients: Float64[Tensor, " stored"]
    """One coefficient for each stored profile; their sum is 1."""
    residual: float
    """Distance between the combined and the wanted profile, relative to the norm of the wanted one."""


def relative_width(gamma: float) -> float:
    """Return sigma_rel = sqrt(gamma + 1) / ((gamma + 2) sqrt(gamma + 3)).

    Source: EDM2, Section 3.1. It is the standard deviation of tau / t under the profile; gamma >= 0.

    >>> round(relative_width(6.94), 4)
    0.1

    Raises:
        ValueError: gamma is negative or not finite.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"gamma: expected a finite number >= 0 (EDM2, Section 3.1), got {gamma}")
    return math.sqrt((gamma + 1) / (gamma + 3)) / (gamma + 2)


def power_exponent(sigma_rel: float) -> float:
    """Return the exponent gamma whose relative width is `sigma_rel`: the largest root of a cubic.

    Source: EDM2, Section 3.1, solved for gamma. With s = sigma_rel^-2 and gamma = y - 7/3, the equation of
    `relative_width` is y^3 - (s + 1/3) y + (2/27 + 4 s/3) = 0, which has three real roots; Viete's formula has them.

    Raises:
        ValueError: not 0 < sigma_rel <= 12^-1/2.
    """
    if not 0 < sigma_rel <= WIDEST:
        raise ValueError(f"sigma_rel: expected 0 < sigma_rel <= 12^-1/2 = 0.2887 (EDM2, Section 3.1), got {sigma_rel}")
    s = sigma_rel**-2
    p, q = s + 1 / 3, 2 / 27 + 4 * s / 3
    # Rounding may carry the root below 0 at the widest profile.
    return max(0.0, 2 * math.sqrt(p / 3) * math.cos(math.acos(-1.5 * q / p * math.sqrt(3 / p)) / 3) - 7 / 3)


def power_decay(updates: int, gamma: float) -> float:
    """Return beta(t) = (1 - 1/t)^(gamma + 1), the decay of the average in update t = 1, 2, ...

    Source: EDM2, Section 3.1. With it the parameters after update s <= t have the weight (s^(gamma + 1) -
    (s - 1)^(gamma + 1)) / t^(gamma + 1), which is the integral of the profile from s - 1 to s. The average forgets its
    initial value in the first update.

    Raises:
        ValueError: `updates` is less than 1, or gamma is negative or not finite.
    """
    if updates < 1:
        raise ValueError(f"updates: expected the number of this update, an integer >= 1, got {updates}")
    relative_width(gamma)
    return float((1 - 1 / updates) ** (gamma + 1))


def profile_product(a: Profile, b: Profile) -> float:
    """Return the inner product of two profiles, the integral of p_a(tau) p_b(tau) over tau.

    Source: EDM2, Appendix C. With t_a <= t_b it is (gamma_a + 1)(gamma_b + 1) / (gamma_a + gamma_b + 1)
    (t_a / t_b)^gamma_b / t_b.

    Raises:
        ValueError: a width or a number of updates is out of range.
    """
    first, last = sorted((a, b))
    if first.updates <= 0:
        raise ValueError(f"updates: expected a number above 0, got {first.updates}")
    gamma_a, gamma_b = power_exponent(first.sigma_rel), power_exponent(last.sigma_rel)
    factor = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    return float(factor * (first.updates / last.updates) ** gamma_b / last.updates)


def reconstruction(stored: Sequence[Profile], wanted: Profile) -> Reconstruction:
    """Return the coefficients x that minimise ||sum_i x_i p_i - p||^2 under sum_i x_i = 1.

    Source: EDM2, Appendix C, which does not constrain the sum. With the constraint a parameter that never changes is
    reconstructed exactly.

    Raises:
        ValueError: nothing is stored, or a profile is out of range.
    """
    if not stored:
        raise ValueError("stored: expected one profile or more, got none")
    count = len(stored)
    equations = torch.ones(count + 1, count + 1, dtype=torch.float64)
    equations[count, count] = 0
    equations[:count, :count] = torch.tensor(
        [[profile_product(a, b) for b in stored] for a in stored], dtype=torch.float64
    )
    products = torch.tensor([profile_product(one, wanted) for one in stored], dtype=torch.float64)
    right = torch.cat([products, products.new_ones(1)])
    x = torch.linalg.lstsq(equations, right[:, None], driver="gelsd").solution[:count, 0]
    square = profile_product(wanted, wanted)
    distance = square - 2 * float(products @ x) + float(x @ equations[:count, :count] @ x)
    return Reconstruction(x, math.sqrt(max(0.0, distance) / square))
