"""Noise levels, curricula, probabilities and weights of iCT, in 50 digits and in integers."""

from fractions import Fraction
from math import ceil, isqrt

from tools.vectors.arrays import Array, Real, mp, mpf


def sigma_grid(n: int, sigma_min: Real = 0.002, sigma_max: Real = 80.0, rho: Real = 7.0) -> Array:
    """sigma_i = (sigma_min^(1/rho) + (i-1)/(N-1) (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho."""
    a, b, rho = mpf(sigma_min), mpf(sigma_max), mpf(rho)
    low, high = a ** (1 / rho), b ** (1 / rho)
    inner = [(low + mpf(i) / (n - 1) * (high - low)) ** rho for i in range(1, n - 1)]
    return Array((n,), (a, *inner, b))


def exponential_curriculum(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """N(k) = min(s0 2^floor(k / K'), s1) + 1 with K' = floor(K / (log2 floor(s1 / s0) + 1))."""
    ratio = s1 // s0
    stages = mpf(ratio.bit_length() - 1) if ratio & (ratio - 1) == 0 else mp.log(ratio, 2)
    stage_length = int(mp.floor(total_steps / (stages + 1)))
    return min(s0 << (step // stage_length), s1) + 1


def ceil_sqrt(value: Fraction) -> int:
    """The least n with n^2 >= value, for value >= 0: ceil(sqrt(value)) = ceil(sqrt(value) - 1) + 1."""
    n = isqrt(value.numerator // value.denominator)
    return n if n * n >= value else n + 1


def sqrt_curriculum(step: int, total_steps: int, s0: int = 2, s1: int = 150) -> int:
    """N(k) = ceil(sqrt(k/K ((s1 + 1)^2 - s0^2) + s0^2) - 1) + 1."""
    return ceil_sqrt(Fraction(step, total_steps) * ((s1 + 1) ** 2 - s0**2) + s0**2)


def constant_curriculum(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """N(k) = s1 + 1."""
    del step, total_steps, s0
    return s1 + 1


def linear_curriculum(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """N(k) = ceil(k/K (s1 + 1) + (1 - k/K) s0 - 1) + 1."""
    u = Fraction(step, total_steps)
    return ceil(u * (s1 + 1) + (1 - u) * s0 - 1) + 1


def square_curriculum(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """N(k) = ceil((k/K sqrt(s1 + 1) + (1 - k/K) sqrt(s0))^2 - 1) + 1: with r = 2 u (1 - u) sqrt((s1 + 1) s0)."""
    u = Fraction(step, total_steps)
    rational = u**2 * (s1 + 1) + (1 - u) ** 2 * s0
    root_squared = (2 * u * (1 - u)) ** 2 * (s1 + 1) * s0
    n = ceil(rational)
    while n < rational or (n - rational) ** 2 < root_squared:
        n += 1
    return n


def cosine_curriculum(step: int, total_steps: int, s0: int = 10, s1: int = 1280) -> int:
    """N(k) = ceil(u (s1 + 1) + (1 - u) s0 - 1) + 1 with u = (1 - cos(pi k / K)) / 2."""
    u = (1 - mp.cos(mp.pi * step / total_steps)) / 2
    value = u * (s1 + 1) + (1 - u) * s0
    nearest = int(mp.nint(value))
    return nearest if abs(value - nearest) < mpf(10) ** -40 else int(mp.ceil(value))


def teacher_ema_decay(n: int, s0: int, mu0: Real) -> Real:
    """mu = exp(s0 log(mu0) / N)."""
    return mp.exp(s0 * mp.log(mu0) / n)


def uniform_pmf(sigmas: Array) -> Array:
    """p(i) = 1 / (N - 1)."""
    intervals = len(sigmas) - 1
    return Array((intervals,), (mpf(1) / intervals,) * intervals)


def erf_difference(low: Real, high: Real) -> Real:
    """erf(high) - erf(low), without cancellation where both lie in one tail."""
    if low > 0:
        return mp.erfc(low) - mp.erfc(high)
    return mp.erfc(-high) - mp.erfc(-low)


def lognormal_pmf(sigmas: Array, p_mean: Real = -1.1, p_std: Real = 2.0) -> Array:
    """p(i) ~ erf((log sigma_{i+1} - P_mean) / (sqrt2 P_std)) - erf((log sigma_i - P_mean) / (sqrt2 P_std))."""
    z = [(mp.log(sigma) - mpf(p_mean)) / (mp.sqrt(2) * mpf(p_std)) for sigma in sigmas]
    masses = [erf_difference(z[j], z[j + 1]) for j in range(len(z) - 1)]
    total = mp.fsum(masses)
    return Array((len(masses),), tuple(mass / total for mass in masses))


def index_from_uniform(u: Array, pmf: Array) -> Array:
    """The interval j with pmf[0] + ... + pmf[j-1] <= u < pmf[0] + ... + pmf[j]; never an interval of probability 0."""
    positive = [j for j in range(len(pmf)) if pmf.values[j] > 0]

    def interval(value: Real) -> int:
        below = [j for j in positive if mp.fsum(pmf.values[: j + 1]) > value]
        return below[0] if below else positive[-1]

    return Array(u.shape, tuple(interval(value) for value in u), "int64")


def log_sigma_density(log_sigma: Array, sigma_min: Real = 0.002, sigma_max: Real = 80.0, rho: Real = 7.0) -> Array:
    """p(log sigma) = sigma sigma^(1/rho - 1) / (rho (sigma_max^(1/rho) - sigma_min^(1/rho))), 0 out of range."""
    a, b, rho = mpf(sigma_min), mpf(sigma_max), mpf(rho)
    width = rho * (b ** (1 / rho) - a ** (1 / rho))

    def density(value: Real) -> Real:
        return mp.exp(value / rho) / width if mp.log(a) <= value <= mp.log(b) else mpf(0)

    return log_sigma.map(density)


def lognormal_density(log_sigma: Array, p_mean: Real = -1.1, p_std: Real = 2.0) -> Array:
    """p(log sigma) = exp(-(log sigma - P_mean)^2 / (2 P_std^2)) / (sqrt(2 pi) P_std)."""
    mean, std = mpf(p_mean), mpf(p_std)
    return log_sigma.map(lambda v: mp.exp(-((v - mean) ** 2) / (2 * std**2)) / (mp.sqrt(2 * mp.pi) * std))


def uniform_weights(sigmas: Array) -> Array:
    """lambda(sigma_i) = 1."""
    return Array((len(sigmas) - 1,), (mpf(1),) * (len(sigmas) - 1))


def inverse_gap_weights(sigmas: Array) -> Array:
    """lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i)."""
    values = sigmas.values
    return Array((len(values) - 1,), tuple(1 / (values[j + 1] - values[j]) for j in range(len(values) - 1)))
