"""The equations of TCM (arXiv:2410.14895) in its notation: t' is the cut, f0 the frozen function of the first stage.

The text of the paper was not at hand. The numbers of equations are those that reviews quote; the law of the level is
that of the authors' public code, NVlabs/TCM b132239. `properties/test_papers.py` tests the domain on which these forms
and `ict_ref.formulas` agree.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Float64
from numpy.polynomial.legendre import leggauss
from torch import Tensor

ConsistencyFunction: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]
]


# Notation.


def _per_example(t: Float[Tensor, " batch"], x: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch *ones"]:
    """Return t in a shape that multiplies the examples x."""
    return t.reshape(-1, *(1 for _ in x.shape[1:]))


def _stopgrad(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return stopgrad(x)."""
    return x.detach()


def _student_t(x: Float64[Tensor, "*shape"], dof: float) -> Float64[Tensor, "*shape"]:
    """Return the density of Student's t distribution."""
    constant = math.exp(math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2)) / math.sqrt(dof * math.pi)
    return constant * (1 + x**2 / dof) ** (-(dof + 1) / 2)


def _probability(low: float, high: float, dof: float) -> float:
    """Return the probability of Student's t from low to high, by Gauss-Legendre quadrature in asinh(x/sqrt(nu))."""
    node, weight = map(torch.tensor, leggauss(200))
    start, end = math.asinh(low / math.sqrt(dof)), math.asinh(high / math.sqrt(dof))
    h = start + (end - start) * (node + 1) / 2
    inner = _student_t(math.sqrt(dof) * torch.sinh(h), dof) * math.sqrt(dof) * torch.cosh(h)
    return float((end - start) / 2 * (weight * inner).sum())


# The function of two stages, and the weights of its two losses.


def truncated(
    f: ConsistencyFunction,
    f0: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    sigma_cut: float = 1.0,
) -> Float[Tensor, " batch *event"]:
    """Eq. (5): f(x, sigma) 1{sigma >= t'} + stopgrad(f0(x, sigma)) 1{sigma < t'}."""
    above = _per_example(sigma, x) >= sigma_cut
    return f(x, sigma) * above + _stopgrad(f0(x, sigma)) * ~above


def truncated_weights(boundary: Bool[Tensor, " batch"], *, boundary_weight: float = 0.1) -> Float64[Tensor, " batch"]:
    """Eq. (6): mean_C + w_b mean_B, as weights of the mean over the batch."""
    inner, outer = (~boundary).double(), boundary.double()
    return len(boundary) * (inner / inner.sum() + boundary_weight * outer / outer.sum())


# The law of the level.


def log_student_t_density(
    log_sigma: Float64[Tensor, "*shape"],
    *,
    loc: float = 0.0,
    scale: float = 0.2,
    dof: float = 0.01,
    sigma_min: float = 1.0,
    sigma_max: float = 80.0,
) -> Float64[Tensor, "*shape"]:
    """Public code: p(log sigma) = p_t((log sigma - loc)/scale)/(scale P), P the probability of the range."""
    low, high = ((math.log(sigma) - loc) / scale for sigma in (sigma_min, sigma_max))
    return _student_t((log_sigma - loc) / scale, dof) / (scale * _probability(low, high, dof))
