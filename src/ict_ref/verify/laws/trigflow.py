"""Laws of TrigFlow and of continuous-time consistency training (sCM)."""

import math
from typing import Any

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, Need, close, equal, flat, given, law, needs, norm
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.laws import successor_strategies as more
from ict_ref.verify.vectors.values import column

PRECISE: tuple[Need, ...] = ("float64",)


# The change of variables.


@law("trigflow_time")
@given(sigma=more.noise_levels, sigma_data=more.data_stds)
def has_the_level_as_tangent(f: Function, sigma: Tensor, sigma_data: float) -> None:
    """sin t cos t = sigma sigma_data / (sigma^2 + sigma_data^2), and t is at least pi/4 for sigma >= sigma_data."""
    t = f(sigma=sigma, sigma_data=sigma_data)
    close(t.sin() * t.cos(), sigma * sigma_data / (sigma**2 + sigma_data**2), rtol=1e-12)
    clearly = ((sigma / sigma_data).log().abs() > 1e-3).logical_and(t > 0)
    needs(((t > math.pi / 4) == (sigma > sigma_data))[clearly], f"t = {t.tolist()} for sigma = {sigma.tolist()}")


@law("trigflow_time", needs=("float32",))
@given(sigma=more.noise_levels, sigma_data=more.data_stds)
def of_the_inverse_level_is_the_rest_of_a_right_angle(f: Function, sigma: Tensor, sigma_data: float) -> None:
    """t(sigma) + t(sigma_data^2 / sigma) = pi/2, and t(0) = 0."""
    both = f(sigma=sigma, sigma_data=sigma_data) + f(sigma=sigma_data**2 / sigma, sigma_data=sigma_data)
    close(both, torch.full_like(sigma, math.pi / 2), rtol=1e-14)
    equal(f(sigma=torch.zeros_like(sigma), sigma_data=sigma_data), torch.zeros_like(sigma))


@law("trigflow_time", needs=("float32",))
@given(sigma=more.noise_levels, sigma_data=more.data_stds, s=some.factors)
def depends_on_the_ratio_alone(f: Function, sigma: Tensor, sigma_data: float, s: float) -> None:
    """t(s sigma; s sigma_data) = t(sigma; sigma_data)."""
    close(f(sigma=s * sigma, sigma_data=s * sigma_data), f(sigma=sigma, sigma_data=sigma_data), rtol=1e-13)


@law("trigflow_level", needs=PRECISE)
@given(t=more.angles, sigma_data=more.data_stds)
def undoes_the_time(f: Function, t: Tensor, sigma_data: float) -> None:
    """t(sigma(t)) = t."""
    close(torch.atan(f(t=t, sigma_data=sigma_data) / sigma_data), t, rtol=1e-12)


@law("trigflow_level", needs=PRECISE)
@given(t=more.angles, sigma_data=more.data_stds)
def times_that_of_the_other_angle_is_the_variance(f: Function, t: Tensor, sigma_data: float) -> None:
    """sigma(t) sigma(pi/2 - t) = sigma_data^2."""
    both = f(t=t, sigma_data=sigma_data) * f(t=math.pi / 2 - t, sigma_data=sigma_data)
    close(both, torch.full_like(t, sigma_data**2), rtol=1e-12)


@law("trigflow_level", needs=PRECISE)
@given(t=more.angles, sigma_data=more.data_stds, s=some.factors)
def scales_with_the_data(f: Function, t: Tensor, sigma_data: float, s: float) -> None:
    """sigma(t; s sigma_data) = s sigma(t; sigma_data)."""
    close(f(t=t, sigma_data=s * sigma_data), s * f(t=t, sigma_data=sigma_data), rtol=1e-13)


# The path.


def size(*examples: Tensor) -> float:
    """Return the largest number."""
    return max(float(x.abs().max()) for x in examples)


@law("trigflow_interpolant", "trigflow_velocity")
@given(x0=some.images, z=some.images, t=more.example_angles, s=more.example_angles)
def is_turned_by_a_larger_angle(f: Function, x0: Tensor, z: Tensor, t: Tensor, s: Tensor) -> None:
    """p(t) for t = a + b is cos(a) p(b; x0, z) + sin(a) p(b; z, -x0): a rotation."""
    a, b = t / 2, s / 2
    expected = column(a.cos(), x0) * f(x0=x0, z=z, t=b) + column(a.sin(), x0) * f(x0=z, z=-x0, t=b)
    close(f(x0=x0, z=z, t=a + b), expected, rtol=1e-12, atol=1e-13 * size(x0, z))


@law("trigflow_interpolant", "trigflow_velocity")
@given(x0=some.images, z=some.images, t=more.example_angles)
def keeps_the_sum_of_squares(f: Function, x0: Tensor, z: Tensor, t: Tensor) -> None:
    """x^2 + v^2 = x0^2 + z^2; with (z, -x0) in place of (x0, z) x becomes v, up to the sign."""
    squares = f(x0=x0, z=z, t=t) ** 2 + f(x0=z, z=-x0, t=t) ** 2
    close(squares, x0**2 + z**2, rtol=1e-12, atol=1e-13 * size(x0, z) ** 2)


@law("trigflow_interpolant")
@given(x0=some.images, z=some.images, t=more.example_angles)
def begins_with_the_data(f: Function, x0: Tensor, z: Tensor, t: Tensor) -> None:
    """x = x0 at t = 0, and x = cos(t) x0 without noise."""
    equal(f(x0=x0, z=z, t=0 * t), x0 + 0.0)
    close(f(x0=x0, z=0 * z, t=t), column(t.cos(), x0) * x0, rtol=1e-13)


@law("trigflow_velocity")
@given(x0=some.images, z=some.images, t=more.example_angles)
def begins_with_the_noise(f: Function, x0: Tensor, z: Tensor, t: Tensor) -> None:
    """v = z at t = 0, and v = -sin(t) x0 without noise."""
    equal(f(x0=x0, z=z, t=0 * t), z + 0.0)
    close(f(x0=x0, z=0 * z, t=t), -column(t.sin(), x0) * x0, rtol=1e-13)


@law("trigflow_velocity", needs=PRECISE)
@given(x0=some.images, z=some.images, t=more.example_angles)
def is_the_derivative_of_the_path(f: Function, x0: Tensor, z: Tensor, t: Tensor) -> None:
    """v = dx/dt, by a central difference."""
    h = 1e-4
    ahead, behind = (formulas.trigflow_interpolant(x0, z, t + s) for s in (h, -h))
    # The central difference of a sine is sin(h) / h of its derivative.
    got = math.sin(h) / h * f(x0=x0, z=z, t=t)
    close(got, (ahead - behind) / (2 * h), rtol=1e-9, atol=1e-10 * size(x0, z))


@law("trigflow_step")
@given(x0=some.images, z=some.images, t=more.example_angles, part=more.parts)
def follows_the_path(f: Function, x0: Tensor, z: Tensor, t: Tensor, part: float) -> None:
    """From (x, v) of a pair (x0, z) at t it leads to the pair's x at t'."""
    x, v = (move(x0, z, t) for move in (formulas.trigflow_interpolant, formulas.trigflow_velocity))
    got = f(x=x, velocity=v, t=t, t_low=part * t)
    close(got, formulas.trigflow_interpolant(x0, z, part * t), rtol=1e-12, atol=1e-13 * size(x0, z))


@law("trigflow_step")
@given(x0=some.images, z=some.images, t=more.example_angles)
def to_0_gives_the_data(f: Function, x0: Tensor, z: Tensor, t: Tensor) -> None:
    """x' = x0 for t' = 0."""
    x, v = (move(x0, z, t) for move in (formulas.trigflow_interpolant, formulas.trigflow_velocity))
    close(f(x=x, velocity=v, t=t, t_low=0 * t), x0, rtol=1e-12, atol=1e-13 * size(x0, z))


@law("trigflow_step")
@given(x=some.images, velocity=some.images, t=more.example_angles, s=some.factors)
def of_no_length_changes_nothing(f: Function, x: Tensor, velocity: Tensor, t: Tensor, s: float) -> None:
    """x' = x for t' = t, and the step scales with (x, v)."""
    equal(f(x=x, velocity=velocity, t=t, t_low=t), x + 0.0)
    scaled, low = f(x=s * x, velocity=s * velocity, t=t, t_low=t / 2), f(x=x, velocity=velocity, t=t, t_low=t / 2)
    close(scaled, s * low, rtol=1e-12, atol=1e-13 * s * size(x, velocity))


# The parameterization.


def wave(y: Tensor, t: Tensor) -> Tensor:
    """Return F(y, t) = cos(t) tanh(y) + t/2."""
    angle = column(t, y)
    return angle.cos() * torch.tanh(y) + angle / 2


def of_normal_data(y: Tensor, t: Tensor) -> Tensor:
    """Return F(y, t) = -tan(t/2) y, for which f(x, t) = x."""
    return -torch.tan(column(t, y) / 2) * y


@law("trigflow_parameterization", needs=("float32",))
@given(x=some.images, t=more.example_angles, sigma_data=more.data_stds)
def is_x_at_0(f: Function, x: Tensor, t: Tensor, sigma_data: float) -> None:
    """f(x, 0) = x, to the last bit, for every F."""
    got = f(network=lambda y, s: 1e3 + wave(y, s), x=x, t=0 * t, sigma_data=sigma_data)
    equal(got, x + 0.0)


@law("trigflow_parameterization")
@given(x=some.images, t=more.example_angles, sigma_data=more.data_stds)
def is_that_of_consistency_models_for_sigma_min_0(f: Function, x: Tensor, t: Tensor, sigma_data: float) -> None:
    """f(x, t) = c_skip x_sigma - c_out F(c_in x_sigma, t) with x_sigma = x / cos(t) and CM's c for sigma_min = 0."""
    sigma = column(sigma_data * t.tan(), x)
    length = torch.hypot(sigma, torch.full_like(sigma, sigma_data))
    noisy = x / column(t.cos(), x)
    skip, out = sigma_data**2 / length**2, sigma * sigma_data / length
    expected = skip * noisy - out * wave(noisy / length, t)
    got = f(network=wave, x=x, t=t, sigma_data=sigma_data)
    close(got, expected, rtol=1e-11, atol=1e-12 * (size(x) + sigma_data))


@law("trigflow_parameterization")
@given(x0=some.images, z=some.images, t=more.example_angles, sigma_data=more.data_stds)
def of_the_velocity_is_the_data(f: Function, x0: Tensor, z: Tensor, t: Tensor, sigma_data: float) -> None:
    """F = v / sigma_data gives f = x0; F = -tan(t/2) y gives f = x."""
    x, v = (move(x0, z, t) for move in (formulas.trigflow_interpolant, formulas.trigflow_velocity))
    got = f(network=lambda y, _: v + 0 * y, x=x, t=t, sigma_data=1.0)
    close(got, x0, rtol=1e-11, atol=1e-12 * size(x0, z))
    same = f(network=of_normal_data, x=x, t=t, sigma_data=sigma_data)
    close(same, x, rtol=1e-11, atol=1e-12 * size(x))


@law("trigflow_parameterization", needs=("float32",))
@given(x=some.images, t=more.example_angles, sigma_data=more.data_stds)
def calls_its_network_with_the_angle(f: Function, x: Tensor, t: Tensor, sigma_data: float) -> None:
    """F is called once, at (x/sigma_data, t)."""
    calls: list[tuple[Tensor, Tensor]] = []

    def network(y: Tensor, angle: Tensor) -> Tensor:
        calls.append((y, angle))
        return 0 * y

    f(network=network, x=x, t=t, sigma_data=sigma_data)
    equal(len(calls), 1, "a number of calls of")
    close(calls[0][1], t, rtol=1e-14, what="F is called at t =")
    close(calls[0][0], x / sigma_data, rtol=1e-13, what="F is called at")


# The tangent.


def point_network(point: Tensor, sigma_data: float) -> Any:
    """Return the network of the consistency function that is `point` everywhere."""

    def network(y: Tensor, t: Tensor) -> Tensor:
        angle = column(t, y)
        return (angle.cos() * sigma_data * y - point) / (angle.sin() * sigma_data)

    return network


@law("trigflow_tangent", needs=PRECISE)
@given(x=some.images, t=more.example_angles, velocity=some.images, sigma_data=more.data_stds)
def is_the_derivative_of_f(f: Function, x: Tensor, t: Tensor, velocity: Tensor, sigma_data: float) -> None:
    """g = cos(t) df/dt along dx/dt = v for r = 1, and the first value is F."""
    value, g = f(network=wave, x=x, t=t, velocity=velocity, sigma_data=sigma_data)
    close(value, wave(x / sigma_data, t), rtol=1e-13)

    def whole(at: Tensor, angle: Tensor) -> Tensor:
        return formulas.trigflow_parameterization(wave, at, angle, sigma_data=sigma_data)

    slope = torch.func.jvp(whole, (x, t), (velocity, torch.ones_like(t)))[1]
    scale = size(x, velocity) * (1 + 1 / sigma_data) + sigma_data
    close(g, column(t.cos(), x) * slope, rtol=1e-10, atol=1e-12 * scale)


@law("trigflow_tangent", "trigflow_difference", needs=PRECISE, calls={
    "trigflow_difference": lambda f: lambda **given_: (None, f(t_low=given_["t"] / 2, **given_)),
})  # fmt: skip
@given(x=some.images, t=more.example_angles, velocity=some.images, warmup=more.warmups)
def is_affine_in_the_warm_up(f: Function, x: Tensor, t: Tensor, velocity: Tensor, warmup: float) -> None:
    """g(r) = (1 - r) g(0) + r g(1)."""
    part, none, whole = (f(network=wave, x=x, t=t, velocity=velocity, warmup=r)[1] for r in (warmup, 0.0, 1.0))
    close(part, (1 - warmup) * none + warmup * whole, rtol=1e-11, atol=1e-12 * (1 + size(x, velocity, whole)))


@law("trigflow_tangent", needs=PRECISE)
@given(x=some.images, z=some.images, t=more.example_angles, sigma_data=more.data_stds, warmup=more.warmups)
def vanishes_for_exact_consistency_functions(
    f: Function, x: Tensor, z: Tensor, t: Tensor, sigma_data: float, warmup: float
) -> None:
    """g = 0 for data that are one point, and for N(0, sigma_data^2 I) with v = 0, r = 1; r = 0 is v - sigma_data F."""
    point = x[:1].expand_as(x).clone()
    at, v = (move(point, z, t) for move in (formulas.trigflow_interpolant, formulas.trigflow_velocity))
    g = f(network=point_network(point, sigma_data), x=at, t=t, velocity=v, sigma_data=sigma_data, warmup=warmup)[1]
    close(g, torch.zeros_like(x), atol=1e-9 * (1 + size(point, z)))
    of_normal = f(network=of_normal_data, x=x, t=t, velocity=0 * x, sigma_data=sigma_data)[1]
    close(of_normal, torch.zeros_like(x), atol=1e-11 * size(x))
    diffusion = f(network=wave, x=x, t=t, velocity=z, sigma_data=sigma_data, warmup=0.0)[1]
    expected = column(t.cos(), x) ** 2 * (z - sigma_data * wave(x / sigma_data, t))
    close(diffusion, expected, rtol=1e-11, atol=1e-12 * (size(x, z) + sigma_data))


@law("trigflow_tangent", needs=("gradients",))
@given(x=some.images, t=more.example_angles, velocity=some.images)
def has_a_value_with_and_a_tangent_without_gradient(f: Function, x: Tensor, t: Tensor, velocity: Tensor) -> None:
    """F has a gradient in the network's parameters, g has none."""
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    value, g = f(network=lambda y, s: theta * wave(y, s), x=x, t=t, velocity=velocity)
    needs(isinstance(value, Tensor) and value.requires_grad, "F has no gradient")
    needs(not g.requires_grad, "the tangent has a gradient")
    (slope,) = torch.autograd.grad(value.sum(), theta)
    close(slope, wave(x / 0.5, t).sum(), rtol=1e-11, atol=1e-12 * x.numel())


@law("trigflow_difference", needs=PRECISE)
@given(x=some.images, t=more.example_angles, velocity=some.images, part=more.parts, sigma_data=more.data_stds)
def is_the_difference_quotient_of_f(
    f: Function, x: Tensor, t: Tensor, velocity: Tensor, part: float, sigma_data: float
) -> None:
    """(f(x, t) - f(x', t')) / sin(t - t') for r = 1, x' being the end of `trigflow_step`."""
    low = part * t
    got = f(network=wave, x=x, t=t, t_low=low, velocity=velocity, sigma_data=sigma_data)
    lower = formulas.trigflow_step(x, velocity, t, low)
    above, below = (
        formulas.trigflow_parameterization(wave, at, angle, sigma_data=sigma_data)
        for at, angle in ((x, t), (lower, low))
    )
    expected = (above - below) / column((t - low).sin(), x)
    close(got, expected, rtol=1e-9, atol=1e-10 * (size(x, velocity) + sigma_data) / (1 - part))


@law("trigflow_difference", needs=PRECISE)
@given(x=some.images, z=some.images, t=more.example_angles, part=more.parts, warmup=more.warmups)
def vanishes_for_the_function_of_one_point(
    f: Function, x: Tensor, z: Tensor, t: Tensor, part: float, warmup: float
) -> None:
    """It is 0 for the consistency function of data that are one point, with the velocity of the path, for every r."""
    point = x[:1].expand_as(x).clone()
    at, v = (move(point, z, t) for move in (formulas.trigflow_interpolant, formulas.trigflow_velocity))
    got = f(network=point_network(point, 0.5), x=at, t=t, t_low=part * t, velocity=v, warmup=warmup)
    close(got, torch.zeros_like(x), atol=1e-8 * (1 + size(point, z)) / (1 - part))


# The warm-up, the normalisation, the weighting and the loss.


@law("tangent_warmup")
@given(step=more.updates, warmup_steps=more.warmup_lengths)
def stays_between_0_and_1(f: Function, step: int, warmup_steps: int) -> None:
    """r is 0 at k = 0 and 1 from H on, and between them otherwise."""
    equal([f(step=k, warmup_steps=warmup_steps) for k in (0, warmup_steps, warmup_steps + step)], [0.0, 1.0, 1.0])
    needs(0 <= f(step=step, warmup_steps=warmup_steps) <= 1, "r is outside [0, 1]")


@law("tangent_warmup")
@given(step=more.updates, warmup_steps=more.warmup_lengths)
def rises_in_a_line(f: Function, step: int, warmup_steps: int) -> None:
    """H r(k) = k up to H."""
    k = step % (warmup_steps + 1)
    close(warmup_steps * f(step=k, warmup_steps=warmup_steps), float(k), rtol=1e-14)


@law("tangent_warmup")
@given(step=more.updates, warmup_steps=more.warmup_lengths, times=some.small_integers)
def depends_on_the_ratio_of_updates(f: Function, step: int, warmup_steps: int, times: int) -> None:
    """r(n k; n H) = r(k; H)."""
    expected = f(step=step, warmup_steps=warmup_steps)
    close(f(step=times * step, warmup_steps=times * warmup_steps), expected, rtol=1e-14)


@law("normalized_tangent")
@given(g=some.images, c=more.tangent_constants)
def has_its_norm(f: Function, g: Tensor, c: float) -> None:
    """||N(g)|| = ||g|| / (||g|| + c) < 1, over each whole example."""
    got = norm(f(g=g, c=c))
    close(got, norm(g) / (norm(g) + c), rtol=1e-12)


@law("normalized_tangent")
@given(g=some.images, c=more.tangent_constants)
def keeps_the_direction(f: Function, g: Tensor, c: float) -> None:
    """N(g) (||g|| + c) = g, and 0 at 0."""
    close(f(g=g, c=c) * (column(norm(g), g) + c), g, rtol=1e-12)
    equal(f(g=0 * g, c=c), torch.zeros_like(g))


@law("normalized_tangent")
@given(g=some.images, c=more.tangent_constants, s=some.factors)
def depends_on_the_ratio_of_tangent_and_constant(f: Function, g: Tensor, c: float, s: float) -> None:
    """N(s g; s c) = N(g; c), and each example is alone."""
    close(f(g=s * g, c=s * c), f(g=g, c=c), rtol=1e-11)
    close(f(g=g[:1], c=c), f(g=g, c=c)[:1], rtol=1e-13)


@law("adaptive_weighting")
@given(squared_norm=more.norms, log_weight=more.log_weights, dim=more.sizes)
def is_least_at_minus_the_logarithm(f: Function, squared_norm: Tensor, log_weight: Tensor, dim: int) -> None:
    """At w = -log(s/d) it is 1 + log(s/d), and nowhere less."""
    best = -(squared_norm / dim).log()
    least = f(squared_norm=squared_norm, log_weight=best, dim=dim)
    close(least, 1 - best, rtol=1e-11, atol=1e-12)
    got = f(squared_norm=squared_norm, log_weight=log_weight, dim=dim)
    needs(got >= least - 1e-6 * (1 + best.abs()), f"{got.tolist()} is below the least value {least.tolist()}")


@law("adaptive_weighting")
@given(squared_norm=more.norms, log_weight=more.log_weights, dim=more.sizes, s=some.factors)
def takes_a_factor_of_the_error_as_a_shift(
    f: Function, squared_norm: Tensor, log_weight: Tensor, dim: int, s: float
) -> None:
    """L(a s, w - log a) = L(s, w) + log a: a prior weight moves the best w and changes nothing else."""
    moved = f(squared_norm=s * squared_norm, log_weight=log_weight - math.log(s), dim=dim)
    got = f(squared_norm=squared_norm, log_weight=log_weight, dim=dim)
    close(moved, got + math.log(s), rtol=1e-11, atol=1e-10)


@law("adaptive_weighting")
@given(squared_norm=more.norms, log_weight=more.log_weights, dim=more.sizes)
def is_linear_in_the_error(f: Function, squared_norm: Tensor, log_weight: Tensor, dim: int) -> None:
    """L(0, w) = -w, and L(s, w) + w = d e^w s/d of one value, divided by d."""
    equal(f(squared_norm=0 * squared_norm, log_weight=log_weight, dim=dim), -log_weight)
    of_one = f(squared_norm=squared_norm, log_weight=log_weight, dim=1) + log_weight
    of_all = f(squared_norm=squared_norm, log_weight=log_weight, dim=dim) + log_weight
    close(of_one, log_weight.exp() * squared_norm, rtol=1e-10, atol=1e-11)
    close(dim * of_all, of_one, rtol=1e-8, atol=1e-11 * dim)


@law("scm_loss", needs=PRECISE)
@given(
    x=some.images, t=more.example_angles, velocity=some.images, log_weight=more.log_weights, c=more.tangent_constants
)
def is_the_weighted_norm_of_the_normalized_tangent(
    f: Function, x: Tensor, t: Tensor, velocity: Tensor, log_weight: Tensor, c: float
) -> None:
    """L = e^w/d (||g|| / (||g|| + c))^2 - w, g being `trigflow_tangent`."""
    got = f(network=wave, x=x, t=t, velocity=velocity, log_weight=log_weight, c=c)
    length = norm(formulas.trigflow_tangent(wave, x, t, velocity)[1])
    expected = log_weight.exp() * (length / (length + c)) ** 2 / flat(x).shape[1] - log_weight
    close(got, expected, rtol=1e-10, atol=1e-11)


@law("scm_loss", needs=("gradients", "float64"))
@given(x=some.images, t=more.example_angles, velocity=some.images, log_weight=more.log_weights, warmup=more.warmups)
def has_the_normalized_tangent_as_gradient(
    f: Function, x: Tensor, t: Tensor, velocity: Tensor, log_weight: Tensor, warmup: float
) -> None:
    """dL/dF = -2 e^w N(g)/d, and dL/dw = e^w ||N(g)||^2/d - 1."""
    leaf, w = torch.zeros_like(x, requires_grad=True), log_weight.clone().requires_grad_()
    loss = f(network=lambda y, s: wave(y, s) + leaf, x=x, t=t, velocity=velocity, log_weight=w, warmup=warmup)
    needs(isinstance(loss, Tensor) and loss.requires_grad, "the loss has no gradient")
    by_leaf, by_w = torch.autograd.grad(loss.sum(), (leaf, w), materialize_grads=True)
    g = formulas.normalized_tangent(formulas.trigflow_tangent(wave, x, t, velocity, warmup=warmup)[1])
    share = log_weight.exp() / flat(x).shape[1]
    close(by_leaf, -2 * column(share, x) * g, rtol=1e-9, atol=1e-10, what="the gradient in F is")
    close(by_w, share * norm(g) ** 2 - 1, rtol=1e-9, what="the gradient in w is")


@law("scm_loss", needs=PRECISE)
@given(x=some.images, z=some.images, t=more.example_angles, log_weight=more.log_weights, warmup=more.warmups)
def of_an_exact_consistency_function_is_minus_w(
    f: Function, x: Tensor, z: Tensor, t: Tensor, log_weight: Tensor, warmup: float
) -> None:
    """L = -w for the consistency function of data that are one point."""
    point = x[:1].expand_as(x).clone()
    at, v = (move(point, z, t) for move in (formulas.trigflow_interpolant, formulas.trigflow_velocity))
    got = f(network=point_network(point, 0.5), x=at, t=t, velocity=v, log_weight=log_weight, warmup=warmup)
    close(got, -log_weight, atol=1e-9)


# The law of the time, and the sampler.


@law("trigflow_time_density", needs=PRECISE)
@given(t=more.angles, p_mean=some.p_means, p_std=some.p_stds, sigma_data=more.data_stds)
def is_the_lognormal_density_of_the_level(
    f: Function, t: Tensor, p_mean: float, p_std: float, sigma_data: float
) -> None:
    """p(t) sin(t) cos(t) is `lognormal_density` of log(sigma_data tan(t))."""
    got = f(t=t, p_mean=p_mean, p_std=p_std, sigma_data=sigma_data) * t.sin() * t.cos()
    close(got, formulas.lognormal_density((sigma_data * t.tan()).log(), p_mean=p_mean, p_std=p_std), rtol=1e-10)


@law("trigflow_time_density", needs=PRECISE)
@given(t=more.angles, p_mean=some.p_means, p_std=some.p_stds, sigma_data=more.data_stds, s=some.factors)
def moves_with_the_scale_of_the_data(
    f: Function, t: Tensor, p_mean: float, p_std: float, sigma_data: float, s: float
) -> None:
    """p(t; P_mean + log s, s sigma_data) = p(t; P_mean, sigma_data)."""
    moved = f(t=t, p_mean=p_mean + math.log(s), p_std=p_std, sigma_data=s * sigma_data)
    close(moved, f(t=t, p_mean=p_mean, p_std=p_std, sigma_data=sigma_data), rtol=1e-9)


@law("trigflow_time_density", needs=PRECISE)
@given(p_mean=some.p_means, p_std=some.p_stds, sigma_data=more.data_stds)
def integrates_to_1(f: Function, p_mean: float, p_std: float, sigma_data: float) -> None:
    """The integral of p over (0, pi/2) is 1."""
    z = torch.linspace(-6.5, 6.5, 261, dtype=torch.float64)
    t = torch.atan((p_mean + p_std * z).exp() / sigma_data)
    inside = (t < math.pi / 2) & (t.cos() > 1e-12)
    parts = f(t=t[inside], p_mean=p_mean, p_std=p_std, sigma_data=sigma_data) * (t.sin() * t.cos())[inside]
    # With equal steps in log sigma the sum of a normal density has no error; its ends have 1e-10.
    close(parts.sum() * p_std * float(z[1] - z[0]), 1.0, rtol=1e-8)


@law("trigflow_sample")
@given(x=some.images, z=some.images, times=more.descending_angles)
def is_multistep_sampling_with_sigma_min_0(f: Function, x: Tensor, z: Tensor, times: Tensor) -> None:
    """It is CM's Algorithm 1 for x_sigma = x / cos(t), sigma_min = 0: each step adds tan(t) z."""
    noises = torch.stack([x if k % 2 else z for k in range(len(times))])

    def consistency(at: Tensor, t: Tensor) -> Tensor:
        return formulas.trigflow_parameterization(wave, at, t)

    expected = torch.zeros_like(x)
    for t, noise in zip(times, noises, strict=True):
        noisy = expected + t.tan() * noise
        expected = consistency(t.cos() * noisy, t.expand(len(x)))
    close(f(f=consistency, noises=noises, times=times), expected, rtol=1e-10, atol=1e-11 * (1 + size(x, z)))


@law("trigflow_sample")
@given(x=some.images, z=some.images, times=more.descending_angles)
def of_one_point_is_that_point(f: Function, x: Tensor, z: Tensor, times: Tensor) -> None:
    """For data that are one point every sample is the point, and f is called once for each time, in order."""
    asked: list[float] = []

    def exact(at: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t[0]))
        return x + 0 * at

    equal(f(f=exact, noises=torch.stack([z] * len(times)), times=times), x + 0.0)
    equal(len(asked), len(times), "a number of calls of")
    close(torch.tensor(asked, dtype=torch.float64), times, rtol=1e-14, what="f is called at t =")


@law("trigflow_sample")
@given(x=some.images, z=some.images, s=some.factors)
def from_a_right_angle_has_the_mean_and_the_variance_of_the_data(f: Function, x: Tensor, z: Tensor, s: float) -> None:
    """From t = pi/2 the exact f of N(m, s^2 I) gives m + s z / sigma_data."""

    def exact(at: Tensor, t: Tensor) -> Tensor:
        angle = column(t, at)
        return x + s * (at - x * angle.cos()) / torch.hypot(s * angle.cos(), 0.5 * angle.sin())

    times = torch.tensor([math.pi / 2], dtype=torch.float64)
    got = f(f=exact, noises=z[None], times=times)
    close(got, x + 2 * s * z, rtol=1e-11, atol=1e-12 * (1 + s) * (1 + size(x, z)))


LAWS: tuple[Laws, ...] = (
    has_the_level_as_tangent,
    of_the_inverse_level_is_the_rest_of_a_right_angle,
    depends_on_the_ratio_alone,
    undoes_the_time,
    times_that_of_the_other_angle_is_the_variance,
    scales_with_the_data,
    is_turned_by_a_larger_angle,
    keeps_the_sum_of_squares,
    begins_with_the_data,
    begins_with_the_noise,
    is_the_derivative_of_the_path,
    follows_the_path,
    to_0_gives_the_data,
    of_no_length_changes_nothing,
    is_x_at_0,
    is_that_of_consistency_models_for_sigma_min_0,
    of_the_velocity_is_the_data,
    calls_its_network_with_the_angle,
    is_the_derivative_of_f,
    is_affine_in_the_warm_up,
    vanishes_for_exact_consistency_functions,
    has_a_value_with_and_a_tangent_without_gradient,
    is_the_difference_quotient_of_f,
    vanishes_for_the_function_of_one_point,
    stays_between_0_and_1,
    rises_in_a_line,
    depends_on_the_ratio_of_updates,
    has_its_norm,
    keeps_the_direction,
    depends_on_the_ratio_of_tangent_and_constant,
    is_least_at_minus_the_logarithm,
    takes_a_factor_of_the_error_as_a_shift,
    is_linear_in_the_error,
    is_the_weighted_norm_of_the_normalized_tangent,
    has_the_normalized_tangent_as_gradient,
    of_an_exact_consistency_function_is_minus_w,
    is_the_lognormal_density_of_the_level,
    moves_with_the_scale_of_the_data,
    integrates_to_1,
    is_multistep_sampling_with_sigma_min_0,
    of_one_point_is_that_point,
    from_a_right_angle_has_the_mean_and_the_variance_of_the_data,
)
