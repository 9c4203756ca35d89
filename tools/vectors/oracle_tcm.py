"""Truncated consistency models (TCM), in 50 digits."""

from tools.vectors.arrays import Array, Real, mp, mpf
from tools.vectors.oracle_model import Function


def truncated(f: Function, f0: Function, x: Array, sigma: Array, sigma_cut: Real = 1.0) -> Array:
    """The values of f for the examples from the cut on, those of f0 for the others."""
    size = len(x.values) // len(x)
    above, below = f(x, sigma).values, f0(x, sigma).values
    chosen = [above if level >= mpf(sigma_cut) else below for level in sigma for _ in range(size)]
    return Array(x.shape, tuple(values[j] for j, values in enumerate(chosen)))


def tail(x: Real, dof: Real) -> Real:
    """The probability of Student's t above |x|: half of the regularised incomplete beta function."""
    return mp.betainc(dof / 2, mpf(1) / 2, 0, dof / (dof + x**2), regularized=True) / 2


def between(low: Real, high: Real, dof: Real) -> Real:
    """The probability of Student's t between two numbers."""
    if low >= 0:
        return tail(low, dof) - tail(high, dof)
    if high <= 0:
        return tail(high, dof) - tail(low, dof)
    return 1 - tail(low, dof) - tail(high, dof)


def log_student_t_level(
    u: Array, loc: Real = 0.0, scale: Real = 0.2, dof: Real = 0.01, sigma_min: Real = 1.0, sigma_max: Real = 80.0
) -> Array:
    """The level whose logarithm has the probability u below it, by bisection."""
    nu, mean, std = mpf(dof), mpf(loc), mpf(scale)
    low, high = ((mp.log(mpf(level)) - mean) / std for level in (sigma_min, sigma_max))
    whole = between(low, high, nu)

    def level(part: Real) -> Real:
        # Half of the digits by bisection in asinh, the rest by the secant method.
        ends = [mp.asinh(x / mp.sqrt(nu)) for x in (low, high)]

        def excess(angle: Real) -> Real:
            return between(low, mp.sqrt(nu) * mp.sinh(angle), nu) / whole - part

        with mp.workdps(20):
            start = mp.findroot(excess, ends, solver="anderson", tol=1e-15, verify=False)
        angle = mp.findroot(excess, (start, start + mpf("1e-12")), solver="secant", tol=mpf(10) ** (10 - 2 * mp.dps))
        return mp.exp(mean + std * mp.sqrt(nu) * mp.sinh(angle))

    return u.map(level)


def log_student_t_density(
    log_sigma: Array, loc: Real = 0.0, scale: Real = 0.2, dof: Real = 0.01, sigma_min: Real = 1.0,
    sigma_max: Real = 80.0,
) -> Array:  # fmt: skip
    """Student's density over that of the range, 0 out of it."""
    nu, mean, std = mpf(dof), mpf(loc), mpf(scale)
    low, high = (mp.log(mpf(level)) for level in (sigma_min, sigma_max))
    whole = between((low - mean) / std, (high - mean) / std, nu)
    constant = mp.gamma((nu + 1) / 2) / (mp.sqrt(nu * mp.pi) * mp.gamma(nu / 2))

    def density(value: Real) -> Real:
        if not low <= value <= high:
            return mpf(0)
        return constant * (1 + ((value - mean) / std) ** 2 / nu) ** (-(nu + 1) / 2) / (std * whole)

    return log_sigma.map(density)


def truncated_weights(boundary: Array, boundary_weight: Real = 0.1) -> Array:
    """B / N_C, and w_b B / N_B at the boundary."""
    at_boundary = sum(bool(value) for value in boundary.values)
    count = len(boundary)
    inner, outer = mpf(count) / (count - at_boundary), mpf(boundary_weight) * count / at_boundary
    return Array(boundary.shape, tuple(outer if value else inner for value in boundary.values))
