"""Closed forms of iCT Section 3.2 and Appendix A, and exact consistency functions.

Oracle: sympy and mpmath for Eqs. (6), (7), (13); limits of the losses on a linear grid; scipy's DOP853 for Eq. (1).
Ingredients: sigma_grid, consistency_training_loss, consistency_matching_loss, squared_l2, pseudo_huber.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import sympy as sp
import torch
from jaxtyping import TypeCheckError
from scipy.integrate import solve_ivp
from scipy.optimize import brentq
from scipy.special import ndtr
from torch import Tensor

from ict_ref.formulas import (
    consistency_matching_loss,
    consistency_training_loss,
    ct_gradient_divergence,
    ct_gradient_divergent_term,
    ct_gradient_leading_term,
    ct_gradient_limit,
    ct_loss_limit,
    delta_consistency_function,
    gaussian_consistency_function,
    gaussian_mixture_score,
    pseudo_huber,
    squared_l2,
)

Array = npt.NDArray[Any]
THETA, THETA_MINUS, XI = 1.3, -0.4, 0.35


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def draws(seed: int, *shape: int) -> Tensor:
    return tensor(np.random.default_rng(seed).standard_normal(shape))


def over(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


# ------------------------------------------------------------------ Eqs. (6), (7), (13): sympy and mpmath

A, B, S, D = sp.symbols("a b s d", positive=True)
T, TM, X = sp.symbols("theta theta_minus xi", real=True)


@functools.cache
def uniform_mean(expression: sp.Expr) -> sp.Expr:
    return sp.integrate(sp.expand(expression), (S, A, B)) / (B - A)


def shrunk(sigma: sp.Expr, centre: sp.Expr) -> sp.Expr:
    """f_theta at the level sigma for x = xi + sigma z, without the term sigma_min z, as Appendix A writes it."""
    return A / sigma * X + (1 - A / sigma) * centre


LOSS = (shrunk(S + D, T) - shrunk(S, TM)) ** 2
CASES = [(0.002, 80.0), (0.5, 2.0), (1.0, 1.5), (0.3, 7.0)]


@pytest.mark.parametrize(("low", "high"), CASES)
def test_loss_limit_is_the_symbolic_integral_of_the_discrete_loss_as_the_step_vanishes(low: float, high: float) -> None:
    exact = uniform_mean(LOSS.subs(D, 0)).subs({A: sp.Rational(low), B: sp.Rational(high)})
    wanted = float(exact.subs({T: sp.Rational(THETA), TM: sp.Rational(THETA_MINUS), X: sp.Rational(XI)}).evalf(40))
    got = ct_loss_limit(THETA, THETA_MINUS, sigma_min=low, sigma_max=high)
    assert isinstance(got, float)
    assert got == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("low", "high"), CASES)
def test_gradient_limit_is_the_first_order_of_the_discrete_gradient_where_both_networks_agree(
    low: float, high: float
) -> None:
    slope = sp.diff(sp.diff(LOSS, T).subs(TM, T), D).subs(D, 0)
    exact = uniform_mean(slope).subs({A: sp.Rational(low), B: sp.Rational(high)})
    wanted = float(exact.subs({T: sp.Rational(THETA), X: sp.Rational(XI)}).evalf(40))
    got = ct_gradient_limit(THETA, XI, sigma_min=low, sigma_max=high)
    assert isinstance(got, float)
    assert got == pytest.approx(wanted, rel=1e-12)
    step = 0.037
    leading = ct_gradient_leading_term(THETA, XI, delta_sigma=step, sigma_min=low, sigma_max=high)
    assert isinstance(leading, float)
    assert leading == pytest.approx(step * wanted, rel=1e-12)


@pytest.mark.parametrize(("low", "high"), CASES)
def test_divergent_term_is_the_gradient_without_a_step(low: float, high: float) -> None:
    exact = uniform_mean(sp.diff(LOSS, T).subs(D, 0)).subs({A: sp.Rational(low), B: sp.Rational(high)})
    wanted = float(exact.subs({T: sp.Rational(THETA), TM: sp.Rational(THETA_MINUS), X: sp.Rational(XI)}).evalf(40))
    got = ct_gradient_divergent_term(THETA, THETA_MINUS, sigma_min=low, sigma_max=high)
    assert isinstance(got, float)
    assert got == pytest.approx(wanted, rel=1e-12)


def test_defaults_are_the_papers_levels() -> None:
    values = {"sigma_min": 0.002, "sigma_max": 80.0}
    assert ct_loss_limit(THETA, THETA_MINUS) == ct_loss_limit(THETA, THETA_MINUS, **values)
    assert ct_gradient_limit(THETA, XI) == ct_gradient_limit(THETA, XI, **values)
    short = ct_gradient_leading_term(THETA, XI, delta_sigma=0.1)
    assert short == ct_gradient_leading_term(THETA, XI, delta_sigma=0.1, **values)
    assert ct_gradient_divergent_term(THETA, THETA_MINUS) == ct_gradient_divergent_term(THETA, THETA_MINUS, **values)


RATIOS = [1e-6, 1e-5, 2.5e-5, 1e-3, 0.05, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.999, 0.9999, 0.99999, 0.999999]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("high", [80.0, 0.7])
def test_closed_forms_keep_ten_digits_for_every_ratio_of_the_levels(ratio: float, high: float) -> None:
    low = ratio * high
    with mpmath.workdps(50):
        a, b = mpmath.mpf(low), mpmath.mpf(high)
        t, tm, x = mpmath.mpf(THETA), mpmath.mpf(THETA_MINUS), mpmath.mpf(XI)
        square = (b - 2 * a * mpmath.log(b / a) - a**2 / b) / (b - a)
        slope = a / (b - a) * ((-1 / b + a / (2 * b**2)) - (-1 / a + 1 / (2 * a)))
        step = mpmath.mpf(1e-3)
        wanted = [
            float(v)
            for v in (square * (t - tm) ** 2, 2 * slope * (t - x), 2 * step * slope * (t - x), 2 * square * (t - tm))
        ]
    levels = {"sigma_min": low, "sigma_max": high}
    got = [
        ct_loss_limit(THETA, THETA_MINUS, **levels),
        ct_gradient_limit(THETA, XI, **levels),
        ct_gradient_leading_term(THETA, XI, delta_sigma=1e-3, **levels),
        ct_gradient_divergent_term(THETA, THETA_MINUS, **levels),
    ]
    assert got == pytest.approx(wanted, rel=1e-10, abs=0.0)


@pytest.mark.parametrize(("low", "high"), [(0.1, 2.0), (0.002, 80.0)])
def test_the_closed_forms_of_this_file_agree_with_quadrature(low: float, high: float) -> None:
    points = [low * (high / low) ** (k / 8) for k in range(9)]
    with mpmath.workdps(30):
        square = mpmath.quad(lambda s: (1 - low / s) ** 2, points) / (high - low)
        slope = mpmath.quad(lambda s: low / s**2 * (1 - low / s), points) / (high - low)
    levels = {"sigma_min": low, "sigma_max": high}
    assert ct_loss_limit(2.0, 1.0, **levels) == pytest.approx(float(square), rel=1e-12)
    assert ct_gradient_limit(1.0, 0.0, **levels) == pytest.approx(2 * float(slope), rel=1e-12)


def test_the_divergence_is_infinite_with_the_sign_of_theta_minus_its_teacher() -> None:
    assert ct_gradient_divergence(1.0, 0.5) == math.inf
    assert ct_gradient_divergence(0.5, 1.0) == -math.inf
    assert ct_gradient_divergence(1.0, math.nextafter(1.0, 0.0)) == math.inf
    assert ct_gradient_divergence(math.nextafter(1.0, 0.0), 1.0) == -math.inf


@pytest.mark.parametrize("theta", [0.0, THETA, -7.0])
def test_the_divergence_of_equal_networks_is_refused_in_favour_of_the_finite_limit(theta: float) -> None:
    with pytest.raises(ValueError, match=r"expected theta_minus != theta .+\. Use ct_gradient_limit where"):
        ct_gradient_divergence(theta, theta)


def test_gradient_limit_vanishes_only_at_the_truth() -> None:
    assert ct_gradient_limit(XI, XI) == 0.0
    assert ct_gradient_limit(XI + 0.1, XI) > 0.0
    assert ct_gradient_limit(XI - 0.1, XI) < 0.0


# ------------------------------------------------------------------ the losses on a linear grid

CELLS = (1000, 2000, 4000, 8000)


def discrete(
    loss_name: str, theta: float, theta_minus: float, low: float, high: float, intervals: int
) -> tuple[float, float, float]:
    """Mean over all intervals of the loss on delta data (z drops out), its gradient to theta, and the step."""
    sigmas = torch.linspace(low, high, intervals + 1, dtype=torch.float64)
    index = torch.arange(intervals)
    student_theta, teacher_theta, xi = tensor(theta).requires_grad_(), tensor(theta_minus), tensor(XI)
    z = draws(intervals, intervals)

    def student(x: Tensor, sigma: Tensor) -> Tensor:
        return delta_consistency_function(x, sigma, xi=student_theta, sigma_min=low)

    def teacher(x: Tensor, sigma: Tensor) -> Tensor:
        return delta_consistency_function(x, sigma, xi=teacher_theta, sigma_min=low)

    weights = torch.ones(intervals, dtype=torch.float64)
    if loss_name == "training":
        loss = consistency_training_loss(
            student, teacher, xi.expand(intervals), z, index, sigmas, distance=squared_l2, weights=weights
        ).mean()
    else:
        loss = consistency_matching_loss(
            student, teacher, lambda x, s: -(x - xi) / s**2, xi + sigmas[1:] * z, index, sigmas,
            distance=squared_l2, weights=weights,
        ).mean()  # fmt: skip
    (slope,) = torch.autograd.grad(loss, [student_theta])
    return loss.item(), slope.item(), (high - low) / intervals


def assert_falls_like_one_over_n(values: list[float], limit: float, at_most: float = 0.1) -> None:
    errors = [abs(v - limit) for v in values]
    assert abs(limit) * 1e-6 < errors[-1] < abs(limit) * at_most, errors
    for coarse, fine in itertools.pairwise(errors):
        assert 1.85 < coarse / fine < 2.15, errors


by_loss = pytest.mark.parametrize("loss_name", ["training", "matching"])
by_ratio = pytest.mark.parametrize("ratio", [0.05, 0.1, 0.25, 0.5])


@by_loss
@by_ratio
def test_losses_tend_to_the_loss_limit_like_one_over_n(loss_name: str, ratio: float) -> None:
    low, high = 2.0 * ratio, 2.0
    found = [discrete(loss_name, THETA, THETA_MINUS, low, high, n)[0] for n in CELLS]
    assert_falls_like_one_over_n(found, ct_loss_limit(THETA, THETA_MINUS, sigma_min=low, sigma_max=high))


@by_loss
@by_ratio
def test_scaled_gradients_of_equal_networks_tend_to_the_gradient_limit_like_one_over_n(
    loss_name: str, ratio: float
) -> None:
    low, high = 2.0 * ratio, 2.0
    runs = [discrete(loss_name, THETA, THETA, low, high, n) for n in CELLS]
    limit = ct_gradient_limit(THETA, XI, sigma_min=low, sigma_max=high)
    assert_falls_like_one_over_n([slope / step for _, slope, step in runs], limit)
    leading = [
        ct_gradient_leading_term(THETA, XI, delta_sigma=step, sigma_min=low, sigma_max=high) for _, _, step in runs
    ]
    assert_falls_like_one_over_n([run[1] / lead for run, lead in zip(runs, leading, strict=True)], 1.0)


@by_loss
@by_ratio
@pytest.mark.parametrize("theta_minus", [THETA_MINUS, 2.9])
def test_gradients_of_different_networks_tend_to_the_leading_term_and_blow_up_when_scaled(
    loss_name: str, ratio: float, theta_minus: float
) -> None:
    low, high = 2.0 * ratio, 2.0
    runs = [discrete(loss_name, THETA, theta_minus, low, high, n) for n in CELLS]
    leading = ct_gradient_divergent_term(THETA, theta_minus, sigma_min=low, sigma_max=high)
    assert_falls_like_one_over_n([slope for _, slope, _ in runs], leading)
    limit = ct_gradient_divergence(THETA, theta_minus)
    scaled = [slope / step for _, slope, step in runs]
    assert math.isinf(limit)
    assert all(s * limit > 0 for s in scaled)
    for coarse, fine in itertools.pairwise(scaled):
        assert 1.8 < fine / coarse < 2.2


# ------------------------------------------------------------------ CM, Theorem 2: both losses for a mixture

PARTS: tuple[tuple[float, float, float], ...] = ((0.3, -1.0, 0.4), (0.7, 0.8, 0.25))  # weight, mean, std


def expected_gap(intervals: int, distance: Callable[[Tensor, Tensor], Tensor], *, same_z: bool = True) -> float:
    """(L_CT - L) / Delta sigma for theta- != theta, by Gauss and Hermite's nodes for each component and for z.

    With same_z = False the teacher of L_CT has a separate z.
    """
    u, p = (tensor(part) for part in np.polynomial.hermite_e.hermegauss(28))
    v, q = (tensor(part) for part in np.polynomial.hermite_e.hermegauss(16))
    x = torch.cat([mean + std * u for _, mean, std in PARTS])
    chances = torch.cat([weight * p / p.sum() for weight, _, _ in PARTS])
    x, z, other = (part.flatten() for part in torch.meshgrid(x, v, v if not same_z else v[:1], indexing="ij"))
    of_other = q / q.sum() if not same_z else torch.ones(1).double()
    weight = (chances[:, None, None] * (q / q.sum())[:, None] * of_other).flatten()
    sigmas = torch.linspace(0.2, 1.2, intervals + 1, dtype=torch.float64)
    index = torch.arange(intervals).repeat_interleave(len(x))
    x, z, other = (part.repeat(intervals)[:, None] for part in (x, z, other))

    def student(y: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(y + 0.7) / (1 + over(sigma, y))

    def teacher(y: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(y) / (1 + over(sigma, y))

    def elsewhere(_: Tensor, sigma: Tensor) -> Tensor:
        return teacher(x + over(sigma, x) * other, sigma)

    weights, means, stds = (tensor([part[j] for part in PARTS]) for j in range(3))
    score = functools.partial(gaussian_mixture_score, means=means[:, None], stds=stds, mixture_weights=weights)
    ones, x_hi = torch.ones(intervals).double(), x + over(sigmas[index + 1], x) * z
    g = teacher if same_z else elsewhere
    training = consistency_training_loss(student, g, x, z, index, sigmas, distance=distance, weights=ones)
    matching = consistency_matching_loss(student, teacher, score, x_hi, index, sigmas, distance=distance, weights=ones)
    return float((weight.repeat(intervals) * (training - matching)).sum())


@pytest.mark.parametrize("distance", [squared_l2, functools.partial(pseudo_huber, c=0.5)], ids=["l2", "Huber"])
def test_the_training_loss_of_a_mixture_is_the_matching_loss_up_to_o_of_delta_sigma(
    distance: Callable[[Tensor, Tensor], Tensor],
) -> None:
    gaps = [expected_gap(intervals, distance) for intervals in (16, 32, 64)]
    assert 1e-4 < abs(gaps[-1]) < 0.02
    for coarse, fine in itertools.pairwise(gaps):
        assert 1.9 < coarse / fine < 2.1, gaps
    # A teacher with a separate z is equally far off for every N: divided by Delta sigma, twice as far for 2 N.
    broken = [expected_gap(intervals, distance, same_z=False) for intervals in (8, 16)]
    assert broken[1] / broken[0] == pytest.approx(2, rel=0.1)


# ------------------------------------------------------------------ exact consistency functions


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 3)], ids=["no event axes", "vector", "image"])
@pytest.mark.parametrize("sigma_min", [0.002, 0.3])
def test_consistency_function_of_a_delta_is_its_closed_form_in_50_digits(
    shape: tuple[int, ...], sigma_min: float
) -> None:
    x, xi, sigma = 10.0 * draws(1, 4, *shape), draws(2, *shape), tensor([sigma_min, 0.5, 3.0, 80.0])
    got = delta_consistency_function(x, sigma, xi=xi, sigma_min=sigma_min)
    assert got.shape == x.shape
    assert got.dtype == torch.float64
    centre = xi.expand_as(x)
    with mpmath.workdps(50):
        for at in np.ndindex(*x.shape):
            ratio = mpmath.mpf(sigma_min) / mpmath.mpf(sigma[at[0]].item())
            wanted = ratio * mpmath.mpf(x[at].item()) + (1 - ratio) * mpmath.mpf(centre[at].item())
            assert got[at].item() == pytest.approx(float(wanted), rel=1e-13, abs=1e-15)
    np.testing.assert_allclose(got[0].numpy(), x[0].numpy(), rtol=1e-15)


def test_consistency_function_of_a_delta_sends_a_gradient_to_its_centre_and_takes_sigma_min_from_the_paper() -> None:
    xi = draws(3, 2).requires_grad_()
    sigma = tensor([0.002, 0.01, 1.0])
    got = delta_consistency_function(draws(4, 3, 2), sigma, xi=xi)
    (slope,) = torch.autograd.grad(got.sum(), [xi])
    np.testing.assert_allclose(slope.numpy(), np.full(2, sum(1.0 - 0.002 / s for s in sigma.tolist())), rtol=1e-13)


def integrate(drift: Callable[[float, Array], Array], start: Array, high: float, low: float) -> Array:
    solution = solve_ivp(drift, (high, low), start, method="DOP853", rtol=1e-12, atol=1e-13)
    assert solution.success
    return np.asarray(solution.y[:, -1])


@pytest.mark.parametrize("std", [0.0, 0.1, 0.5, 3.0])
@pytest.mark.parametrize("sigma_min", [0.002, 0.05])
def test_consistency_function_of_a_gaussian_is_where_the_ode_ends(std: float, sigma_min: float) -> None:
    x, mean, sigma = 3.0 * draws(5, 4, 2), draws(6, 2), tensor([sigma_min, 0.2, 1.0, 10.0])
    got = gaussian_consistency_function(x, sigma, mean=mean, std=std, sigma_min=sigma_min).numpy()
    m = mean.numpy()
    for k, level in enumerate(sigma.tolist()):
        ended = integrate(lambda s, y: s * (y - m) / (std**2 + s**2), x[k].numpy(), level, sigma_min)
        np.testing.assert_allclose(got[k], ended, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(got[0], x[0].numpy(), rtol=1e-14)


@pytest.mark.parametrize("shape", [(), (2, 2, 2)], ids=["no event axes", "image"])
def test_consistency_function_of_a_gaussian_keeps_shapes_and_the_default_sigma_min(shape: tuple[int, ...]) -> None:
    x, mean, sigma, std = 1000.0 * draws(7, 3, *shape), draws(8, *shape), tensor([0.01, 1.0, 80.0]), 0.5
    got = gaussian_consistency_function(x, sigma, mean=mean, std=std)
    assert got.shape == x.shape
    assert got.dtype == torch.float64
    ratio = np.array([math.sqrt((0.25 + 0.002**2) / (0.25 + s * s)) for s in sigma.tolist()])
    wanted = mean.numpy() + ratio.reshape(-1, *[1] * len(shape)) * (x - mean).numpy()
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-12)


def test_a_gaussian_without_spread_is_a_delta() -> None:
    x, mean, sigma = draws(9, 5, 3), draws(10, 3), tensor([0.002, 0.01, 0.5, 4.0, 80.0])
    got = gaussian_consistency_function(x, sigma, mean=mean, std=0.0)
    np.testing.assert_allclose(got.numpy(), delta_consistency_function(x, sigma, xi=mean).numpy(), rtol=1e-12)


# ------------------------------------------------------------------ the score of a mixture


def log_density(x: list[Any], sigma: float, means: Array, stds: Array, weights: Array) -> Any:
    """log p_sigma(x) in mpmath, whose exponents are unbounded, so that it does not underflow."""
    total = mpmath.mpf(0)
    for mean, std, weight in zip(means.reshape(len(stds), -1), stds, weights, strict=True):
        variance = mpmath.mpf(float(std)) ** 2 + mpmath.mpf(sigma) ** 2
        distance = mpmath.fsum((v - mpmath.mpf(float(m))) ** 2 for v, m in zip(x, mean, strict=True))
        height = mpmath.mpf(float(weight)) / mpmath.sqrt(variance) ** len(x)
        total += height * mpmath.exp(-distance / (2 * variance))
    return mpmath.log(total)


def score_by_mpmath(x: Array, sigma: float, means: Array, stds: Array, weights: Array) -> Array:
    flat = [mpmath.mpf(float(v)) for v in x.ravel()]
    with mpmath.workdps(50):
        h = mpmath.mpf(10) ** -17
        out = []
        for k in range(len(flat)):
            up, down = list(flat), list(flat)
            up[k] += h
            down[k] -= h
            rise = log_density(up, sigma, means, stds, weights) - log_density(down, sigma, means, stds, weights)
            out.append(float(rise / (2 * h)))
    return np.array(out).reshape(x.shape)


def mixture(shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(len(shape))
    return rng.standard_normal((3, *shape)), np.array([0.0, 0.2, 0.9]), np.array([0.5, 0.2, 0.3])


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1, 2)], ids=["no event axes", "one", "vector", "image"])
@pytest.mark.parametrize("size", [1.0, 1e3], ids=["near", "far tails"])
def test_mixture_score_is_the_slope_of_the_log_density_in_50_digits(shape: tuple[int, ...], size: float) -> None:
    means, stds, weights = mixture(shape)
    levels = [0.002, 0.05, 0.4, 2.0, 80.0]
    x = size * draws(11, len(levels), *shape)
    got = gaussian_mixture_score(
        x, tensor(levels), means=tensor(means), stds=tensor(stds), mixture_weights=tensor(weights)
    )
    assert got.shape == x.shape
    assert got.dtype == torch.float64
    for k, level in enumerate(levels):
        wanted = score_by_mpmath(x[k].numpy(), level, means, stds, weights)
        np.testing.assert_allclose(got[k].numpy(), wanted, rtol=1e-9, atol=1e-10 * float(np.abs(wanted).max()))


def test_mixture_score_between_two_far_points_neither_overflows_nor_favours_the_wrong_one() -> None:
    means, stds, weights = np.array([[-1e3], [1e3]]), np.array([0.0, 0.0]), np.array([0.25, 0.75])
    x, sigma = tensor([[0.0], [1e-9], [-3.0], [3.0], [1e3], [-2e3]]), torch.full((6,), 0.5, dtype=torch.float64)
    got = gaussian_mixture_score(x, sigma, means=tensor(means), stds=tensor(stds), mixture_weights=tensor(weights))
    assert bool(torch.isfinite(got).all())
    for k in range(6):
        wanted = score_by_mpmath(x[k].numpy(), 0.5, means, stds, weights)
        np.testing.assert_allclose(got[k].numpy(), wanted, rtol=1e-9, atol=1e-6)


def test_mixture_of_one_component_has_the_score_of_a_gaussian() -> None:
    x, mean, sigma = draws(12, 4, 2, 3), draws(13, 1, 2, 3), tensor([0.002, 0.1, 1.0, 80.0])
    got = gaussian_mixture_score(x, sigma, means=mean, stds=tensor([0.5]), mixture_weights=tensor([1.0]))
    np.testing.assert_allclose(got.numpy(), ((mean - x) / (0.25 + over(sigma, x) ** 2)).numpy(), rtol=1e-12)


def score_in_numpy(x: Array, sigma: float, means: Array, stds: Array, weights: Array) -> Array:
    """Density-weighted average; safe only where the density does not underflow."""
    variance = stds**2 + sigma**2
    offset = means - x
    density = weights * np.exp(-0.5 * (offset**2).sum(1) / variance) * variance ** (-x.size / 2)
    return np.asarray((density[:, None] * offset / variance[:, None]).sum(0) / density.sum())


@pytest.mark.parametrize("low", [0.05, 0.3])
def test_probability_flow_of_a_mixture_ends_at_the_same_place_with_an_independent_score(low: float) -> None:
    means = np.array([[0.6, -0.2], [-0.5, 0.3], [0.1, 0.9]])
    stds, weights = np.array([0.25, 0.4, 0.6]), np.array([0.5, 0.2, 0.3])
    arguments = {"means": tensor(means), "stds": tensor(stds), "mixture_weights": tensor(weights)}

    def drift(s: float, y: Array) -> Array:
        return -s * gaussian_mixture_score(tensor(y)[None], tensor([s]), **arguments)[0].numpy()

    for start in ([1.5, -0.7], [-2.0, 0.4]):
        ours = integrate(drift, np.array(start), 2.0, low)
        theirs = integrate(lambda s, y: -s * score_in_numpy(y, s, means, stds, weights), np.array(start), 2.0, low)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_probability_flow_of_a_mixture_on_the_line_keeps_the_quantile() -> None:
    means, stds, weights = np.array([-1.0, 0.7]), np.array([0.3, 0.5]), np.array([0.4, 0.6])
    low, high = 0.1, 3.0

    def distribution(x: float, s: float) -> float:
        return float(np.sum(weights * ndtr((x - means) / np.sqrt(stds**2 + s**2))))

    def drift(s: float, y: Array) -> Array:
        level = torch.full((len(y),), s, dtype=torch.float64)
        score = gaussian_mixture_score(
            tensor(y), level, means=tensor(means), stds=tensor(stds), mixture_weights=tensor(weights)
        )
        return np.asarray(-s * score.numpy())

    start = np.array([-4.0, -1.0, 0.2, 2.5])
    ended = integrate(drift, start, high, low)
    for x, y in zip(start.tolist(), ended.tolist(), strict=True):
        share = distribution(x, high)
        wanted = brentq(lambda v, share=share: distribution(v, low) - share, -10.0, 10.0, xtol=1e-14)
        assert y == pytest.approx(float(wanted), abs=1e-9)


def test_probability_flow_with_one_component_ends_at_the_gaussian_consistency_function() -> None:
    mean, std, low, level = draws(14, 3), 0.4, 0.05, 5.0
    x = 4.0 * draws(15, 1, 3)
    ended = integrate(
        lambda s, y: -s
        * gaussian_mixture_score(
            tensor(y)[None], tensor([s]), means=mean[None], stds=tensor([std]), mixture_weights=tensor([1.0])
        )[0].numpy(),
        x[0].numpy(), level, low,
    )  # fmt: skip
    got = gaussian_consistency_function(x, tensor([level]), mean=mean, std=std, sigma_min=low)
    np.testing.assert_allclose(got[0].numpy(), ended, rtol=1e-9, atol=1e-10)


# ------------------------------------------------------------------ outside the domain


@pytest.mark.parametrize("level", [float("nan"), 0.0, -1.0])
def test_levels_that_are_not_positive_are_rejected(level: float) -> None:
    x, sigma, centre = draws(20, 2, 3), tensor([1.0, level]), draws(21, 3)
    with pytest.raises(ValueError, match="sigma"):
        delta_consistency_function(x, sigma, xi=centre)
    with pytest.raises(ValueError, match="sigma"):
        gaussian_consistency_function(x, sigma, mean=centre, std=0.5)
    with pytest.raises(ValueError, match="sigma"):
        gaussian_mixture_score(x, sigma, means=centre[None], stds=tensor([0.5]), mixture_weights=tensor([1.0]))


@pytest.mark.parametrize("sigma_min", [0.0, -0.1, float("nan")])
def test_a_sigma_min_that_is_not_positive_is_rejected(sigma_min: float) -> None:
    x, sigma, centre = draws(22, 2, 3), tensor([1.0, 2.0]), draws(23, 3)
    with pytest.raises(ValueError, match="sigma_min"):
        delta_consistency_function(x, sigma, xi=centre, sigma_min=sigma_min)
    with pytest.raises(ValueError, match="sigma_min"):
        gaussian_consistency_function(x, sigma, mean=centre, std=0.5, sigma_min=sigma_min)


@pytest.mark.parametrize("std", [-0.1, float("nan")])
def test_a_negative_or_nan_spread_is_rejected(std: float) -> None:
    x, sigma, centre = draws(24, 2, 3), tensor([1.0, 2.0]), draws(25, 2, 3)
    with pytest.raises(ValueError, match="std"):
        gaussian_consistency_function(x, sigma, mean=centre[0], std=std)
    with pytest.raises(ValueError, match="std"):
        gaussian_mixture_score(x, sigma, means=centre, stds=tensor([0.3, std]), mixture_weights=tensor([0.5, 0.5]))


@pytest.mark.parametrize("weights", [(0.5, 0.6), (0.4, 0.5), (1.5, -0.5), (0.5, float("nan"))])
def test_weights_that_are_negative_or_do_not_sum_to_one_are_rejected(weights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        gaussian_mixture_score(
            draws(26, 2, 3),
            tensor([1.0, 2.0]),
            means=draws(27, 2, 3),
            stds=tensor([0.3, 0.2]),
            mixture_weights=tensor(weights),
        )


def test_batches_of_different_sizes_are_rejected() -> None:
    x, sigma, centre = draws(28, 2, 3), tensor([1.0, 2.0, 3.0]), draws(29, 3)
    with pytest.raises((ValueError, TypeCheckError), match="sigma"):
        delta_consistency_function(x, sigma, xi=centre)
    with pytest.raises((ValueError, TypeCheckError), match="sigma"):
        gaussian_consistency_function(x, sigma, mean=centre, std=0.5)
    with pytest.raises((ValueError, TypeCheckError), match="sigma"):
        gaussian_mixture_score(x, sigma, means=centre[None], stds=tensor([0.5]), mixture_weights=tensor([1.0]))


def test_mixtures_with_different_numbers_of_components_are_rejected() -> None:
    x, sigma = draws(30, 2, 3), tensor([1.0, 2.0])
    with pytest.raises((ValueError, TypeCheckError), match="stds"):
        gaussian_mixture_score(
            x, sigma, means=draws(31, 2, 3), stds=tensor([0.1, 0.2, 0.3]), mixture_weights=tensor([0.5, 0.5])
        )
    with pytest.raises((ValueError, TypeCheckError), match="weights"):
        gaussian_mixture_score(
            x, sigma, means=draws(32, 2, 3), stds=tensor([0.1, 0.2]), mixture_weights=tensor([0.2, 0.3, 0.5])
        )


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_limits_need_sigma_min_below_sigma_max_and_above_zero(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        ct_loss_limit(1.0, 0.5, sigma_min=low, sigma_max=high)
    with pytest.raises(ValueError, match="sigma_min"):
        ct_gradient_limit(1.0, 0.0, sigma_min=low, sigma_max=high)
    with pytest.raises(ValueError, match="sigma_min"):
        ct_gradient_leading_term(1.0, 0.0, delta_sigma=0.1, sigma_min=low, sigma_max=high)
    with pytest.raises(ValueError, match="sigma_min"):
        ct_gradient_divergent_term(1.0, 0.5, sigma_min=low, sigma_max=high)


@pytest.mark.parametrize("step", [0.0, -0.1, float("nan")])
def test_the_leading_term_needs_a_positive_step(step: float) -> None:
    with pytest.raises(ValueError, match="delta_sigma"):
        ct_gradient_leading_term(1.0, 0.0, delta_sigma=step)


@pytest.mark.parametrize("place", [0, 1])
def test_parameters_that_are_nan_are_rejected(place: int) -> None:
    values = [1.0, 0.5]
    values[place] = math.nan
    for of_two_networks in (ct_loss_limit, ct_gradient_divergence, ct_gradient_divergent_term):
        with pytest.raises(ValueError, match=f"expected finite {('theta', 'theta_minus')[place]} "):
            of_two_networks(values[0], values[1])
    name = ("theta", "xi")[place]
    with pytest.raises(ValueError, match=f"expected finite {name} "):
        ct_gradient_limit(values[0], values[1])
    with pytest.raises(ValueError, match=f"expected finite {name} "):
        ct_gradient_leading_term(values[0], values[1], delta_sigma=0.1)
