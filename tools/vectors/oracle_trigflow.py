"""TrigFlow and continuous-time consistency training (sCM), in 50 digits."""

from tools.vectors.arrays import Array, Real, mp, mpf, per_example, zip_map
from tools.vectors.oracle_model import Function, squared_l2


def trigflow_time(sigma: Array, sigma_data: Real = 0.5) -> Array:
    """The angle whose sine is sigma / sqrt(sigma^2 + sigma_data^2)."""
    return sigma.map(lambda s: mp.asin(s / mp.sqrt(s**2 + mpf(sigma_data) ** 2)))


def trigflow_level(t: Array, sigma_data: Real = 0.5) -> Array:
    """sigma_data sin(t) / cos(t)."""
    return t.map(lambda angle: mpf(sigma_data) * mp.sin(angle) / mp.cos(angle))


def turned(first: Array, second: Array, angle: Array) -> tuple[Array, Array]:
    """The real and the imaginary part of (first + i second) e^(-i angle)."""
    numbers = [
        mp.mpc(p, q) * mp.expj(-a)
        for p, q, a in zip(first.values, second.values, per_example(angle, first).values, strict=True)
    ]
    return (
        Array(first.shape, tuple(number.real for number in numbers)),
        Array(first.shape, tuple(number.imag for number in numbers)),
    )


def trigflow_interpolant(x0: Array, z: Array, t: Array) -> Array:
    """Re (x0 + i z) e^(-i t)."""
    return turned(x0, z, t)[0]


def trigflow_velocity(x0: Array, z: Array, t: Array) -> Array:
    """Im (x0 + i z) e^(-i t)."""
    return turned(x0, z, t)[1]


def trigflow_step(x: Array, velocity: Array, t: Array, t_low: Array) -> Array:
    """Re (x + i v) e^(i (t - t'))."""
    return turned(x, velocity, t_low - t)[0]


def trigflow_parameterization(network: Function, x: Array, t: Array, sigma_data: Real = 0.5) -> Array:
    """Re (x + i sigma_data F) e^(i t)."""
    return turned(x, network(x / mpf(sigma_data), t) * mpf(sigma_data), t * -1)[0]


def quotient(function: Function, x: Array, t: Array, along: Array, rate: Array) -> Array:
    """The derivative of function(x, t) where x moves with `along` and t with `rate`, by a central difference."""
    h = mpf(10) ** (-mp.dps // 3)
    ahead = function(x + along * h, t + rate * h)
    behind = function(x - along * h, t - rate * h)
    slope: Array = (ahead - behind) / (2 * h)
    return slope


def trigflow_tangent(
    network: Function, x: Array, t: Array, velocity: Array, sigma_data: Real = 0.5, warmup: Real = 1.0
) -> tuple[Array, Array]:
    """F and the tangent, dF/dt along dx/dt = v."""
    std, share = mpf(sigma_data), mpf(warmup)
    one = Array(t.shape, (mpf(1),) * len(t))
    rate = quotient(network, x / std, t, velocity / std, one)
    value = network(x / std, t)
    cos, sin = (per_example(t.map(function), x) for function in (mp.cos, mp.sin))
    diffusion = cos * cos * (value * std - velocity)
    return value, diffusion * -1 - cos * sin * (x + rate * std) * share


def trigflow_difference(
    network: Function, x: Array, t: Array, t_low: Array, velocity: Array, sigma_data: Real = 0.5, warmup: Real = 1.0
) -> Array:
    """For r = 1 the quotient of f(x, t) - f(x', t') and sin(t - t'); r times what it adds to r = 0, otherwise."""
    std, gap = mpf(sigma_data), t - t_low
    lower = trigflow_step(x, velocity, t, t_low)
    above = trigflow_parameterization(network, x, t, sigma_data)
    below = trigflow_parameterization(network, lower, t_low, sigma_data)
    whole = (above - below) / per_example(gap.map(mp.sin), x)
    cos = per_example(t_low.map(mp.cos), x)
    diffusion: Array = cos * (network(x / std, t) * std - velocity) * -1
    found: Array = diffusion + (whole - diffusion) * mpf(warmup)
    return found


def tangent_warmup(step: int, warmup_steps: int = 10_000) -> Real:
    """The smaller of k / H and 1."""
    return mpf(step) / warmup_steps if step < warmup_steps else mpf(1)


def normalized_tangent(g: Array, c: Real = 0.1) -> Array:
    """g / (||g|| + c)."""
    norms = squared_l2(g, g * 0).map(mp.sqrt)
    return g / per_example(norms.map(lambda norm: norm + mpf(c)), g)


def adaptive_weighting(squared_norm: Array, log_weight: Array, dim: int) -> Array:
    """e^w s / D - w."""
    return zip_map(lambda s, w: mp.exp(w) * s / dim - w, squared_norm, log_weight)


def scm_loss(
    network: Function, x: Array, t: Array, velocity: Array, log_weight: Array,
    c: Real = 0.1, sigma_data: Real = 0.5, warmup: Real = 1.0,
) -> Array:  # fmt: skip
    """The weighting of (||g|| / (||g|| + c))^2."""
    tangent = trigflow_tangent(network, x, t, velocity, sigma_data, warmup)[1]
    norms = squared_l2(tangent, tangent * 0).map(mp.sqrt)
    return adaptive_weighting(norms.map(lambda n: (n / (n + mpf(c))) ** 2), log_weight, len(x.values) // len(x))


def trigflow_time_density(t: Array, p_mean: Real = -1.0, p_std: Real = 1.4, sigma_data: Real = 0.5) -> Array:
    """The normal density of log(sigma_data tan t), times its derivative 2 / sin(2 t)."""

    def density(angle: Real) -> Real:
        z = (mp.log(mpf(sigma_data) * mp.tan(angle)) - mpf(p_mean)) / mpf(p_std)
        return 2 / mp.sin(2 * angle) * mp.exp(-(z**2) / 2) / (mpf(p_std) * mp.sqrt(2 * mp.pi))

    return t.map(density)


def trigflow_sample(f: Function, noises: Array, times: Array) -> Array:
    """x = f(sin t_1 z_1, t_1), then x = f(cos t_k x + sin t_k z_k, t_k)."""
    x = noises.part(0) * 0
    for k, angle in enumerate(times):
        each = Array((len(x),), (angle,) * len(x))
        x = f(mp.cos(angle) * x + mp.sin(angle) * noises.part(k), each)
    return x
