"""Laws of the probability flow ODE and of its steps, on data whose trajectories are known."""

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref.formulas import euler_step, heun_step, probability_flow_drift
from properties.law_of import law_of
from properties.strategies import tensor_lists

levels = st.floats(0.01, 80.0)
deviations = st.floats(0.0, 3.0)
means = st.floats(-2.0, 2.0)


def gaussian_score(mean: float, deviation: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the score of noisy data N(mean, deviation^2): a single point for deviation 0."""

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return -(x - mean) / (deviation**2 + like(sigma, x) ** 2)

    return score


def exact(x: Tensor, high: Tensor, low: Tensor, mean: float, deviation: float) -> Tensor:
    """Return the point of the trajectory through (x, high) at level low."""
    return mean + ((deviation**2 + like(low, x) ** 2) / (deviation**2 + like(high, x) ** 2)).sqrt() * (x - mean)


def like(sigma: Tensor, x: Tensor) -> Tensor:
    """Return sigma with the trailing axes of x."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:]))


def of(level: float, x: Tensor) -> Tensor:
    """Return this level once for each example."""
    return torch.full((len(x),), level, dtype=x.dtype)


@law_of("probability_flow_drift")
@given(tensor_lists(1), levels, means, deviations)
def test_probability_flow_drift_is_the_derivative_of_the_trajectory(
    x: list[Tensor], level: float, mean: float, deviation: float
) -> None:
    """d/dsigma of the exact trajectory of a Gaussian, by a central difference."""
    sigma, h = of(level, x[0]), 1e-5 * level
    ahead, behind = (exact(x[0], sigma, sigma + sign * h, mean, deviation) for sign in (1, -1))
    drift = probability_flow_drift(x[0], sigma, gaussian_score(mean, deviation))
    torch.testing.assert_close(drift, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-5 * float(x[0].abs().max() + 2))


@law_of("probability_flow_drift")
@given(tensor_lists(3), levels, st.floats(-3.0, 3.0))
def test_probability_flow_drift_is_linear_in_the_score(x: list[Tensor], level: float, a: float) -> None:
    """drift(s + a t) = drift(s) + a drift(t)."""
    sigma = of(level, x[0])

    def drift(score: Tensor) -> Tensor:
        return probability_flow_drift(x[0], sigma, lambda _x, _s: score)

    s, t, both = drift(x[1]), drift(x[2]), drift(x[1] + a * x[2])
    torch.testing.assert_close(both, s + a * t)


@law_of("euler_step")
@given(tensor_lists(2), levels, levels)
def test_euler_step_follows_the_drift(x: list[Tensor], one: float, other: float) -> None:
    """x_i = x_{i+1} + (sigma_i - sigma_{i+1}) dx/dsigma."""
    high, low = of(max(one, other), x[0]), of(min(one, other), x[0])
    drift = probability_flow_drift(x[0], high, lambda _x, _s: x[1])
    torch.testing.assert_close(euler_step(x[0], high, low, x[1]), x[0] + like(low - high, x[0]) * drift)


Score = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Tensor, Tensor, Tensor, Score], Tensor]


def euler(x: Tensor, high: Tensor, low: Tensor, score: Score) -> Tensor:
    """Return Euler's step with the same arguments as Heun's."""
    return euler_step(x, high, low, score(x, high))


steps: st.SearchStrategy[tuple[Step, int]] = st.sampled_from([(euler, 2), (heun_step, 3)])


@law_of("euler_step", "heun_step")
@given(steps, tensor_lists(1), st.floats(0.5, 20.0), means, st.floats(0.2, 3.0))
def test_steps_have_local_errors_of_second_and_third_order(
    step: tuple[Step, int], x: list[Tensor], level: float, mean: float, deviation: float
) -> None:
    """Halving a small step quarters Euler's error and divides Heun's by eight."""
    method, order = step
    score, high = gaussian_score(mean, deviation), of(level, x[0])
    start = x[0] + mean + 1
    scale = float((start - mean).abs().max())
    coarse, fine = (
        float((method(start, high, low, score) - exact(start, high, low, mean, deviation)).abs().max()) / scale
        for low in (high * 0.98, high * 0.99)
    )
    # Rounding hides the order of smaller errors.
    if fine > 1e-11:
        assert 2**order * 0.8 < coarse / fine < 2**order * 1.2


@law_of("euler_step", "heun_step")
@given(steps, tensor_lists(1), levels, levels)
def test_steps_can_be_mapped(step: tuple[Step, int], x: list[Tensor], one: float, other: float) -> None:
    """vmap over sigma_i alone, over sigma_{i+1} alone: the steps of each level."""
    high, low, score = of(max(one, other), x[0]), of(min(one, other), x[0]), gaussian_score(0.0, 0.7)
    expected = step[0](x[0], high, low, score)
    by_low = torch.func.vmap(lambda level: step[0](x[0], high, level, score))(low[None])
    by_high = torch.func.vmap(lambda level: step[0](x[0], level, low, score))(high[None])
    torch.testing.assert_close(by_low[0], expected)
    torch.testing.assert_close(by_high[0], expected)


@law_of("euler_step", "heun_step")
@given(steps, tensor_lists(1), levels, levels, means)
def test_steps_move_with_the_data(
    step: tuple[Step, int], x: list[Tensor], one: float, other: float, mean: float
) -> None:
    """x -> x + m with data moved by m: the point that is reached moves by m."""
    high, low = of(max(one, other), x[0]), of(min(one, other), x[0])
    moved = step[0](x[0] + mean, high, low, gaussian_score(mean, 0.7))
    torch.testing.assert_close(moved, step[0](x[0], high, low, gaussian_score(0.0, 0.7)) + mean, rtol=1e-7, atol=1e-7)


@law_of("euler_step", "heun_step", "probability_flow_drift")
@given(tensor_lists(1), st.sampled_from([0.0, -1.0, float("nan"), float("inf")]))
def test_steps_refuse_what_is_outside_their_domain(x: list[Tensor], bad: float) -> None:
    """Levels are positive and finite, and steps go from more noise to less."""
    score, one, two = gaussian_score(0.0, 1.0), of(1.0, x[0]), of(2.0, x[0])
    with pytest.raises(ValueError, match="sigma"):
        probability_flow_drift(x[0], of(bad, x[0]), score)
    for high, low in ((one, two), (of(bad, x[0]), one), (one, of(bad, x[0]))):
        with pytest.raises(ValueError, match="sigma"):
            euler_step(x[0], high, low, x[0])
        with pytest.raises(ValueError, match="sigma"):
            heun_step(x[0], high, low, score)
