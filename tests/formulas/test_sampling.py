"""Sampling in one step and in several.

Oracle: loops in NumPy; SciPy's DOP853 for Eq. (1).
"""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy.integrate import solve_ivp
from torch import Tensor

from ict_ref.formulas import multistep_sample, one_step_sample, renoise

Network = Callable[[Tensor, Tensor], Tensor]

MODES, DEVIATION = (-0.6, 1.0), 0.4


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def column(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def bent(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.sin(x) + column(sigma, x) * x**2


def gaussian_consistency_function(mean: float, deviation: float, sigma_min: float) -> Network:
    def f(x: Tensor, sigma: Tensor) -> Tensor:
        ratio = (deviation**2 + sigma_min**2) / (deviation**2 + column(sigma, x) ** 2)
        return mean + ratio.sqrt() * (x - mean)

    return f


def mixture_flow(sigma_min: float) -> Network:
    # Eq. (1) for two equally likely modes, in the time t with sigma(t) = sigma^(1-t) sigma_min^t.
    def f(x: Tensor, sigma: Tensor) -> Tensor:
        start = np.array(sigma.tolist())
        speed = np.log(sigma_min / start)
        low, high = MODES

        def drift(t: float, state: np.ndarray) -> np.ndarray:
            level = start * np.exp(speed * t)
            variance = DEVIATION**2 + level**2
            of_high = 1 / (1 + np.exp(((state - high) ** 2 - (state - low) ** 2) / (2 * variance)))
            score = (low + of_high * (high - low) - state) / variance
            return np.asarray(-level * score * level * speed)

        solution = solve_ivp(drift, (0.0, 1.0), np.array(x.tolist()), method="DOP853", rtol=1e-9, atol=1e-10)
        return f64(*solution.y[:, -1].tolist())

    return f


def moments(values: list[float], masses: list[float]) -> list[float]:
    total = math.fsum(masses)
    mean = math.fsum(m * v for m, v in zip(masses, values, strict=True)) / total
    central = [math.fsum(m * (v - mean) ** n for m, v in zip(masses, values, strict=True)) / total for n in (2, 3, 4)]
    return [mean, *central]


def test_one_step_evaluates_the_network_once_at_the_highest_level() -> None:
    calls: list[tuple[Tensor, Tensor]] = []

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        calls.append((x, sigma))
        return 3 * x

    noise = f64(0.5, -0.25, 1.0).reshape(3, 1)
    got = one_step_sample(network, noise)
    ((x, sigma),) = calls
    assert x.tolist() == [[40.0], [-20.0], [80.0]]
    assert sigma.tolist() == [80.0, 80.0, 80.0]
    assert got.tolist() == [[120.0], [-60.0], [240.0]]
    assert one_step_sample(network, noise, sigma_max=2.0).tolist() == [[3.0], [-1.5], [6.0]]


@pytest.mark.parametrize("sigma_max", [0.0, -80.0, math.nan, math.inf])
def test_a_highest_level_outside_its_domain_is_rejected(sigma_max: float) -> None:
    with pytest.raises(ValueError, match="sigma_max"):
        one_step_sample(bent, torch.ones(2, 3), sigma_max=sigma_max)


@pytest.mark.parametrize("levels", [(3.0,), (3.0, 1.5), (3.0, 0.9, 0.4), (3.0, 2.5, 1.0, 0.1)])
@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 2)])
def test_several_steps_agree_with_a_loop_over_pixels(levels: tuple[float, ...], shape: tuple[int, ...]) -> None:
    noises = normal(len(levels), *shape, seed=1)
    expected = []
    for pixel_noises in noises.reshape(len(levels), -1).T.tolist():
        value = 0.0
        for k, (level, z) in enumerate(zip(levels, pixel_noises, strict=True)):
            point = level * z if k == 0 else value + math.sqrt(level**2 - 0.1**2) * z
            value = math.sin(point) + level * point**2
        expected.append(value)
    got = multistep_sample(bent, noises, f64(*levels), sigma_min=0.1)
    assert got.shape == shape
    assert got.reshape(-1).tolist() == pytest.approx(expected, rel=1e-9)


def test_one_level_is_the_one_step_sample() -> None:
    noise = normal(3, 2, seed=2)
    assert torch.equal(multistep_sample(bent, noise[None], f64(80.0)), one_step_sample(bent, noise))


def test_each_level_costs_one_network_evaluation_at_that_level() -> None:
    seen: list[list[float]] = []

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma.tolist())
        return x / 2

    multistep_sample(network, normal(3, 2, 5, seed=3), f64(80.0, 0.821, 0.25))
    assert seen == [[80.0, 80.0], [0.821, 0.821], [0.25, 0.25]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_last_step_at_the_lowest_level_adds_exactly_zero(dtype: torch.dtype) -> None:
    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.where(column(sigma, x) <= 0.0021, x, torch.tanh(x))

    noises = normal(3, 4, 2, seed=4).to(dtype)
    got = multistep_sample(network, noises, f64(80.0, 0.821, 0.002))
    assert got.dtype == dtype
    assert torch.equal(got, multistep_sample(network, noises[:2], f64(80.0, 0.821)))


def test_samples_are_not_clipped() -> None:
    # (2 * 3 + sqrt(1.25^2 - 0.75^2) * 4) = 6 + 1 * 4
    got = multistep_sample(lambda x, sigma: x, f64(3.0, 4.0).reshape(2, 1), f64(2.0, 1.25), sigma_min=0.75)
    assert got.tolist() == [10.0]


@pytest.mark.parametrize(
    ("sigma", "sigma_min", "root"), [(1.25, 0.75, 1.0), (0.0029, 0.0021, 0.002), (13.0, 5.0, 12.0)]
)
def test_noise_is_added_up_to_a_level_as_pythagoras_has_it(sigma: float, sigma_min: float, root: float) -> None:
    # 125^2 = 75^2 + 100^2, 29^2 = 21^2 + 20^2, 13^2 = 5^2 + 12^2
    x, z = normal(3, 2, seed=5), normal(3, 2, seed=6)
    expected = [[a + root * b for a, b in zip(*pair, strict=True)] for pair in zip(x.tolist(), z.tolist(), strict=True)]
    got = renoise(x, z, sigma=sigma, sigma_min=sigma_min)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("sigma_min", [0.002, 0.3])
@pytest.mark.parametrize("levels", [(80.0,), (80.0, 0.821), (80.0, 5.0, 0.4), (6.0, 1.526, 0.31)])
def test_the_gaussian_consistency_function_gives_the_mean_and_the_variance_of_the_data(
    levels: tuple[float, ...], sigma_min: float
) -> None:
    # Three Gauss-Hermite nodes a level are exact for mean and variance, as the sample is linear in the noises. The
    # first noise is standardised to the true distribution N(mu, s^2 + sigma_max^2) at the highest level. The result
    # must have the distribution p at sigma_min: N(mu, s^2 + sigma_min^2).
    mean, deviation = 0.7, 0.5
    nodes, masses = [-math.sqrt(3), 0.0, math.sqrt(3)], [1 / 6, 2 / 3, 1 / 6]
    rows = list(product(nodes, repeat=len(levels)))
    noises = torch.tensor(rows, dtype=torch.float64).T.clone()
    noises[0] = (mean + math.hypot(deviation, levels[0]) * noises[0]) / levels[0]
    f = gaussian_consistency_function(mean, deviation, sigma_min)
    got = multistep_sample(f, noises, f64(*levels), sigma_min=sigma_min)
    mass = [math.prod(row) for row in product(masses, repeat=len(levels))]
    got_mean, got_variance, _, _ = moments(got.tolist(), mass)
    assert got_mean == pytest.approx(mean, rel=1e-12)
    assert got_variance == pytest.approx(deviation**2 + sigma_min**2, rel=1e-12)


@pytest.mark.parametrize("levels", [(4.0, 0.9), (80.0, 0.5)])
def test_the_integrated_flow_of_a_mixture_keeps_its_moments(levels: tuple[float, float]) -> None:
    # The trapezoidal rule over both noises; it converges faster than any power for such smooth integrands. A sampler
    # that adds sigma instead of sqrt(sigma^2 - sigma_min^2) misses the variance by some percent for sigma_min = 0.2.
    sigma_min, (first, _) = 0.2, levels
    spread = math.hypot(DEVIATION, first)
    starts = np.linspace(MODES[0] - 6 * spread, MODES[1] + 6 * spread, 161)
    density = np.exp(-((starts[:, None] - np.array(MODES)) ** 2) / (2 * spread**2)).sum(axis=1)
    later = np.linspace(-6.0, 6.0, 61)
    pairs = list(product(zip(starts.tolist(), density.tolist(), strict=True), later.tolist()))
    noises = torch.stack([f64(*(s / first for (s, _), _ in pairs)), f64(*(z for _, z in pairs))])
    got = multistep_sample(mixture_flow(sigma_min), noises, f64(*levels), sigma_min=sigma_min)

    # Moments of the mixture at sigma_min. Let d = m - mean and v = s^2 + sigma_min^2 for a mode at m. Its second, third
    # and fourth moments about the common mean are v + d^2, 3 v d + d^3 and 3 v^2 + 6 v d^2 + d^4.
    mean, v = sum(MODES) / 2, DEVIATION**2 + sigma_min**2
    d = MODES[1] - mean
    expected = [mean, v + d**2, 0.0, 3 * v**2 + 6 * v * d**2 + d**4]
    mass = [weight * math.exp(-z * z / 2) for (_, weight), z in pairs]
    assert moments(got.tolist(), mass) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "levels",
    [(1.0, 2.0), (80.0, 1.0, 1.0), (80.0, 0.5, 1.0), (80.0, 0.001), (0.001,), (80.0, math.nan), (math.inf, 1.0)],
)
def test_levels_that_do_not_descend_to_the_lowest_one_are_rejected(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigma"):
        multistep_sample(bent, torch.ones(len(levels), 2, 3), f64(*levels))


@pytest.mark.parametrize("sigma_min", [-0.002, math.nan, math.inf])
def test_a_lowest_level_outside_its_domain_is_rejected(sigma_min: float) -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        multistep_sample(bent, torch.ones(2, 2, 3), f64(80.0, 1.0), sigma_min=sigma_min)


@pytest.mark.parametrize("levels", [(80.0,), (80.0, 2.0, 1.0)])
def test_a_number_of_levels_that_is_not_that_of_the_noises_is_rejected(levels: tuple[float, ...]) -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        multistep_sample(bent, torch.ones(2, 2, 3), f64(*levels))
