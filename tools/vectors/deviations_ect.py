"""Known deviations of codes for ECT, in 50 digits and in integers."""

from tools.vectors import oracle_ect as right
from tools.vectors.arrays import Array, Real, mpf
from tools.vectors.oracle_model import Function

FLOOR = mpf("1e-6")


def mapping_above_zero(t: Array, exponent: int, q: Real = 2.0, k: Real = 8.0, b: Real = 1.0) -> Array:
    """r at least 1e-6."""
    return right.ect_mapping(t, exponent, q, k, b).map(lambda r: max(r, FLOOR))


def ceiled_exponent(step: int, steps_per_stage: int) -> int:
    """max(1, ceil(k / d))."""
    return max(1, -(-step // steps_per_stage))


def epsilon_not_squared(x: Array, y: Array, c: Real = 0.06, p: Real = 0.5) -> Array:
    """c in place of c^2."""
    return right.adaptive_weights(x, y, mpf(c) ** mpf("0.5"), p)


def target_above_zero(
    student: Function, teacher: Function, x: Array, z: Array, t: Array, r: Array, distance: Function, weights: Array
) -> Array:
    """The network's value at 1e-6 as the target of r = 0."""
    raised = r.map(lambda low: max(low, FLOOR))
    return right.consistency_tuning_loss(student, teacher, x, z, t, raised, distance, weights)
