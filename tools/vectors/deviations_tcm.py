"""Known deviations of codes for TCM, in 50 digits."""

from tools.vectors import oracle_tcm as right
from tools.vectors.arrays import Array, Real, mpf
from tools.vectors.oracle_model import Function


def strict_cut(f: Function, f0: Function, x: Array, sigma: Array, sigma_cut: Real = 1.0) -> Array:
    """f above the cut only."""
    above = sigma.map(lambda level: level if level > mpf(sigma_cut) else mpf(sigma_cut) / 2)
    size = len(x.values) // len(x)
    chosen = [f if level > mpf(sigma_cut) / 2 else f0 for level in above for _ in range(size)]
    values = {function: function(x, sigma).values for function in (f, f0)}
    return Array(x.shape, tuple(values[function][j] for j, function in enumerate(chosen)))


def unscaled_log_level(
    u: Array, loc: Real = 0.0, scale: Real = 0.2, dof: Real = 0.01, sigma_min: Real = 1.0, sigma_max: Real = 80.0
) -> Array:
    """log sigma itself as the t variable."""
    del loc, scale
    return right.log_student_t_level(u, 0, 1, dof, sigma_min, sigma_max)


def one_mean(boundary: Array, boundary_weight: Real = 0.1) -> Array:
    """1, and w_b at the boundary."""
    return Array(boundary.shape, tuple(mpf(boundary_weight) if value else mpf(1) for value in boundary.values))
