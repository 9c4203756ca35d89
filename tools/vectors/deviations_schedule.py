"""Known deviations in grids, curricula and probabilities, in 50 digits (or with the rounding of the deviation)."""

import math
import struct
from fractions import Fraction

from tools.vectors import oracle_schedule as right
from tools.vectors.arrays import Array, Real, mp, mpf


def single(value: Real) -> Real:
    """The nearest float32."""
    return mpf(struct.unpack("f", struct.pack("f", float(value)))[0])


def reversed_array(x: Array) -> Array:
    """The array in reverse order."""
    return Array(x.shape, tuple(reversed(x.values)), x.dtype)


def float32_grid(n: int, sigma_min: Real = 0.002, sigma_max: Real = 80.0, rho: Real = 7.0) -> Array:
    """The right levels, rounded to float32."""
    return right.sigma_grid(n, sigma_min, sigma_max, rho).map(single)


def descending_grid(n: int, sigma_min: Real = 0.002, sigma_max: Real = 80.0, rho: Real = 7.0) -> Array:
    """The right levels, from sigma_max down."""
    return reversed_array(right.sigma_grid(n, sigma_min, sigma_max, rho))


def ratio_not_floored(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int | None:
    """K' = floor(K / (log2(s1 / s0) + 1)), without the floor of the ratio."""
    ratio = Fraction(s1, s0)
    if ratio.denominator == 1 and ratio.numerator & (ratio.numerator - 1) == 0:
        return right.exponential_curriculum(step, total_steps, s0, s1)
    stage_length = int(mp.floor(total_steps / (mp.log(mpf(s1) / s0, 2) + 1)))
    return min(s0 << (step // stage_length), s1) + 1 if stage_length else None


def float_levels(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> Real:
    """The right number as a float."""
    return mpf(right.exponential_curriculum(step, total_steps, s0, s1))


def float_log2(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """K' by a quotient of natural logarithms in doubles."""
    stage_length = math.floor(total_steps / (math.log(s1 // s0) / math.log(2) + 1))
    return min(s0 << (step // stage_length), s1) + 1


def printed_table1(step: int, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    """ceil(sqrt(k/K) ((s1 + 1)^2 - s0^2) + s0^2 - 1) + 1: the root stops at k/K, as printed."""
    factor = (s1 + 1) ** 2 - s0**2
    return right.ceil_sqrt(Fraction(step, total_steps) * factor**2) + s0**2


def no_plus_one(step: int, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    """s1^2 in place of (s1 + 1)^2."""
    return right.ceil_sqrt(Fraction(step, total_steps) * (s1**2 - s0**2) + s0**2)


def no_ceil_shift(step: int, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    """ceil(sqrt(...) - 1), the + 1 behind it lost."""
    return right.sqrt_curriculum(step, total_steps, s0, s1) - 1


def levels_for_intervals(sigmas: Array) -> Array:
    """1/N for each of the N levels."""
    return Array(sigmas.shape, (mpf(1) / len(sigmas),) * len(sigmas))


def mean_sign(sigmas: Array, p_mean: Real = -1.1, p_std: Real = 2.0) -> Array:
    """P_mean with the other sign."""
    return right.lognormal_pmf(sigmas, -mpf(p_mean), p_std)


def mirrored_pmf(sigmas: Array, p_mean: Real = -1.1, p_std: Real = 2.0) -> Array:
    """The probabilities from sigma_max down."""
    return reversed_array(right.lognormal_pmf(sigmas, p_mean, p_std))


def float32_erf(sigmas: Array, p_mean: Real = -1.1, p_std: Real = 2.0) -> Array:
    """Differences of error functions that were rounded to float32."""
    values = [single(mp.erf((mp.log(s) - mpf(p_mean)) / (mp.sqrt(2) * mpf(p_std)))) for s in sigmas]
    masses = [single(values[j + 1] - values[j]) for j in range(len(values) - 1)]
    total = mp.fsum(masses) or mpf("nan")  # 0 / 0 where all differences cancel
    return Array((len(masses),), tuple(mass / total for mass in masses))


def untruncated_pmf(sigmas: Array, p_mean: Real = -1.1, p_std: Real = 2.0) -> Array:
    """The normal law's own probabilities, not divided by that of [sigma_min, sigma_max]."""
    z = [(mp.log(s) - mpf(p_mean)) / (mp.sqrt(2) * mpf(p_std)) for s in sigmas]
    return Array((len(z) - 1,), tuple(right.erf_difference(z[j], z[j + 1]) / 2 for j in range(len(z) - 1)))


def intervals_from_the_top(u: Array, pmf: Array) -> Array:
    """The right interval's number counted from sigma_max down."""
    return right.index_from_uniform(u, pmf).map(lambda j: len(pmf) - 1 - j)


def left_search(u: Array, pmf: Array) -> Array:
    """The first interval whose cumulated probability is at least u: one too low at an edge."""
    sums = [mp.fsum(pmf.values[: j + 1]) for j in range(len(pmf))]
    return Array(u.shape, tuple(next(j for j, s in enumerate(sums) if s >= v) for v in u), "int64")


def density_mean_sign(log_sigma: Array, p_mean: Real = -1.1, p_std: Real = 2.0) -> Array:
    """P_mean with the other sign."""
    return right.lognormal_density(log_sigma, -mpf(p_mean), p_std)
