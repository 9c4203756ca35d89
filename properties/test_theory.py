"""Laws of the exact consistency functions, of the mixture's score, and of Proposition 1's limits."""

import math
from collections.abc import Callable
from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, example, given
from torch import Tensor

from ict_ref.formulas import (
    consistency_training_loss,
    ct_gradient_divergence,
    ct_gradient_divergent_term,
    ct_gradient_leading_term,
    ct_gradient_limit,
    ct_loss_limit,
    delta_consistency_function,
    gaussian_consistency_function,
    gaussian_mixture_score,
    sigma_grid,
    squared_l2,
)
from properties.law_of import law_of
from properties.strategies import dtypes, levels_of, rotation, seeds, tensor_lists

stds = st.floats(0.05, 5.0)
values = st.floats(-10.0, 10.0)
# Section 3.2's limits show at feasible N only where sigma_min is not far below sigma_max.
ends = st.tuples(st.floats(0.05, 0.5), st.floats(0.1, 10.0)).map(
    lambda t: {"sigma_min": t[0] * t[1], "sigma_max": t[1]}
)
any_ends = st.tuples(st.floats(1e-6, 0.999), st.floats(0.1, 100.0)).map(
    lambda t: {"sigma_min": t[0] * t[1], "sigma_max": t[1]}
)


def column(sigma: Tensor, x: Tensor) -> Tensor:
    """Return sigma with the trailing axes of x."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:]))


@law_of("delta_consistency_function")
@given(tensor_lists(2), dtypes)
def test_delta_consistency_function_is_x_at_sigma_min(pair: list[Tensor], dtype: torch.dtype) -> None:
    """f*(x, sigma_min) = x, bit for bit, in every dtype."""
    x, xi = pair[0].to(dtype), pair[1][0].to(dtype)
    level = torch.full((len(x),), 0.002, dtype=dtype)
    assert torch.equal(delta_consistency_function(x, level, xi=xi), x)


@law_of("delta_consistency_function")
@given(tensor_lists(2), st.data())
def test_delta_consistency_function_is_a_gaussian_one_of_no_width(pair: list[Tensor], data: st.DataObject) -> None:
    """N(xi, 0) is the point xi."""
    x, xi = pair[0], pair[1][0]
    sigma = data.draw(levels_of(len(x)))
    torch.testing.assert_close(
        delta_consistency_function(x, sigma, xi=xi),
        gaussian_consistency_function(x, sigma, mean=xi, std=0.0),
        rtol=1e-12,
        atol=1e-12 * float(1 + x.abs().max() + xi.abs().max()),
    )


@law_of("gaussian_consistency_function")
@given(tensor_lists(2), stds, dtypes)
def test_gaussian_consistency_function_is_x_at_sigma_min(pair: list[Tensor], std: float, dtype: torch.dtype) -> None:
    """f*(x, sigma_min) = x: the factor of x - mean is exactly 1, and mean + (x - mean) rounds once."""
    x, mean = pair[0].to(dtype), pair[1][0].to(dtype)
    level = torch.full((len(x),), 0.002, dtype=dtype)
    assert torch.equal(gaussian_consistency_function(x, level, mean=mean, std=std), mean + (x - mean))


@law_of("gaussian_consistency_function")
@given(tensor_lists(2), st.data(), stds)
def test_gaussian_consistency_function_solves_the_ode(pair: list[Tensor], data: st.DataObject, std: float) -> None:
    """(d/dsigma - sigma score . d/dx) f* = 0: f* does not change along Eq. (1)."""
    x, mean = pair[0], pair[1][0]
    sigma = data.draw(levels_of(len(x)))
    f = partial(gaussian_consistency_function, mean=mean, std=std)
    velocity = column(sigma / (std**2 + sigma**2), x) * (x - mean)
    derivative = torch.func.jvp(f, (x, sigma), (velocity, torch.ones_like(sigma)))[1]
    assert float(derivative.abs().max()) < 1e-12 * float(x.abs().max() + mean.abs().max()) / float(sigma.min())


def mixture(data: st.DataObject, x: Tensor) -> dict[str, Tensor]:
    """Return one to four components of the shape of x's examples, some of them points."""
    count = data.draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(data.draw(seeds))
    parts = torch.rand(count, generator=generator, dtype=torch.float64) + 0.1
    return {
        "means": 2 * torch.randn(count, *x.shape[1:], generator=generator, dtype=torch.float64),
        "stds": torch.rand(count, generator=generator, dtype=torch.float64).round(decimals=1),
        "mixture_weights": parts / parts.sum(),
    }


@law_of("gaussian_mixture_score")
@given(tensor_lists(1), st.data())
def test_gaussian_mixture_score_is_the_gradient_of_the_log_density(x: list[Tensor], data: st.DataObject) -> None:
    """Score = grad_x log p_sigma(x), the density summed over torch's own normal distributions."""
    parts, sigma = mixture(data, x[0]), data.draw(levels_of(len(x[0])))
    scale = (parts["stds"] ** 2 + sigma[:, None] ** 2).sqrt()

    def log_density(y: Tensor) -> Tensor:
        flat, means = y.reshape(len(y), 1, -1), parts["means"].reshape(1, len(parts["mixture_weights"]), -1)
        normal: Callable[[Tensor], Tensor] = torch.distributions.Normal(means, scale[:, :, None]).log_prob
        return (normal(flat).sum(2) + parts["mixture_weights"].log()).logsumexp(1)

    expected = torch.func.grad(lambda y: log_density(y).sum())(x[0])
    size = float(expected.abs().max())
    torch.testing.assert_close(gaussian_mixture_score(x[0], sigma, **parts), expected, rtol=1e-8, atol=1e-9 * size)


@law_of("gaussian_mixture_score")
@given(st.data(), st.integers(2, 5), seeds)
def test_gaussian_mixture_score_turns_and_moves_with_the_data(data: st.DataObject, dimension: int, seed: int) -> None:
    """score(Q x + t; Q mu + t) = Q score(x; mu), Q orthogonal."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, dimension, generator=generator, dtype=torch.float64)
    shift = torch.randn(dimension, generator=generator, dtype=torch.float64)
    parts, sigma, q = mixture(data, x), data.draw(levels_of(3)), rotation(dimension, seed)
    turned = {**parts, "means": parts["means"] @ q.mT + shift}
    expected = gaussian_mixture_score(x, sigma, **parts) @ q.mT
    size = float(expected.abs().max()) * (1 + 1 / float(sigma.min()))
    torch.testing.assert_close(
        gaussian_mixture_score(x @ q.mT + shift, sigma, **turned), expected, rtol=1e-9, atol=1e-11 * size
    )


@law_of("gaussian_mixture_score")
@given(tensor_lists(1), st.data(), st.floats(1e3, 1e5))
def test_gaussian_mixture_score_is_finite_far_from_the_data(
    x: list[Tensor], data: st.DataObject, distance: float
) -> None:
    """Where every component's density is 0 in floating point the nearest one decides; no 0 / 0."""
    parts, sigma = mixture(data, x[0]), data.draw(levels_of(len(x[0])))
    score = gaussian_mixture_score(torch.full_like(x[0], distance), sigma, **parts)
    assert bool(score.isfinite().all())
    assert bool((score < 0).all())


@law_of("ct_loss_limit", "ct_gradient_limit")
@given(any_ends, st.floats(0.01, 100.0))
def test_ct_limits_depend_on_the_ratio_of_levels(ends: dict[str, float], a: float) -> None:
    """sigma -> a sigma: Eq. (6) does not change, Eq. (7) is divided by a."""
    scaled = {symbol: a * sigma for symbol, sigma in ends.items()}
    assert ct_loss_limit(1.0, 0.0, **scaled) == pytest.approx(ct_loss_limit(1.0, 0.0, **ends), rel=1e-9)
    gradient = ct_gradient_limit(1.0, 0.0, **ends)
    assert ct_gradient_limit(1.0, 0.0, **scaled) == pytest.approx(gradient / a, rel=1e-9)


@law_of("ct_loss_limit")
@given(st.floats(0.05, 0.2))
def test_ct_loss_limit_has_no_seam_between_its_two_forms(u: float) -> None:
    """1 - sigma_min / sigma_max = u: closed form and expansion are one smooth function; its slope hardly changes."""
    at = [ct_loss_limit(1.0, 0.0, sigma_min=1 - v, sigma_max=1.0) / v**2 for v in (u - 1e-3, u, u + 1e-3)]
    assert at[0] < at[1] < at[2]
    assert at[2] - at[1] == pytest.approx(at[1] - at[0], rel=0.01)


def toy(theta: Tensor, sigma_min: float) -> partial[Tensor]:
    """Return Section 3.2's f_theta."""
    return partial(delta_consistency_function, xi=theta, sigma_min=sigma_min)


def toy_loss(theta: Tensor, theta_minus: Tensor, xi: float, n: int, ends: dict[str, float]) -> Tensor:
    """Return L^N = L_CT^N of Section 3.2: the mean over its intervals; z drops out of it."""
    sigmas = sigma_grid(n, rho=1.0, **ends)
    x = torch.full((n - 1,), xi, dtype=torch.float64)
    loss = consistency_training_loss(
        toy(theta, ends["sigma_min"]),
        toy(theta_minus, ends["sigma_min"]),
        x,
        torch.linspace(-1, 1, n - 1, dtype=torch.float64),
        torch.arange(n - 1),
        sigmas,
        distance=squared_l2,
        weights=torch.ones_like(x),
    )
    return loss.mean()


def gradient_of_toy_loss(theta: float, theta_minus: float, xi: float, n: int, ends: dict[str, float]) -> float:
    """Return dL^N / dtheta."""
    at = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    toy_loss(at, torch.tensor(theta_minus, dtype=torch.float64), xi, n, ends).backward()  # type: ignore[no-untyped-call]
    assert at.grad is not None
    return float(at.grad)


def assert_falls_like_one_over_n(error: Callable[[int], float], first: float, second: float) -> None:
    """error(N) = A / N + O(1 / N^2): where N doubles, what is left of 2 error(2N) - error(N) is of second order.

    `first` and `second` bound the coefficients of 1 / N and 1 / N^2; rounding is far below either.
    """
    for intervals in (1000, 2000, 4000, 8000):
        coarse, fine = error(intervals + 1), error(2 * intervals + 1)
        assert abs(coarse) <= first / intervals
        assert abs(2 * fine - coarse) <= second / intervals**2 + 1e-9 * first / intervals


@law_of("ct_loss_limit")
@given(ends, values, values, values)
@example({"sigma_min": 0.05, "sigma_max": 1.0}, 1.0, -1.0, 3.0)
def test_ct_loss_limit_is_the_limit_of_the_loss(
    ends: dict[str, float], theta: float, theta_minus: float, xi: float
) -> None:
    """Eq. (6): the loss at N meets its limit, and the error falls like 1/N, over N = 1 001 to 16 001."""
    limit = ct_loss_limit(theta, theta_minus, **ends)
    tensors = [torch.tensor(value, dtype=torch.float64) for value in (theta, theta_minus)]
    square = (abs(theta) + abs(theta_minus) + abs(xi) + 0.1) ** 2
    assert_falls_like_one_over_n(
        lambda n: float(toy_loss(tensors[0], tensors[1], xi, n, ends)) - limit,
        first=2 * square,
        second=2 * square * ends["sigma_max"] / ends["sigma_min"],
    )


@law_of("ct_gradient_limit")
@given(ends, values, values)
@example({"sigma_min": 0.05, "sigma_max": 1.0}, 1.0, -1.0)
def test_ct_gradient_limit_is_the_limit_of_the_scaled_gradient(ends: dict[str, float], theta: float, xi: float) -> None:
    """Eq. (7), theta- = theta: 1 / Delta sigma times the gradient meets its limit, the error falls like 1/N."""
    limit = ct_gradient_limit(theta, xi, **ends)
    slope = (abs(theta) + abs(xi) + 0.1) / ends["sigma_min"]
    assert_falls_like_one_over_n(
        lambda n: (
            gradient_of_toy_loss(theta, theta, xi, n, ends) * (n - 1) / (ends["sigma_max"] - ends["sigma_min"]) - limit
        ),
        first=slope,
        second=2 * slope * ends["sigma_max"] / ends["sigma_min"],
    )


@law_of("ct_gradient_leading_term")
@given(any_ends, values, values, st.floats(1e-6, 1.0))
def test_ct_gradient_leading_term_is_delta_sigma_times_the_limit(
    ends: dict[str, float], theta: float, xi: float, delta_sigma: float
) -> None:
    """theta- = theta: Eq. (13) over Delta sigma is Eq. (7)."""
    term = ct_gradient_leading_term(theta, xi, delta_sigma=delta_sigma, **ends)
    assert term / delta_sigma == pytest.approx(ct_gradient_limit(theta, xi, **ends), rel=1e-12)


@law_of("ct_gradient_divergent_term")
@given(any_ends, values, values)
def test_ct_gradient_divergent_term_is_the_derivative_of_the_loss_limit(
    ends: dict[str, float], theta: float, gap: float
) -> None:
    """theta- != theta: Eq. (13) is d/dtheta of Eq. (6), here a central difference, exact for a square."""
    gap = gap if abs(gap) > 0.01 else 1.0
    term = ct_gradient_divergent_term(theta, theta - gap, **ends)
    up, down = (ct_loss_limit(theta + step, theta - gap, **ends) for step in (0.5, -0.5))
    assert term == pytest.approx(up - down, rel=1e-9, abs=1e-12 * (1 + gap**2))


@law_of("ct_gradient_divergence")
@given(values, st.floats(1e-3, 10.0), st.floats(0.05, 0.5))
def test_ct_gradient_divergence_is_what_the_scaled_gradient_grows_to(
    theta: float, lag: float, sigma_min: float
) -> None:
    """Eq. (7), theta- != theta: 1 / Delta sigma times the gradient doubles where N doubles, with the limit's sign."""
    ends = {"sigma_min": sigma_min, "sigma_max": 1.0}
    for theta_minus in (theta - lag, theta + lag):
        limit = ct_gradient_divergence(theta, theta_minus)
        # For the data xi = theta the term of order Delta sigma is 0.
        coarse, fine = (gradient_of_toy_loss(theta, theta_minus, theta, n, ends) * n for n in (4000, 8000))
        assert fine * limit == math.inf
        assert fine / coarse == pytest.approx(2, rel=0.02)


@law_of("ct_gradient_leading_term")
@given(ends, values, values, values)
def test_ct_gradient_leading_term_is_what_the_gradient_comes_to(
    ends: dict[str, float], theta: float, theta_minus: float, xi: float
) -> None:
    """Eq. (13), in both cases: what is left falls like 1/N, or like 1/N^2 where theta- = theta."""
    size = abs(theta) + abs(theta_minus) + abs(xi) + 0.1
    ratio = ends["sigma_max"] / ends["sigma_min"]

    def error(n: int, lag: float) -> float:
        delta_sigma = (ends["sigma_max"] - ends["sigma_min"]) / (n - 1)
        apart = ct_gradient_divergent_term(theta, lag, **ends)
        alike = ct_gradient_leading_term(theta, xi, delta_sigma=delta_sigma, **ends)
        return gradient_of_toy_loss(theta, lag, xi, n, ends) - (alike if lag == theta else apart)

    assume(theta_minus != theta)
    assert_falls_like_one_over_n(lambda n: error(n, theta_minus), first=4 * size, second=4 * size * ratio)
    # One order smaller: n times the error still falls like 1/N.
    assert_falls_like_one_over_n(lambda n: (n - 1) * error(n, theta), first=size * ratio, second=4 * size * ratio**2)
