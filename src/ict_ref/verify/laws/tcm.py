"""Laws of truncated consistency models (TCM)."""

import math

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, Need, close, equal, given, law, needs
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.laws import successor_strategies as more
from ict_ref.verify.vectors.values import column

PRECISE: tuple[Need, ...] = ("float64",)


def first(x: Tensor, sigma: Tensor) -> Tensor:
    """Return f0(x, sigma)."""
    return 0.3 * x / (1 + column(sigma, x))


def second(x: Tensor, sigma: Tensor) -> Tensor:
    """Return f(x, sigma)."""
    return 0.7 * x - column(sigma, x)


@law("truncated")
@given(x=some.images, sigma=more.example_levels, sigma_cut=more.cuts)
def is_each_function_on_its_side(f: Function, x: Tensor, sigma: Tensor, sigma_cut: float) -> None:
    """f from the cut on, f0 below, for each example alone."""
    got = f(f=second, f0=first, x=x, sigma=sigma, sigma_cut=sigma_cut)
    clearly = (sigma / sigma_cut).log().abs() > 1e-3
    expected = torch.where(column(sigma, x) > sigma_cut, second(x, sigma), first(x, sigma))
    close(got[clearly], expected[clearly], rtol=1e-12, atol=1e-13 * float(x.abs().max()))


@law("truncated", needs=("float32",))
@given(x=some.images, sigma=more.example_levels)
def belongs_to_f_at_the_cut(f: Function, x: Tensor, sigma: Tensor) -> None:
    """At sigma = sigma_cut it is f; for a cut below all levels it is f everywhere."""
    at_cut = torch.full_like(sigma, 1.5)
    equal(f(f=second, f0=first, x=x, sigma=at_cut, sigma_cut=1.5), second(x, at_cut))
    equal(f(f=second, f0=first, x=x, sigma=sigma, sigma_cut=2.0**-10), second(x, sigma))


@law("truncated", needs=("gradients",))
@given(x=some.images, sigma=more.example_levels, sigma_cut=more.cuts)
def sends_no_gradient_below_the_cut(f: Function, x: Tensor, sigma: Tensor, sigma_cut: float) -> None:
    """Examples below the cut have a gradient of exactly 0 in f, and f0 gets none."""
    ours = torch.ones_like(x, requires_grad=True)
    theirs = torch.ones_like(x, requires_grad=True)
    got = f(f=lambda x, _: ours * (x + 1), f0=lambda x, _: theirs * x, x=x, sigma=sigma, sigma_cut=sigma_cut)
    needs(isinstance(got, Tensor) and got.requires_grad, "no gradient reaches f")
    by_f, by_f0 = torch.autograd.grad(got.sum(), (ours, theirs), materialize_grads=True)
    needs(by_f0 == 0, "a gradient reaches f0")
    clearly = (sigma / sigma_cut).log().abs() > 1e-3
    expected = torch.where(column(sigma, x) > sigma_cut, x + 1, 0)
    close(by_f[clearly], expected[clearly], rtol=1e-12, what="the gradient in f is")


def probability(level: Tensor, loc: float, scale: float, dof: float) -> Tensor:
    """Return the integral of Student's density from 1 to each level, without its constant, by the trapezoidal rule."""
    x = (torch.as_tensor(level).log() - loc) / scale
    low, high = math.asinh(-loc / scale / math.sqrt(dof)), torch.asinh(x / math.sqrt(dof))
    h = low + (high - low)[:, None] * torch.linspace(0, 1, 2001, dtype=torch.float64)
    return torch.trapezoid(h.cosh() ** -dof, h, dim=1)


@law("log_student_t_level", needs=PRECISE)
@given(u=more.inner_uniforms, loc=more.centres, scale=more.scales, dof=more.dofs)
def has_the_probability_u_below_it(f: Function, u: Tensor, loc: float, scale: float, dof: float) -> None:
    """P(level < level(u)) = u, cut to [1, 80]."""
    levels = f(u=u, loc=loc, scale=scale, dof=dof)
    ends = probability(torch.tensor([80.0], dtype=torch.float64), loc, scale, dof)
    # The trapezoidal rule has an error of the square of its step.
    close(probability(levels, loc, scale, dof) / ends, u, rtol=1e-2, atol=2e-3)


@law("log_student_t_level", needs=PRECISE)
@given(u=more.inner_uniforms, loc=more.centres, scale=more.scales, dof=more.dofs)
def rises_and_stays_in_its_range(f: Function, u: Tensor, loc: float, scale: float, dof: float) -> None:
    """sigma_min <= level(u) <= sigma_max, and level(u) < level(u') for u < u'."""
    levels = f(u=torch.unique(u), loc=loc, scale=scale, dof=dof, sigma_min=0.5, sigma_max=4.0)
    needs((levels >= 0.5 * (1 - 1e-12)) & (levels <= 4 * (1 + 1e-12)), f"levels {levels.tolist()} outside [0.5, 4]")
    needs(levels.diff() > 0, "the levels do not rise with u")


@law("log_student_t_level", needs=PRECISE)
@given(u=more.inner_uniforms, loc=more.centres, scale=more.scales, dof=more.dofs, s=some.factors)
def scales_with_its_centre_and_ends(f: Function, u: Tensor, loc: float, scale: float, dof: float, s: float) -> None:
    """loc + log s, s sigma_min and s sigma_max give s times the level."""
    levels = f(u=u, loc=loc, scale=scale, dof=dof, sigma_min=1.0, sigma_max=80.0)
    scaled = f(u=u, loc=loc + math.log(s), scale=scale, dof=dof, sigma_min=s, sigma_max=80.0 * s)
    close(scaled, s * levels, rtol=1e-9)


@law("log_student_t_level", needs=PRECISE)
@given(u=more.inner_uniforms, loc=more.centres, scale=more.level_stds)
def of_many_degrees_of_freedom_is_lognormal(f: Function, u: Tensor, loc: float, scale: float) -> None:
    """For nu to infinity it is `lognormal_level` with the same cut, with an error of 1/nu."""
    ends = {"sigma_min": 0.1, "sigma_max": 40.0}
    expected = formulas.lognormal_level(u, p_mean=loc, p_std=scale, **ends).log()
    for dof in (1e4, 1e6):
        got = f(u=u, loc=loc, scale=scale, dof=dof, **ends).log()
        needs((got - expected).abs() <= 100 / dof, f"log sigma = {got.tolist()}, should be near {expected.tolist()}")


@law("log_student_t_density", needs=PRECISE)
@given(u=more.inner_uniforms, loc=more.centres, scale=more.scales, dof=more.dofs)
def is_the_slope_of_the_probability(f: Function, u: Tensor, loc: float, scale: float, dof: float) -> None:
    """p du/dp: p(log level(u)) d log level(u) / du = 1, by a central difference."""
    inner = 0.05 + 0.9 * u
    h = 1e-5
    ahead, at, behind = (
        formulas.log_student_t_level(inner + s, loc=loc, scale=scale, dof=dof).log() for s in (h, 0.0, -h)
    )
    close(f(log_sigma=at, loc=loc, scale=scale, dof=dof) * (ahead - behind) / (2 * h), torch.ones_like(u), rtol=1e-4)


@law("log_student_t_density", needs=PRECISE)
@given(log_sigma=some.log_sigmas, loc=more.centres, scale=more.scales, dof=more.dofs, s=some.factors)
def moves_with_its_centre_and_ends(
    f: Function, log_sigma: Tensor, loc: float, scale: float, dof: float, s: float
) -> None:
    """p(log sigma + log s; loc + log s, s sigma_min, s sigma_max) = p(log sigma)."""
    shift = math.log(s)
    inside = log_sigma.clamp(0.01, 4.3)
    moved = f(log_sigma=inside + shift, loc=loc + shift, scale=scale, dof=dof, sigma_min=s, sigma_max=80.0 * s)
    close(moved, f(log_sigma=inside, loc=loc, scale=scale, dof=dof), rtol=1e-8)


@law("log_student_t_density", needs=PRECISE)
@given(log_sigma=some.log_sigmas, loc=more.centres, scale=more.scales, dof=more.dofs)
def is_0_out_of_range_and_falls_from_its_centre(
    f: Function, log_sigma: Tensor, loc: float, scale: float, dof: float
) -> None:
    """p = 0 below sigma_min and above sigma_max; inside p (1 + x^2/nu)^((nu + 1)/2) is one number."""
    got = f(log_sigma=log_sigma, loc=loc, scale=scale, dof=dof)
    outside = (log_sigma < -1e-9) | (log_sigma > math.log(80.0) + 1e-9)
    equal(got[outside], torch.zeros_like(got[outside]), "p =")
    at = torch.tensor([0.25, 1.0, 4.0], dtype=torch.float64)
    ratio = f(log_sigma=at, loc=loc, scale=scale, dof=dof) * (1 + ((at - loc) / scale) ** 2 / dof) ** ((dof + 1) / 2)
    close(ratio, ratio[:1].expand(3), rtol=1e-9)
    needs(ratio > 0, "p is not positive")


@law("truncated_weights")
@given(boundary=more.boundaries, boundary_weight=more.boundary_weights)
def makes_each_part_a_mean(f: Function, boundary: Tensor, boundary_weight: float) -> None:
    """The mean of weight times loss over the batch is mean_C + w_b mean_B."""
    losses = torch.linspace(1.0, 3.0, len(boundary), dtype=torch.float64)
    got = (f(boundary=boundary, boundary_weight=boundary_weight) * losses).mean()
    close(got, losses[~boundary].mean() + boundary_weight * losses[boundary].mean(), rtol=1e-13)


@law("truncated_weights")
@given(boundary=more.boundaries, boundary_weight=more.boundary_weights)
def turns_with_the_batch(f: Function, boundary: Tensor, boundary_weight: float) -> None:
    """The weights belong to their examples, in whatever order these are."""
    got = f(boundary=boundary.flip(0), boundary_weight=boundary_weight)
    close(got, f(boundary=boundary, boundary_weight=boundary_weight).flip(0), rtol=1e-14)
    needs(got[~boundary.flip(0)] > 0, "a weight inside is not positive")


@law("truncated_weights")
@given(boundary=more.boundaries)
def is_the_plain_mean_for_the_ratio_of_the_counts(f: Function, boundary: Tensor) -> None:
    """For w_b = N_B / N_C all weights are B / N_C."""
    outer = int(boundary.sum())
    inner = len(boundary) - outer
    got = f(boundary=boundary, boundary_weight=outer / inner)
    close(got, torch.full((len(boundary),), len(boundary) / inner, dtype=torch.float64), rtol=1e-14)


LAWS: tuple[Laws, ...] = (
    is_each_function_on_its_side,
    belongs_to_f_at_the_cut,
    sends_no_gradient_below_the_cut,
    has_the_probability_u_below_it,
    rises_and_stays_in_its_range,
    scales_with_its_centre_and_ends,
    of_many_degrees_of_freedom_is_lognormal,
    is_the_slope_of_the_probability,
    moves_with_its_centre_and_ends,
    is_0_out_of_range_and_falls_from_its_centre,
    makes_each_part_a_mean,
    turns_with_the_batch,
    is_the_plain_mean_for_the_ratio_of_the_counts,
)
