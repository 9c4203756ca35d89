"""Parameterisation, embeddings, distances, solver steps, objectives and samplers, in 50 digits."""

from collections.abc import Callable
from typing import TypeAlias

from tools.vectors.arrays import Array, Real, mp, mpf, over_examples, per_example, zip_map

Function: TypeAlias = Callable[[Array, Array], Array]  # a consistency function, a score, a network or a distance


def c_skip(sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5) -> Array:
    """c_skip(sigma) = sigma_data^2 / ((sigma - sigma_min)^2 + sigma_data^2)."""
    variance = mpf(sigma_data) ** 2
    return sigma.map(lambda s: variance / ((s - mpf(sigma_min)) ** 2 + variance))


def c_out(sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5) -> Array:
    """c_out(sigma) = sigma_data (sigma - sigma_min) / sqrt(sigma_data^2 + sigma^2)."""
    std = mpf(sigma_data)
    return sigma.map(lambda s: std * (s - mpf(sigma_min)) / mp.sqrt(std**2 + s**2))


def c_in(sigma: Array, sigma_data: Real = 0.5) -> Array:
    """c_in(sigma) = 1 / sqrt(sigma^2 + sigma_data^2)."""
    return sigma.map(lambda s: 1 / mp.sqrt(s**2 + mpf(sigma_data) ** 2))


def c_noise(sigma: Array) -> Array:
    """c_noise(sigma) = log(sigma) / 4."""
    return sigma.map(lambda s: mp.log(s) / 4)


def boundary_parameterization(
    network: Function, x: Array, sigma: Array, sigma_min: Real = 0.002, sigma_data: Real = 0.5
) -> Array:
    """f(x, sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma))."""
    skip = per_example(c_skip(sigma, sigma_min, sigma_data), x)
    out = per_example(c_out(sigma, sigma_min, sigma_data), x)
    return skip * x + out * network(per_example(c_in(sigma, sigma_data), x) * x, c_noise(sigma))


def fourier_embedding(c_noise: Array, frequencies: Array) -> Array:
    """[sin(2 pi c w_1), ..., sin(2 pi c w_h), cos(2 pi c w_1), ..., cos(2 pi c w_h)]."""
    turns = [[2 * mp.pi * value * w for w in frequencies] for value in c_noise]
    values = [function(t) for row in turns for function in (mp.sin, mp.cos) for t in row]
    return Array((len(c_noise), 2 * len(frequencies)), tuple(values))


def positional_embedding(c_noise: Array, width: int, max_period: Real = 10000.0) -> Array:
    """[cos(c f_1), ..., cos(c f_h), sin(c f_1), ..., sin(c f_h)], f_k = max_period^(-(k-1)/h), h = width / 2."""
    half = width // 2
    frequencies = [mpf(max_period) ** (-mpf(k) / half) for k in range(half)]
    values = [function(value * f) for value in c_noise for function in (mp.cos, mp.sin) for f in frequencies]
    return Array((len(c_noise), width), tuple(values))


def squared_l2(x: Array, y: Array) -> Array:
    """d(x, y) = ||x - y||_2^2."""
    return over_examples(lambda p, q: mp.fsum((a - b) ** 2 for a, b in zip(p, q, strict=True)), x, y)


def l1(x: Array, y: Array) -> Array:
    """d(x, y) = ||x - y||_1."""
    return over_examples(lambda p, q: mp.fsum(abs(a - b) for a, b in zip(p, q, strict=True)), x, y)


def pseudo_huber(x: Array, y: Array, c: Real) -> Array:
    """d(x, y) = sqrt(||x - y||_2^2 + c^2) - c."""
    return squared_l2(x, y).map(lambda square: mp.sqrt(square + mpf(c) ** 2) - mpf(c))


def pseudo_huber_constant(dim: int) -> Real:
    """c = 0.00054 sqrt(d)."""
    return mpf("0.00054") * mp.sqrt(dim)


def probability_flow_drift(x: Array, sigma: Array, score: Function) -> Array:
    """dx/dsigma = -sigma score(x, sigma)."""
    return per_example(sigma, x) * score(x, sigma) * -1


def euler_step(x_hi: Array, sigma_hi: Array, sigma_lo: Array, score_value: Array) -> Array:
    """x_{i+1} - (sigma_i - sigma_{i+1}) sigma_{i+1} score_value."""
    return x_hi - per_example((sigma_lo - sigma_hi) * sigma_hi, x_hi) * score_value


def heun_step(x_hi: Array, sigma_hi: Array, sigma_lo: Array, score: Function) -> Array:
    """x_{i+1} + (sigma_i - sigma_{i+1}) (d + d') / 2, d and d' the drifts here and at the end of Euler's step."""
    step = per_example(sigma_lo - sigma_hi, x_hi)
    here = probability_flow_drift(x_hi, sigma_hi, score)
    there = probability_flow_drift(x_hi + step * here, sigma_lo, score)
    return x_hi + step * (here + there) / 2


def at(levels: Array, index: Array) -> Array:
    """levels[index], one number per example."""
    return Array(index.shape, tuple(levels.values[i] for i in index))


def above(index: Array) -> Array:
    """index + 1: the upper end of each interval."""
    return Array(index.shape, tuple(i + 1 for i in index), "int64")


def consistency_matching_loss(
    student: Function, teacher: Function, score: Function, x_hi: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """lambda(sigma_i) d(f_theta(x_{i+1}, sigma_{i+1}), f_theta-(x_i, sigma_i)), x_i Euler's from x_{i+1}."""
    low, high = at(sigmas, index), at(sigmas, above(index))
    x_lo = euler_step(x_hi, high, low, score(x_hi, high))
    return at(weights, index) * distance(student(x_hi, high), teacher(x_lo, low))


def consistency_training_loss(
    student: Function, teacher: Function, x: Array, z: Array, index: Array, sigmas: Array,
    distance: Function, weights: Array,
) -> Array:  # fmt: skip
    """lambda(sigma_i) d(f_theta(x + sigma_{i+1} z, sigma_{i+1}), f_theta-(x + sigma_i z, sigma_i))."""
    low, high = at(sigmas, index), at(sigmas, above(index))
    x_hi, x_lo = x + per_example(high, x) * z, x + per_example(low, x) * z
    return at(weights, index) * distance(student(x_hi, high), teacher(x_lo, low))


def small_step() -> Real:
    """The step of difference quotients: 1e-13 in 50 digits, where their errors are below 1e-20."""
    return mpf(10) ** -(mp.dps // 4 + 1)


def derivative_along(f: Function, x: Array, sigma: Array, velocity: Array) -> Array:
    """(d/dsigma + velocity . d/dx) f at (x, sigma), by a central difference."""
    step = small_step()
    ahead = f(x + step * velocity, sigma + step)
    behind = f(x - step * velocity, sigma - step)
    slope: Array = (ahead - behind) / (2 * step)
    return slope


def hessian_form(metric: Function, at_both: Array, u: Array, v: Array) -> Array:
    """u^T H v, H the Hessian of metric(., y) at y = at_both, by central differences in two directions."""

    step = small_step()

    def distance(s: int, t: int) -> Array:
        return metric(at_both + s * step * u + t * step * v, at_both)

    curvature: Array = (distance(1, 1) - distance(1, -1) - distance(-1, 1) + distance(-1, -1)) / (4 * step**2)
    return curvature


def continuous_consistency_training_loss(
    student: Function, x: Array, z: Array, sigma: Array, weights: Array, distance: Function
) -> Array:
    """lambda f_theta^T H (d/dsigma + z . d/dx) f_theta-, all at (x + sigma z, sigma)."""
    noisy = x + per_example(sigma, x) * z
    value = student(noisy, sigma)
    return weights * hessian_form(distance, value, value, derivative_along(student, noisy, sigma, z))


def continuous_consistency_distillation_loss(
    student: Function, score: Function, x: Array, sigma: Array, weights: Array, distance: Function
) -> Array:
    """lambda f_theta^T H (d/dsigma - sigma score . d/dx) f_theta-, all at (x, sigma)."""
    value, velocity = student(x, sigma), probability_flow_drift(x, sigma, score)
    return weights * hessian_form(distance, value, value, derivative_along(student, x, sigma, velocity))


def ema_update(ema: Array, value: Array, decay: Real) -> Array:
    """decay ema + (1 - decay) value."""
    return zip_map(lambda a, v: mpf(decay) * a + (1 - mpf(decay)) * v, ema, value)


def levels_like(sigma: Real, x: Array) -> Array:
    """The level sigma for every example."""
    return Array((len(x),), (mpf(sigma),) * len(x))


def one_step_sample(f: Function, z: Array, sigma_max: Real = 80.0) -> Array:
    """x = f(sigma_max z, sigma_max)."""
    return f(z * mpf(sigma_max), levels_like(sigma_max, z))


def renoise(x: Array, z: Array, sigma: Real, sigma_min: Real = 0.002) -> Array:
    """x + sqrt(sigma^2 - sigma_min^2) z."""
    noise: Array = z * mp.sqrt(mpf(sigma) ** 2 - mpf(sigma_min) ** 2)
    return x + noise


def multistep_sample(f: Function, noises: Array, sigmas: Array, sigma_min: Real = 0.002) -> Array:
    """The last x of: x = f(sigma_1 z_1, sigma_1); x = f(x + sqrt(sigma_k^2 - sigma_min^2) z_k, sigma_k), k > 1."""
    x = one_step_sample(f, noises.part(0), sigmas.values[0])
    for k in range(1, len(sigmas)):
        level = sigmas.values[k]
        x = f(renoise(x, noises.part(k), level, sigma_min), levels_like(level, x))
    return x


def candidates(sigmas: Array, before: tuple[Real, ...], after: tuple[Real, ...]) -> list[Real]:
    """The nodes strictly between the neighbours."""
    return [s for s in sigmas if (not before or s < before[-1]) and (not after or s > after[0])]


def search_intermediate_sigma(
    objective: Callable[[Array], Real], sigmas: Array, before: tuple[Real, ...] = (), after: tuple[Real, ...] = ()
) -> Real:
    """The node that minimises objective(before, sigma, after), by trying all."""

    def value(sigma: Real) -> Real:
        levels = (*before, sigma, *after)
        return objective(Array((len(levels),), levels))

    return min(candidates(sigmas, before, after), key=value)
