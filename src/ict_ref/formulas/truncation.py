"""Truncated consistency models (TCM): a second stage that is trained from a cut on, its levels and its weights.

Levels below the cut keep the function f0 of the first stage, which is frozen. The loss is `consistency_tuning_loss`
with `truncated` as teacher. Examples at the cut itself form the boundary loss: their targets are f0's values.
"""

import functools
import math

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example
from ict_ref.formulas.consistency_tuning import between_0_and_1
from ict_ref.formulas.objective import ConsistencyFunction

MOST_PARTS, BISECTIONS = 4096, 60


def truncated(
    f: ConsistencyFunction,
    f0: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    sigma_cut: float = 1.0,
) -> Float[Tensor, " batch *event"]:
    """Return f(x, sigma) where sigma >= sigma_cut, and f0(x, sigma) without gradient below.

    Source: TCM, Eq. (5).

    Both functions are called with all examples. The cut belongs to f. Examples below it send no gradient to f. The
    result jumps at the cut until f is trained, and f itself has no boundary condition.

    Raises: ValueError if sigma is not one positive, finite value per example, or if sigma_cut is not positive.

    >>> f, f0 = (lambda x, sigma: 0 * x), (lambda x, sigma: x)
    >>> truncated(f, f0, torch.ones(3, 1), torch.tensor([0.5, 1.0, 2.0])).flatten()
    tensor([1., 0., 0.])
    """
    source = "TCM Eq. (5)"
    _domain.positive("sigma_cut", sigma_cut, source)
    _domain.one_per_example(source, x=x, sigma=sigma)
    _domain.levels(sigma, source)
    with torch.no_grad():
        frozen = f0(x, sigma)
    is_above = (per_example(sigma, x) >= sigma_cut).expand_as(x)
    return torch.where(is_above, f(x, sigma), frozen.detach())


def log_student_t_level(
    u: Float64[Tensor, " batch"],
    *,
    loc: float = 0.0,
    scale: float = 0.2,
    dof: float = 0.01,
    sigma_min: float = 1.0,
    sigma_max: float = 80.0,
) -> Float64[Tensor, " batch"]:
    """Return exp(loc + scale sqrt(nu) sinh(h)) with h such that I(h) = u I(h_max), I(h) = int_{h_min}^h cosh(s)^-nu ds.

    Source: TCM, public code.

    For u uniform on (0, 1), (log sigma - loc)/scale has Student's t distribution of nu = `dof` degrees of freedom, cut
    off outside the range and rescaled. h is asinh(x/sqrt(nu)) for the t variable x; h_min and h_max belong to the ends.
    For nu to infinity it is `lognormal_level`, for nu to 0 h is uniform.

    Raises: ValueError unless 0 < u < 1, 0 < sigma_min < sigma_max < infinity, scale > 0, dof > 0, and the range is not
    so far out in a narrow distribution that its integral needs more than 4096 parts.
    """
    source = "TCM public code"
    between_0_and_1(u, source)
    edges, below, shift = _parts(loc, scale, dof, sigma_min, sigma_max, source)
    target = u * below[-1]
    part = torch.searchsorted(below[1:-1], target)
    start, rest = edges[part], target - below[part]
    left, right = start, edges[part + 1]
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        is_low = _integral(start, middle, dof, shift) < rest
        left, right = torch.where(is_low, middle, left), torch.where(is_low, right, middle)
    return (loc + scale * math.sqrt(dof) * ((left + right) / 2).sinh()).exp()


def log_student_t_density(
    log_sigma: Float64[Tensor, "*shape"],
    *,
    loc: float = 0.0,
    scale: float = 0.2,
    dof: float = 0.01,
    sigma_min: float = 1.0,
    sigma_max: float = 80.0,
) -> Float64[Tensor, "*shape"]:
    """Return p(log sigma) = cosh(h)^-(nu + 1)/(I(h_max) scale sqrt(nu)), 0 out of range.

    Source: TCM, public code.

    h is asinh((log sigma - loc)/(scale sqrt(nu))), and I is that of `log_student_t_level`. It is a density of log
    sigma, not of sigma. With TCM's numbers the range has 2.9 % of the probability of the whole distribution.

    Raises: ValueError if log_sigma is not finite, and as `log_student_t_level`.
    """
    source = "TCM public code"
    _domain.finite("log_sigma", log_sigma, source)
    _, below, shift = _parts(loc, scale, dof, sigma_min, sigma_max, source)
    h = torch.asinh((log_sigma - loc) / (scale * math.sqrt(dof)))
    inside = (log_sigma >= math.log(sigma_min)) & (log_sigma <= math.log(sigma_max))
    density = _kernel(h, dof, shift) / h.cosh() / (below[-1] * scale * math.sqrt(dof))
    return torch.where(inside, density, 0)


def truncated_weights(boundary: Bool[Tensor, " batch"], *, boundary_weight: float = 0.1) -> Float64[Tensor, " batch"]:
    """Return B/N_C for the N_C examples inside, and w_b B/N_B for the N_B examples at the cut, B being their sum.

    Source: TCM, Eq. (6).

    Times these weights the mean of the losses of a batch is L_C + w_b L_B: each part is a mean over its own examples.
    `boundary` is true for examples whose level is the cut.

    Raises: ValueError unless both groups have an example and 0 <= boundary_weight < infinity.

    >>> truncated_weights(torch.tensor([True, False, False, False])).round(decimals=4)
    tensor([0.4000, 1.3333, 1.3333, 1.3333], dtype=torch.float64)
    """
    source = "TCM Eq. (6)"
    if not (math.isfinite(boundary_weight) and boundary_weight >= 0):
        _domain.refuse(
            f"0 <= boundary_weight < infinity ({source})", f"boundary_weight = {boundary_weight}", "TCM uses 0.1"
        )
    _domain.same_shape(source, boundary=boundary)
    at_cut = boundary.sum()
    if _domain.looks_at(boundary) and not 0 < int(at_cut) < len(boundary):
        _domain.refuse(
            f"boundary with true and false values ({source})",
            f"{int(at_cut)} true values of {len(boundary)}",
            "put a quarter of the batch at the cut",
        )
    count = torch.full_like(boundary, len(boundary), dtype=torch.float64)
    return torch.where(boundary, boundary_weight * (count / at_cut), count / (len(boundary) - at_cut))


def _parts(
    loc: float, scale: float, dof: float, sigma_min: float, sigma_max: float, source: str
) -> tuple[Float64[Tensor, " edges"], Float64[Tensor, " edges"], float]:
    """Return the edges of parts of [h_min, h_max], the integral up to each, and the factor's logarithm in it.

    Raises: ValueError unless the arguments are in the domain of `log_student_t_level`.
    """
    _domain.noise_range(sigma_min, sigma_max, source)
    _domain.finite("loc", loc, source)
    _domain.positive("scale", scale, source)
    _domain.positive("dof", dof, source)
    unit = scale * math.sqrt(dof)
    low, high = (
        math.asinh((math.log(level) - loc) / unit) if unit > 0 else math.inf for level in (sigma_min, sigma_max)
    )
    width, steepest = high - low, dof * math.tanh(max(abs(low), abs(high)))
    # In each part the logarithm of cosh^-nu changes by 8 at most.
    count = max(width, steepest * width / 8)
    if not 0 < count < MOST_PARTS:
        _domain.refuse(
            f"levels that the distribution reaches ({source})",
            f"loc = {loc}, scale = {scale}, dof = {dof} for sigma_min = {sigma_min}, sigma_max = {sigma_max}",
            "move loc towards the logarithm of the levels, or widen scale",
        )
    edges = torch.linspace(low, high, math.ceil(count) + 1, dtype=torch.float64)
    shift = dof * float(_log_cosh(edges).min())
    below = torch.cat([edges.new_zeros(1), _integral(edges[:-1], edges[1:], dof, shift).cumsum(0)])
    return edges, below, shift


def _integral(
    low: Float64[Tensor, " n"], high: Float64[Tensor, " n"], dof: float, shift: float
) -> Float64[Tensor, " n"]:
    """Return the integral of cosh(s)^-nu from low to high, times exp(shift), by Gauss-Legendre quadrature."""
    nodes, weights = _gauss_legendre()
    middle, half = (low + high) / 2, (high - low) / 2
    return half * (_kernel(middle[:, None] + half[:, None] * nodes, dof, shift) * weights).sum(1)


def _kernel(h: Float64[Tensor, "*shape"], dof: float, shift: float) -> Float64[Tensor, "*shape"]:
    """Return cosh(h)^-nu times exp(shift)."""
    return (shift - dof * _log_cosh(h)).exp()


def _log_cosh(h: Float64[Tensor, "*shape"]) -> Float64[Tensor, "*shape"]:
    """Return log(cosh(h)), which does not overflow."""
    return h.abs() + (torch.expm1(-2 * h.abs()) / 2).log1p()


@functools.cache
def _gauss_legendre() -> tuple[Float64[Tensor, " nodes"], Float64[Tensor, " nodes"]]:
    """Return 16 nodes in [-1, 1] and their weights: eigenvalues and first components (Golub and Welsch 1969)."""
    k = torch.arange(1, 16, dtype=torch.float64)
    nodes, vectors = torch.linalg.eigh(torch.diag(k / (4 * k**2 - 1).sqrt(), -1))
    return nodes, 2 * vectors[0] ** 2
