"""The Cauchy distance, in 50 digits."""

from tools.vectors.arrays import Array, Real, mp, mpf
from tools.vectors.oracle_model import squared_l2


def cauchy(x: Array, y: Array, c: Real) -> Array:
    """log(2 c^2 + ||x - y||^2) - log(2 c^2)."""
    width = 2 * mpf(c) ** 2
    return squared_l2(x, y).map(lambda square: mp.log(width + square) - mp.log(width))
