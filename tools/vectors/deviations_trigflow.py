"""Known deviations of codes for sCM, in 50 digits."""

from collections.abc import Callable

from tools.vectors import oracle_trigflow as right
from tools.vectors.arrays import Array, Real, mp, mpf, per_example
from tools.vectors.oracle_model import Function, squared_l2


def rms_tangent(g: Array, c: Real = 0.1) -> Array:
    """The root mean square in place of the norm."""
    size = len(g.values) // len(g)
    roots = squared_l2(g, g * 0).map(lambda square: mp.sqrt(square / size) + mpf(c))
    return g / per_example(roots, g)


def slow_term(
    network: Function,
    x: Array,
    t: Array,
    velocity: Array,
    sigma_data: Real,
    warmup: Real,
    factor: Callable[[Real], Real],
) -> tuple[Array, Array]:
    """The tangent with dF/dt times factor(t)."""
    value, whole = right.trigflow_tangent(network, x, t, velocity, sigma_data, warmup)
    std, one = mpf(sigma_data), Array(t.shape, (mpf(1),) * len(t))
    rate = right.quotient(network, x / std, t, velocity / std, one)
    cos_sin = per_example(t.map(lambda angle: mp.cos(angle) * mp.sin(angle)), x)
    change = per_example(t.map(factor), x) - per_example(one, x)
    return value, whole - mpf(warmup) * (cos_sin * (std * (rate * change)))


def sigma_data_twice(
    network: Function, x: Array, t: Array, velocity: Array, sigma_data: Real = 0.5, warmup: Real = 1.0
) -> tuple[Array, Array]:
    """dF/dt times sigma_data^2."""
    return slow_term(network, x, t, velocity, sigma_data, warmup, lambda _: mpf(sigma_data))


def cos_sin_twice(
    network: Function, x: Array, t: Array, velocity: Array, sigma_data: Real = 0.5, warmup: Real = 1.0
) -> tuple[Array, Array]:
    """dF/dt times (cos t sin t)^2."""
    return slow_term(network, x, t, velocity, sigma_data, warmup, lambda angle: mp.cos(angle) * mp.sin(angle))


def warmup_by_root(
    network: Function, x: Array, t: Array, velocity: Array, sigma_data: Real = 0.5, warmup: Real = 1.0
) -> tuple[Array, Array]:
    """The first term with cos t sqrt(1 - r^2 sin^2 t) in place of cos^2 t."""
    value, whole = right.trigflow_tangent(network, x, t, velocity, sigma_data, warmup)
    cos = t.map(mp.cos)
    root = t.map(lambda angle: mp.sqrt(1 - (mpf(warmup) * mp.sin(angle)) ** 2))
    change = per_example(cos * (root - cos), x)
    return value, whole - change * (mpf(sigma_data) * value - velocity)


def divided_twice(squared_norm: Array, log_weight: Array, dim: int) -> Array:
    """s / d^2."""
    return right.adaptive_weighting(squared_norm / dim, log_weight, dim)


def second_prior_weight(
    network: Function, x: Array, t: Array, velocity: Array, log_weight: Array,
    c: Real = 0.1, sigma_data: Real = 0.5, warmup: Real = 1.0,
) -> Array:  # fmt: skip
    """The squared error times 1 / sigma."""
    loss = right.scm_loss(network, x, t, velocity, log_weight, c, sigma_data, warmup)
    return (loss + log_weight) / right.trigflow_level(t, sigma_data) - log_weight
