"""The noise levels, the probability of each interval between them, and its weight.

Arrays ascend: `sigmas[0]` is sigma_min, `sigmas[-1]` is sigma_max. Intervals are counted from 0, where the paper has i
= 1, ..., N - 1. Interval `index` lies between `sigmas[index]` and `sigmas[index + 1]`; `pmf[index]` and
`weights[index]` belong to it. Everything is float64: neighbouring levels of a fine grid are equal in half precision.
"""

import math

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from ict_ref.formulas import _domain


def sigma_grid(
    n: int,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> Float64[Tensor, " {n}"]:
    """Return sigma_i = (sigma_min^(1/rho) + (i-1)/(N-1) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho, i = 1, ..., N.

    Source: iCT, Section 2 and Table 1.

    Both ends are exactly the given numbers, not powers of their rounded roots. At a level below sigma_min the sampler
    would take the root of a negative number.

    Raises: ValueError unless n >= 2, 0 < sigma_min < sigma_max, rho > 0, and the n levels are distinct in float64.

    >>> sigma_grid(4, sigma_min=1.0, sigma_max=4.0, rho=1.0)
    tensor([1., 2., 3., 4.], dtype=torch.float64)
    """
    if n < 2 or n % 1:
        _domain.refuse(
            "a whole n >= 2, the number of levels (iCT Section 2)",
            f"n = {n}",
            "give 2 levels or more: sigma_min and sigma_max",
        )
    low, high = _roots(sigma_min, sigma_max, rho)
    fraction = torch.arange(n, dtype=torch.float64) / (n - 1)
    sigmas = (low + fraction * (high - low)) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max
    _domain.ascending(sigmas, "iCT Section 2: n levels must be distinct in float64")
    return sigmas


def uniform_pmf(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Return p(i) = 1 / (N - 1), the same for every interval.

    Source: iCT, Table 1, left column: i ~ U[1, N(k) - 1].

    It is uniform in the index, not in sigma or log sigma: most intervals of the paper's grid lie at high noise levels.

    Raises: ValueError if `sigmas` is not an ascending grid.
    """
    _domain.ascending(sigmas, "iCT Table 1")
    return torch.ones_like(sigmas[1:]) / (len(sigmas) - 1)


def lognormal_pmf(
    sigmas: Float64[Tensor, " n"],
    *,
    p_mean: float = -1.1,
    p_std: float = 2.0,
) -> Float64[Tensor, " n-1"]:
    """Return p(i) ~ erf((log sigma_{i+1} - P_mean) / (sqrt2 P_std)) - erf((log sigma_i - P_mean) / (sqrt2 P_std)).

    Source: iCT, Section 3.5, Eq. (10).

    This is the normal distribution of log sigma, cut off outside the grid and summed over each interval; it sums to 1.
    The paper prints p over N levels, but sigma_{N+1} does not exist: p is over the N - 1 intervals. `sigmas` ascends;
    on a descending grid p would be mirrored.

    Raises: ValueError unless `sigmas` ascends, p_std > 0, and the grid carries probability.

    >>> lognormal_pmf(sigma_grid(5)).round(decimals=2)
    tensor([0.3700, 0.4800, 0.1300, 0.0200], dtype=torch.float64)
    """
    _domain.ascending(sigmas, "iCT Eq. (10)")
    _check_lognormal(p_mean, p_std)
    z = (sigmas.log() - p_mean) / (math.sqrt(2) * p_std)
    low, high = z[:-1], z[1:]
    # erf(high) - erf(low), written with the tail that is small on this side of the mean. Near +-1 the difference of two
    # erf loses its digits. erf(t) = 1 - erfc(t) = erfc(-t) - 1.
    mass = torch.where(
        low + high > 0,
        torch.special.erfc(low) - torch.special.erfc(high),
        torch.special.erfc(-high) - torch.special.erfc(-low),
    )
    total = mass.sum()
    if _domain.looks_at(total) and not bool(total > 0):
        _domain.refuse(
            "sigmas where the lognormal density is not zero (iCT Eq. (10))",
            f"p_mean = {p_mean}, p_std = {p_std} for levels from {float(sigmas[0])} to {float(sigmas[-1])}",
            "move p_mean towards the logarithm of the levels, or widen p_std",
        )
    return mass / total


def index_from_uniform(
    u: Float64[Tensor, " batch"],
    pmf: Float64[Tensor, " intervals"],
) -> Int64[Tensor, " batch"]:
    """Return the interval j with pmf[0] + ... + pmf[j-1] <= u < pmf[0] + ... + pmf[j], for u uniform on [0, 1).

    Source: iCT, Section 3.5 and Table 1: "i ~ p(i)", by the inverse of its distribution function.

    The index is 0-based, the paper's i - 1. It is never that of an interval of probability 0.

    Raises: ValueError if `pmf` is not a probability distribution, or unless 0 <= u < 1.

    >>> index_from_uniform(torch.tensor([0.1, 0.6]).double(), torch.tensor([0.5, 0.0, 0.5]).double())
    tensor([0, 2])
    """
    _domain.probabilities("pmf", pmf, "iCT Eq. (10)")
    if _domain.looks_at(u) and not bool(((u >= 0) & (u < 1)).all()):
        worst = u[~((u >= 0) & (u < 1))][0]
        _domain.refuse("0 <= u < 1 (iCT Eq. (10))", f"u = {float(worst)}", "draw u uniformly from [0, 1)")
    cdf = pmf.cumsum(0)
    # Divided by its last value the sum ends at exactly 1, above every u, in spite of rounding.
    return torch.searchsorted(cdf / cdf[-1], u, right=True)


def log_sigma_density(
    log_sigma: Float64[Tensor, "*shape"],
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
    rho: float = 7.0,
) -> Float64[Tensor, "*shape"]:
    """Return p(log sigma) = sigma sigma^(1/rho - 1) / (rho (sigma_max^(1/rho) - sigma_min^(1/rho))), 0 out of range.

    Source: iCT, Section 3.5, Figure 4a.

    It is the distribution of log sigma for N to infinity where `uniform_pmf` draws the interval. It is a density of log
    sigma, not of sigma: the first factor is the Jacobian.

    Raises: ValueError if log_sigma is not finite, or unless 0 < sigma_min < sigma_max and rho > 0.
    """
    _domain.finite("log_sigma", log_sigma, "iCT Section 3.5")
    sigma = log_sigma.exp()
    low, high = _roots(sigma_min, sigma_max, rho)
    if not rho * (high - low) > 0:
        _domain.refuse(
            "rho such that sigma_min^(1/rho) < sigma_max^(1/rho) in float64 (iCT Section 2)",
            f"rho = {rho}",
            "the paper uses 7",
        )
    inside = (log_sigma >= math.log(sigma_min)) & (log_sigma <= math.log(sigma_max))
    return torch.where(inside, sigma * sigma ** (1 / rho - 1) / (rho * (high - low)), 0)


def lognormal_density(
    log_sigma: Float64[Tensor, "*shape"],
    *,
    p_mean: float = -1.1,
    p_std: float = 2.0,
) -> Float64[Tensor, "*shape"]:
    """Return p(log sigma) = exp(-(log sigma - P_mean)^2 / (2 P_std^2)) / (sqrt(2 pi) P_std).

    Source: iCT, Section 3.5, Figure 4a.

    It is the distribution of log sigma for N to infinity where `lognormal_pmf` draws the interval. The cut at the
    grid's ends, which this density does not have, removes 0.83 % for the paper's numbers.

    Raises: ValueError if log_sigma or p_mean is not finite, or unless p_std > 0.
    """
    _check_lognormal(p_mean, p_std)
    _domain.finite("log_sigma", log_sigma, "iCT Section 3.5")
    z = (log_sigma - p_mean) / p_std
    return torch.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * p_std)


def uniform_weights(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Return lambda(sigma_i) = 1, one weight per interval.

    Source: iCT, Section 3.1 and Table 1, left column.

    Raises: ValueError if `sigmas` is not an ascending grid.
    """
    _domain.ascending(sigmas, "iCT Section 3.1")
    return torch.ones_like(sigmas[1:])


def inverse_gap_weights(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Return lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i), one weight per interval.

    Source: iCT, Section 3.1 and Table 1.

    Raises: ValueError if `sigmas` is not an ascending grid.

    >>> inverse_gap_weights(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))
    tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    _domain.ascending(sigmas, "iCT Section 3.1")
    return 1 / (sigmas[1:] - sigmas[:-1])


def _check_lognormal(p_mean: float, p_std: float) -> None:
    _domain.positive("p_std", p_std, "iCT Eq. (10)")
    _domain.finite("p_mean", p_mean, "iCT Eq. (10)")


def _roots(sigma_min: float, sigma_max: float, rho: float) -> tuple[float, float]:
    """Return sigma_min^(1/rho) and sigma_max^(1/rho)."""
    _domain.noise_range(sigma_min, sigma_max, "iCT Section 2")
    _domain.positive("rho", rho, "iCT Section 2")
    try:
        roots = math.pow(sigma_min, 1 / rho), math.pow(sigma_max, 1 / rho)
    except OverflowError:
        roots = 0.0, math.inf
    if math.isinf(roots[1]):  # also where 1 / rho is infinite
        _domain.refuse("rho such that sigma_max^(1/rho) is finite (iCT Section 2)", f"rho = {rho}", "the paper uses 7")
    return roots
