"""Laws of ECT: the mapping and its stages, the law of the level, weights, distance and loss."""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, Need, close, equal, flat, given, law, needs, norm
from ict_ref.verify.laws import distance
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.laws import successor_strategies as more
from ict_ref.verify.vectors.values import column

PRECISE: tuple[Need, ...] = ("float64",)
"""The gap t - r cancels in float32."""


def also(laws: Laws, *functions: str) -> Laws:
    """Return a law of a distance as a law of other distances without a constant."""
    return Laws(tuple(replace(laws.of[0], function=name, passed_on={}) for name in functions))


# The mapping.


@law("ect_mapping", needs=PRECISE)
@given(t=more.levels, exponent=more.exponents, q=more.qs, k=more.ks, b=more.bs)
def lies_between_0_and_the_level(f: Function, t: Tensor, exponent: int, q: float, k: float, b: float) -> None:
    """0 <= r(t) < t, at every exponent."""
    r = f(t=t, exponent=exponent, q=q, k=k, b=b)
    needs((r >= 0) & (r < t), f"r = {r.tolist()} of t = {t.tolist()}")


@law("ect_mapping", needs=PRECISE)
@given(t=more.levels, exponent=more.exponents, q=more.qs, k=more.ks, b=more.bs)
def shrinks_its_gap_by_q_at_each_stage(f: Function, t: Tensor, exponent: int, q: float, k: float, b: float) -> None:
    """q (t - r(a + 1)) = t - r(a) where r(a) > 0; a later stage never has a lower r."""
    now, later = (f(t=t, exponent=a, q=q, k=k, b=b) for a in (exponent, exponent + 1))
    needs(later >= now, "r falls from one stage to the next")
    above = now > 0
    # The gaps are differences of numbers of the size of t.
    close((q * (t - later))[above], (t - now)[above], rtol=1e-14 * q ** (exponent + 2))


@law("ect_mapping", needs=PRECISE)
@given(t=more.levels, exponent=more.exponents, q=more.qs, k=more.ks, b=more.bs, s=some.factors)
def scales_with_the_levels(f: Function, t: Tensor, exponent: int, q: float, k: float, b: float, s: float) -> None:
    """r(s t; b/s) = s r(t; b)."""
    expected = s * f(t=t, exponent=exponent, q=q, k=k, b=b)
    close(f(t=s * t, exponent=exponent, q=q, k=k, b=b / s), expected, rtol=1e-12, atol=1e-13 * s * float(t.max()))


@law("ect_mapping", needs=PRECISE)
@given(exponent=more.exponents, q=more.qs, k=more.ks, b=more.bs)
def has_a_fixed_ratio_for_high_levels(f: Function, exponent: int, q: float, k: float, b: float) -> None:
    """r/t = 1 - q^-a for b t to infinity."""
    t = torch.tensor([50.0, 100.0], dtype=torch.float64) / b
    close(f(t=t, exponent=exponent, q=q, k=k, b=b) / t, torch.full_like(t, 1 - q**-exponent), rtol=1e-12)


@law("ect_mapping", needs=PRECISE)
@given(exponent=more.exponents, q=more.qs, k=more.ks, b=more.bs)
def is_0_up_to_its_threshold(f: Function, exponent: int, q: float, k: float, b: float) -> None:
    """r = 0 if and only if t <= log(k/(q^a - 1) - 1)/b."""
    ratio = k / (q**exponent - 1) - 1
    border = math.log(ratio) / b if ratio > 1 else 0.0
    t = torch.tensor([border + 1e-3, border + 1.0], dtype=torch.float64)
    needs(f(t=t, exponent=exponent, q=q, k=k, b=b) > 0, f"r = 0 above t = {border}")
    if border > 2e-3:
        below = torch.tensor([border / 2, border - 1e-3], dtype=torch.float64)
        equal(f(t=below, exponent=exponent, q=q, k=k, b=b), torch.zeros(2, dtype=torch.float64), "r =")


@law("ect_mapping", needs=PRECISE)
@given(t=more.levels, exponent=more.exponents, q=more.qs, k=more.ks, b=more.bs)
def does_not_fall(f: Function, t: Tensor, exponent: int, q: float, k: float, b: float) -> None:
    """r(t) <= r(t') for t < t'."""
    low, high = (f(t=scale * t, exponent=exponent, q=q, k=k, b=b) for scale in (1.0, 1.5))
    needs(high >= low - 1e-13 * t, "r falls as t rises")


# The stages.


@law("ect_exponent")
@given(steps_per_stage=more.stage_lengths, stage=more.stages)
def changes_at_multiples_of_d(f: Function, steps_per_stage: int, stage: int) -> None:
    """a = s + 1 for k = s d, ..., (s + 1) d - 1."""
    first, last = stage * steps_per_stage, (stage + 1) * steps_per_stage - 1
    got = [f(step=step, steps_per_stage=steps_per_stage) for step in (first, last)]
    equal(torch.tensor(got), torch.tensor([stage + 1, stage + 1]), "a =")


@law("ect_exponent")
@given(step=more.updates, steps_per_stage=more.stage_lengths, stage=more.stages)
def rises_by_one_in_each_stage(f: Function, step: int, steps_per_stage: int, stage: int) -> None:
    """a(k + s d) = a(k) + s."""
    later = f(step=step + stage * steps_per_stage, steps_per_stage=steps_per_stage)
    equal(later, f(step=step, steps_per_stage=steps_per_stage) + stage, "a =")


@law("ect_exponent")
@given(step=more.updates, steps_per_stage=more.stage_lengths)
def is_a_whole_number_from_1(f: Function, step: int, steps_per_stage: int) -> None:
    """a is a whole number, 1 at k = 0, and at least 1."""
    got = f(step=step, steps_per_stage=steps_per_stage)
    needs(isinstance(got, int) and got >= 1, f"a = {got}")
    equal(f(step=0, steps_per_stage=steps_per_stage), 1, "a(0) =")


# The law of the level.


def probability_below(sigma: Tensor | float, p_mean: float, p_std: float) -> Tensor:
    """Return the probability of a lower level."""
    z = (torch.as_tensor(sigma, dtype=torch.float64).log() - p_mean) / p_std
    found: Tensor = torch.special.ndtr(z)
    return found


@law("lognormal_level", needs=PRECISE)
@given(u=more.inner_uniforms, p_mean=more.level_means, p_std=more.level_stds)
def has_the_probability_u_below_it(f: Function, u: Tensor, p_mean: float, p_std: float) -> None:
    """P(level < level(u)) = u, without a cut and cut to [0.002, 80]."""
    close(probability_below(f(u=u, p_mean=p_mean, p_std=p_std), p_mean, p_std), u, rtol=1e-9)
    cut = f(u=u, p_mean=p_mean, p_std=p_std, sigma_min=0.002, sigma_max=80.0)
    low, at, high = (probability_below(sigma, p_mean, p_std) for sigma in (0.002, cut, 80.0))
    close((at - low) / (high - low), u, rtol=1e-9, atol=1e-12)


@law("lognormal_level", needs=PRECISE)
@given(u=more.inner_uniforms, p_mean=more.level_means, p_std=more.level_stds)
def rises_and_stays_in_its_range(f: Function, u: Tensor, p_mean: float, p_std: float) -> None:
    """sigma_min <= level(u) <= sigma_max, and level(u) < level(u') for u < u'."""
    levels = f(u=torch.unique(u), p_mean=p_mean, p_std=p_std, sigma_min=0.1, sigma_max=2.0)
    needs((levels >= 0.1 * (1 - 1e-12)) & (levels <= 2 * (1 + 1e-12)), f"levels {levels.tolist()} outside [0.1, 2]")
    needs(levels.diff() > 0, "the levels do not rise with u")


@law("lognormal_level", needs=PRECISE)
@given(u=more.inner_uniforms, p_mean=more.level_means, p_std=more.level_stds, s=some.factors)
def scales_with_its_mean_and_ends(f: Function, u: Tensor, p_mean: float, p_std: float, s: float) -> None:
    """P_mean + log s, s sigma_min and s sigma_max give s times the level."""
    levels = f(u=u, p_mean=p_mean, p_std=p_std, sigma_min=0.002, sigma_max=80.0)
    scaled = f(u=u, p_mean=p_mean + math.log(s), p_std=p_std, sigma_min=0.002 * s, sigma_max=80.0 * s)
    close(scaled, s * levels, rtol=1e-9)


@law("lognormal_level", needs=PRECISE)
@given(u=more.inner_uniforms, sigmas=some.grids, p_mean=more.level_means, p_std=more.level_stds)
def gathered_in_intervals_is_the_law_of_the_grid(
    f: Function, u: Tensor, sigmas: Tensor, p_mean: float, p_std: float
) -> None:
    """The level of u, cut to the grid, lies in the interval that u draws by `lognormal_pmf`."""
    ends = {"sigma_min": float(sigmas[0]), "sigma_max": float(sigmas[-1])}
    levels = f(u=u, p_mean=p_mean, p_std=p_std, **ends)
    pmf = formulas.lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    index = formulas.index_from_uniform(u, pmf)
    near = 1e-9 * levels
    low, high = sigmas[index], sigmas[index + 1]
    needs((levels > low - near) & (levels < high + near), f"levels {levels.tolist()} are in other intervals")


# Weights.


@law("gap_weights", needs=PRECISE)
@given(t=more.example_levels, ratio=more.ratios)
def times_the_gap_is_1(f: Function, t: Tensor, ratio: Tensor) -> None:
    """w (t - r) = 1."""
    close(f(t=t, r=ratio * t) * (t - ratio * t), torch.ones_like(t), rtol=1e-14)


@law("gap_weights", needs=PRECISE)
@given(t=more.example_levels, ratio=more.ratios, s=some.factors)
def falls_with_the_scale(f: Function, t: Tensor, ratio: Tensor, s: float) -> None:
    """w(s t, s r) = w(t, r) / s."""
    close(f(t=s * t, r=s * (ratio * t)), f(t=t, r=ratio * t) / s, rtol=1e-11)


@law("gap_weights", needs=PRECISE)
@given(sigmas=some.grids)
def of_neighbouring_levels_is_the_weight_of_the_grid(f: Function, sigmas: Tensor) -> None:
    """w(sigma_{i+1}, sigma_i) = lambda(sigma_i) = 1/(sigma_{i+1} - sigma_i)."""
    close(f(t=sigmas[1:], r=sigmas[:-1]), formulas.inverse_gap_weights(sigmas), rtol=1e-14)


@law("snr_weights")
@given(t=more.levels, sigma_data=some.sigma_datas)
def makes_the_square_of_c_out_1(f: Function, t: Tensor, sigma_data: float) -> None:
    """w c_out^2 = 1 with EDM's c_out = t sigma_data / sqrt(t^2 + sigma_data^2)."""
    c_out = t * sigma_data / (t**2 + sigma_data**2).sqrt()
    close(f(t=t, sigma_data=sigma_data) * c_out**2, torch.ones_like(t), rtol=1e-13)


@law("snr_weights")
@given(t=more.levels, sigma_data=some.sigma_datas, s=some.factors)
def falls_with_the_square_of_the_scale(f: Function, t: Tensor, sigma_data: float, s: float) -> None:
    """w(s t; s sigma_data) = w(t; sigma_data) / s^2."""
    expected = f(t=t, sigma_data=sigma_data) / s**2
    close(f(t=s * t, sigma_data=s * sigma_data), expected, rtol=1e-12)


@law("snr_weights", needs=PRECISE)
@given(sigma_data=some.sigma_datas)
def falls_to_that_of_the_data(f: Function, sigma_data: float) -> None:
    """w falls in t, to 1/sigma_data^2."""
    got = f(t=torch.tensor([1e-3, 1e9], dtype=torch.float64) * sigma_data, sigma_data=sigma_data)
    needs(got[0] > 100 * got[1], "w does not fall in t")
    close(got[1], 1 / sigma_data**2, rtol=1e-13)


@law("adaptive_weights")
@given(x=some.images, y=some.images, c=some.huber_constants, p=more.powers, q=more.powers)
def of_a_sum_of_exponents_is_the_product(f: Function, x: Tensor, y: Tensor, c: float, p: float, q: float) -> None:
    """w(p + p') = w(p) w(p'), one value per example, and w(0) = 1."""
    one, other, both = (f(x=x, y=y, c=c, p=power) for power in (p, q, p + q))
    close(both, one * other, rtol=1e-11)
    equal(f(x=x, y=y, c=c, p=0.0), torch.ones(len(x), dtype=torch.float64), "w(0) =")


@law("adaptive_weights", needs=PRECISE)
@given(x=some.images, y=some.images, c=some.huber_constants)
def makes_the_gradient_of_squared_l2_that_of_pseudo_huber(f: Function, x: Tensor, y: Tensor, c: float) -> None:
    """grad pseudo_huber = w/2 grad squared_l2 for p = 1/2."""
    at = x.clone().requires_grad_()
    (huber,) = torch.autograd.grad(formulas.pseudo_huber(at, y, c=c).sum(), at)
    weights = f(x=x, y=y, c=c, p=0.5)
    close(column(weights, x) * (x - y), huber, rtol=1e-11, what="w/2 grad squared_l2 is")
    close(f(x=x, y=x, c=c, p=0.5), torch.full((len(x),), 1 / c, dtype=torch.float64), rtol=1e-12)


@law("adaptive_weights", needs=("gradients",))
@given(x=some.images, y=some.images, c=some.huber_constants, p=more.powers)
def carries_no_gradient_of_its_distance(f: Function, x: Tensor, y: Tensor, c: float, p: float) -> None:
    """w is a constant for the optimizer, and at most c^-2p."""
    got = f(x=x.clone().requires_grad_(), y=y.clone().requires_grad_(), c=c, p=p)
    needs(not (isinstance(got, Tensor) and got.requires_grad), "the weights have a gradient")
    needs(got <= c ** (-2 * p) * (1 + 1e-6), f"w = {got.tolist()}, above c^-2p = {c ** (-2 * p)}")


# The distance.


@law("l2")
@given(x=some.images, y=some.images)
def squared_is_the_sum_of_squares(f: Function, x: Tensor, y: Tensor) -> None:
    """d(x, y)^2 is the sum of the squares."""
    close(f(x=x, y=y) ** 2, flat(x - y).square().sum(1), rtol=1e-12)


@law("l2")
@given(x=some.images, y=some.images, a=some.factors)
def scales_by_the_factor(f: Function, x: Tensor, y: Tensor, a: float) -> None:
    """d(a x, a y) = a d(x, y)."""
    close(f(x=a * x, y=a * y), a * f(x=x, y=y), rtol=1e-11)


@law("l2", needs=("gradients",))
@given(x=some.images, y=some.images)
def has_a_unit_vector_as_gradient(f: Function, x: Tensor, y: Tensor) -> None:
    """grad d in x is (x - y)/||x - y||_2, and 0, not a NaN, where x = y."""
    x, y = torch.cat([x, y[:1]]), torch.cat([y, y[:1]])
    at = x.clone().requires_grad_()
    d = f(x=at, y=y)
    needs(isinstance(d, Tensor) and d.requires_grad, "the distance has no gradient")
    (gradient,) = torch.autograd.grad(d.sum(), at)
    length = column(norm(x - y), x)
    close(gradient, torch.where(length > 0, (x - y) / length, 0), rtol=1e-11, what="the gradient is")


@law("l2", needs=PRECISE)
@given(x=some.images, y=some.images)
def is_the_limit_of_pseudo_huber(f: Function, x: Tensor, y: Tensor) -> None:
    """0 <= d - pseudo_huber <= c, for every c."""
    d = f(x=x, y=y)
    for c in (1e-1, 1e-3, 1e-6):
        rest = d - formulas.pseudo_huber(x, y, c=c)
        slack = 1e-12 * d
        needs((rest >= -slack) & (rest <= c + slack), f"d - pseudo_huber = {rest.tolist()} for c = {c}")


# The loss.


class Tuned:
    """f(x, t) = theta x / (1 + t), with a record of its calls."""

    def __init__(self, theta: float = 0.7, *, gradient: bool = False) -> None:
        self.theta = torch.tensor(theta, dtype=torch.float64, requires_grad=gradient)
        self.calls: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return f(x, t)."""
        self.calls.append((x.detach(), t.detach()))
        return self.theta * x / (1 + column(t, x))


def squared(x: Tensor, y: Tensor) -> Tensor:
    """Return ||x - y||_2^2."""
    return flat(x - y).square().sum(1)


is_symmetric_and_one_value_per_example = also(distance.is_symmetric_and_one_value_per_example, "l2")
is_0_for_equals = also(distance.is_0_for_equals, "l2")
sees_each_example_whole_and_alone = also(distance.sees_each_example_whole_and_alone, "l2")
hides_no_nan = also(distance.hides_no_nan, "l2")


@law("consistency_tuning_loss", needs=("float32",))
@given(x=some.images, z=some.images, t=more.example_levels, ratio=more.ratios_above_0)
def compares_two_levels_of_one_path(f: Function, x: Tensor, z: Tensor, t: Tensor, ratio: Tensor) -> None:
    """The student is called at (x + t z, t), the teacher at (x + r z, r)."""
    student, teacher, r = Tuned(), Tuned(), ratio * t
    f(student=student, teacher=teacher, x=x, z=z, t=t, r=r, distance=squared, weights=torch.ones_like(t))
    for calls, level, role in ((student.calls, t, "student"), (teacher.calls, r, "teacher")):
        equal(len(calls), 1, f"a number of calls of the {role} of")
        at, asked = calls[0]
        close(asked, level, rtol=1e-14, what=f"the {role} is called at the level")
        expected = x + column(level, x) * z
        close(at, expected, rtol=1e-12, atol=1e-12 * float(expected.abs().max()), what=f"the {role} is called at x =")


@law("consistency_tuning_loss")
@given(x=some.images, z=some.images, t=more.example_levels, weights=more.weights)
def denoises_where_the_lower_level_is_0(f: Function, x: Tensor, z: Tensor, t: Tensor, weights: Tensor) -> None:
    """For r = 0 it is w d(f(x + t z, t), x), and the teacher is not called at level 0."""
    student, teacher = Tuned(), Tuned(5.0)
    given_: dict[str, object] = {"distance": squared, "weights": weights}
    got = f(student=student, teacher=teacher, x=x, z=z, t=t, r=torch.zeros_like(t), **given_)
    value = Tuned()(x + column(t, x) * z, t)
    # The difference of value and x is rounded by the size of its terms.
    size = weights * flat(value.abs() + x.abs()).square().sum(1)
    close(got, weights * squared(value, x), rtol=1e-11, atol=1e-14 * float(size.max()))
    needs(all(bool((level > 0).all()) for _, level in teacher.calls), "the teacher is called at level 0")


@law("consistency_tuning_loss", needs=("gradients", "float32"))
@given(x=some.images, z=some.images, t=more.example_levels, ratio=more.ratios_above_0)
def sends_no_gradient_to_its_target(f: Function, x: Tensor, z: Tensor, t: Tensor, ratio: Tensor) -> None:
    """d loss / d theta- = 0."""
    student, teacher = Tuned(gradient=True), Tuned(0.4, gradient=True)
    weights = torch.ones_like(t)
    loss = f(student=student, teacher=teacher, x=x, z=z, t=t, r=ratio * t, distance=squared, weights=weights)
    needs(isinstance(loss, Tensor) and loss.requires_grad, "the loss has no gradient: nothing reaches the student")
    torch.autograd.backward(loss.sum())
    needs(student.theta.grad is not None, "no gradient reaches the student")
    needs(teacher.theta.grad is None or float(teacher.theta.grad) == 0, "a gradient passes through the teacher")


@law("consistency_tuning_loss")
@given(x=some.images, z=some.images, index=some.intervals, sigmas=some.grids)
def on_a_grid_is_the_training_loss(f: Function, x: Tensor, z: Tensor, index: Tensor, sigmas: Tensor) -> None:
    """For neighbouring levels and the grid's weights it is `consistency_training_loss`."""
    student, teacher, weights = Tuned(), Tuned(0.4), formulas.inverse_gap_weights(sigmas)
    t, r = sigmas[index + 1], sigmas[index]
    got = f(student=student, teacher=teacher, x=x, z=z, t=t, r=r, distance=squared, weights=weights[index])
    of_grid = partial(formulas.consistency_training_loss, student, teacher, x, z, index, sigmas, distance=squared)
    terms = [flat(Tuned()(x + column(s, x) * z, s).abs()).square().sum(1) for s in (t, r)]
    size = weights[index] * (terms[0] + terms[1])
    close(got, of_grid(weights=weights), rtol=1e-11, atol=1e-14 * float(size.max()))


@law("consistency_tuning_loss")
@given(x=some.images, z=some.images, t=more.example_levels, ratio=more.ratios)
def vanishes_for_the_function_of_one_point(f: Function, x: Tensor, z: Tensor, t: Tensor, ratio: Tensor) -> None:
    """For data that are one point xi, the consistency function is xi at every level, and its loss is 0."""
    point = x[:1].expand_as(x).clone()

    def exact(at: Tensor, level: Tensor) -> Tensor:
        needs(level > 0, "the consistency function is called at level 0")
        return point + 0 * at

    weights, zero = 1 / (t - ratio * t), torch.zeros_like(t)
    got = f(student=exact, teacher=exact, x=point, z=z, t=t, r=ratio * t, distance=squared, weights=weights)
    equal(got, zero)


LAWS: tuple[Laws, ...] = (
    lies_between_0_and_the_level,
    shrinks_its_gap_by_q_at_each_stage,
    scales_with_the_levels,
    has_a_fixed_ratio_for_high_levels,
    is_0_up_to_its_threshold,
    does_not_fall,
    changes_at_multiples_of_d,
    rises_by_one_in_each_stage,
    is_a_whole_number_from_1,
    has_the_probability_u_below_it,
    rises_and_stays_in_its_range,
    scales_with_its_mean_and_ends,
    gathered_in_intervals_is_the_law_of_the_grid,
    times_the_gap_is_1,
    falls_with_the_scale,
    of_neighbouring_levels_is_the_weight_of_the_grid,
    makes_the_square_of_c_out_1,
    falls_with_the_square_of_the_scale,
    falls_to_that_of_the_data,
    of_a_sum_of_exponents_is_the_product,
    makes_the_gradient_of_squared_l2_that_of_pseudo_huber,
    carries_no_gradient_of_its_distance,
    squared_is_the_sum_of_squares,
    scales_by_the_factor,
    has_a_unit_vector_as_gradient,
    is_the_limit_of_pseudo_huber,
    is_symmetric_and_one_value_per_example,
    is_0_for_equals,
    sees_each_example_whole_and_alone,
    hides_no_nan,
    compares_two_levels_of_one_path,
    denoises_where_the_lower_level_is_0,
    sends_no_gradient_to_its_target,
    on_a_grid_is_the_training_loss,
    vanishes_for_the_function_of_one_point,
)
