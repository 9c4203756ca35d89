"""The noise levels, how often each is drawn and how much it weighs.

Arrays ascend: `sigmas[0]` is sigma_min, `sigmas[-1]` is sigma_max. The paper's index i = 1, ..., N - 1 is here the
0-based cell i - 1, which lies between `sigmas[cell]` and `sigmas[cell + 1]`; `pmf[cell]` and `weights[cell]` belong
to it. Everything is float64: neighbouring levels of a fine grid are equal in half precision.
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

    Both ends are the given numbers exactly, not their rounded roots' powers: at a level below sigma_min the sampler
    would take the root of a negative number. Needs n >= 2, 0 < sigma_min < sigma_max and rho > 0.
    """
    if n < 2 or n % 1:
        _domain.refuse(
            "a whole n >= 2, the number of levels (iCT Section 2)",
            f"n = {n}",
            "a grid has at least sigma_min and sigma_max",
        )
    low, high = _roots(sigma_min, sigma_max, rho)
    fraction = torch.arange(n, dtype=torch.float64) / (n - 1)
    sigmas = (low + fraction * (high - low)) ** rho
    sigmas[0], sigmas[-1] = sigma_min, sigma_max
    _domain.ascending(sigmas, "iCT Section 2: n levels must be distinct in float64")
    return sigmas


def uniform_pmf(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Return p(i) = 1 / (N - 1), the same for every cell.

    Source: iCT, Table 1, left column: i ~ U[1, N(k) - 1].

    Uniform in the index, not in sigma or log sigma: for the paper's grid most cells lie at high noise levels.
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

    The normal distribution of log sigma, cut off outside the grid and gathered in its cells; it sums to 1. The paper
    prints p over N levels, but sigma_{N+1} does not exist: it is over the N - 1 cells. `sigmas` ascends; on a grid
    that descends p would be mirrored. Needs p_std > 0 and a grid that carries probability.
    """
    _domain.ascending(sigmas, "iCT Eq. (10)")
    _check_lognormal(p_mean, p_std)
    z = (sigmas.log() - p_mean) / (math.sqrt(2) * p_std)
    low, high = z[:-1], z[1:]
    # erf(high) - erf(low), written with the tail that is small on this side of the mean: near +-1 the difference of
    # two erf has lost its digits. erf(t) = 1 - erfc(t) = erfc(-t) - 1.
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
    pmf: Float64[Tensor, " cells"],
) -> Int64[Tensor, " batch"]:
    """Return the cell j with pmf[0] + ... + pmf[j-1] <= u < pmf[0] + ... + pmf[j], for u uniform on [0, 1).

    Source: iCT, Section 3.5 and Table 1: "i ~ p(i)", by the inverse of its distribution function.

    The cell is 0-based, the paper's i - 1. A cell of probability 0 is never returned.
    """
    _domain.probabilities("pmf", pmf, "iCT Eq. (10)")
    if _domain.looks_at(u) and not bool(((u >= 0) & (u < 1)).all()):
        worst = u[~((u >= 0) & (u < 1))][0]
        _domain.refuse("0 <= u < 1 (iCT Eq. (10))", f"u = {float(worst)}", "draw u uniformly from [0, 1)")
    cdf = pmf.cumsum(0)
    # Divided by its own last value the sum ends at 1 exactly, above every u, whatever rounding did before.
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

    The law of log sigma for N to infinity where the cell is drawn by `uniform_pmf`. A density of log sigma, not of
    sigma: the first factor is the Jacobian.
    """
    _domain.finite("log_sigma", log_sigma, "iCT Section 3.5")
    sigma = log_sigma.exp()
    low, high = _roots(sigma_min, sigma_max, rho)
    if not rho * (high - low) > 0:
        _domain.refuse(
            "rho such that sigma_min^(1/rho) < sigma_max^(1/rho) in float64 (iCT Section 2)",
            f"rho = {rho}",
            "the paper's is 7",
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

    The law of log sigma for N to infinity where the cell is drawn by `lognormal_pmf`, but for the cut at the grid's
    ends, which takes 0.83 % of it for the paper's numbers.
    """
    _check_lognormal(p_mean, p_std)
    _domain.finite("log_sigma", log_sigma, "iCT Section 3.5")
    z = (log_sigma - p_mean) / p_std
    return torch.exp(-(z**2) / 2) / (math.sqrt(2 * math.pi) * p_std)


def uniform_weights(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Return lambda(sigma_i) = 1, one weight per cell.

    Source: iCT, Section 3.1 and Table 1, left column.
    """
    _domain.ascending(sigmas, "iCT Section 3.1")
    return torch.ones_like(sigmas[1:])


def inverse_gap_weights(sigmas: Float64[Tensor, " n"]) -> Float64[Tensor, " n-1"]:
    """Return lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i), one weight per cell.

    Source: iCT, Section 3.1 and Table 1.
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
        return math.pow(sigma_min, 1 / rho), math.pow(sigma_max, 1 / rho)
    except OverflowError:
        _domain.refuse("rho such that sigma_max^(1/rho) is finite (iCT Section 2)", f"rho = {rho}", "the paper's is 7")
