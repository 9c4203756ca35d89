"""Laws of log sigma, uniform schedule.

Oracle: mpmath, 50 digits, and quadrature.
"""

import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import log_sigma_density, lognormal_density, uniform_pmf, uniform_weights

LAWS = [(0.002, 80.0, 7.0), (0.05, 3.0, 2.5), (0.01, 1.0, 1.0), (0.5, 0.75, 0.5)]
NORMALS = [(-1.1, 2.0), (-1.1, 0.25), (4.0, 1.0)]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def uniform_mass(low: float, high: float, sigma_min: float, sigma_max: float, rho: float) -> mpmath.mpf:
    # u = (sigma^(1/rho) - sigma_min^(1/rho)) / (sigma_max^(1/rho) - sigma_min^(1/rho)) is uniform on [0, 1].
    first, last, a, b = (mpmath.mpf(s) ** (1 / mpmath.mpf(rho)) for s in (sigma_min, sigma_max, low, high))
    return (b - a) / (last - first)


def quadrature_nodes(low: float, high: float) -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(80)
    half = (high - low) / 2
    return torch.from_numpy(low + half * (nodes + 1)), torch.from_numpy(half * weights)


def grid_rate(n: int) -> float:
    # n - 1 times the largest relative gap between pmf / (step of log sigma) and the density at the lower level
    with mpmath.workdps(30):
        root = 1 / mpmath.mpf(7)
        low, high = mpmath.mpf("0.002") ** root, mpmath.mpf(80) ** root
        logs = [7 * mpmath.log(low + mpmath.mpf(j) / (n - 1) * (high - low)) for j in range(n)]
        grid = f64(*(float(mpmath.exp(x)) for x in logs))
        inner = f64(*(float(x) for x in logs[1:-1]))
        density = log_sigma_density(inner).tolist()
        steps = [b - a for a, b in pairwise(logs[1:])]
        mass = uniform_pmf(grid).tolist()[1:]
        return (n - 1) * max(float(abs(m / h / d - 1)) for m, h, d in zip(mass, steps, density, strict=True))


@pytest.mark.parametrize("levels", [(0.1, 0.2), (0.002, 0.5, 0.75, 1.75, 80.0), tuple(range(1, 12))])
def test_every_interval_has_the_same_probability_and_weight_one(levels: tuple[float, ...]) -> None:
    intervals = len(levels) - 1
    pmf, weights = uniform_pmf(f64(*levels)), uniform_weights(f64(*levels))
    assert pmf.dtype == weights.dtype == torch.float64
    assert pmf.tolist() == pytest.approx([1 / intervals] * intervals, rel=1e-15)
    assert weights.tolist() == [1.0] * intervals


@pytest.mark.parametrize(
    "levels",
    [(1.0,), (1.0, 1.0), (2.0, 1.0), (0.1, 0.3, 0.2), (0.0, 1.0), (-1.0, 1.0), (0.1, math.nan), (0.1, math.inf)],
)
def test_levels_that_are_not_an_ascending_grid_are_rejected(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigma"):
        uniform_pmf(f64(*levels))
    with pytest.raises(ValueError, match="sigma"):
        uniform_weights(f64(*levels))


def test_levels_along_two_axes_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        uniform_pmf(f64(0.1, 1.0).reshape(1, 2))
    with pytest.raises((ValueError, TypeCheckError)):
        uniform_weights(f64(0.1, 1.0).reshape(1, 2))


def test_the_densities_have_their_values_at_both_ends_and_at_one() -> None:
    # mpmath, 40 digits: sigma^(1/7) / (7 (80^(1/7) - 0.002^(1/7))), and the normal density at log sigma
    logs = f64(math.log(0.002), 0.0, math.log(80.0))
    uniform = f64(0.04030971811198855, 0.09794378983649215, 0.1831668609691314)
    normal = f64(0.007581928335787548, 0.1714719275096919, 0.004660359365891544)
    torch.testing.assert_close(log_sigma_density(logs), uniform, rtol=1e-13, atol=0)
    torch.testing.assert_close(lognormal_density(logs), normal, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("sigma_min", "sigma_max", "rho"), LAWS)
def test_the_uniform_density_is_the_slope_of_its_distribution(sigma_min: float, sigma_max: float, rho: float) -> None:
    low, high = math.log(sigma_min), math.log(sigma_max)
    logs = torch.linspace(low + 1e-9, high - 1e-9, 33, dtype=torch.float64)
    got = log_sigma_density(logs, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    with mpmath.workdps(60):
        for x, value in zip(logs.tolist(), got.tolist(), strict=True):
            # At 60 digits the central difference of half-width 1e-20 is exact to 1e-38.
            a, b = (mpmath.exp(mpmath.mpf(x) + side * mpmath.mpf("1e-20")) for side in (-1, 1))
            slope = uniform_mass(a, b, sigma_min, sigma_max, rho) / mpmath.mpf("2e-20")
            assert float(abs(value / slope - 1)) < 1e-13


@pytest.mark.parametrize(("sigma_min", "sigma_max", "rho"), LAWS)
def test_the_uniform_density_integrates_to_the_mass_between_two_levels(
    sigma_min: float, sigma_max: float, rho: float
) -> None:
    a, b = math.log(sigma_min), math.log(sigma_max)
    for low, high in ((a, b), (a, (a + b) / 2), (0.3 * a + 0.7 * b, b)):
        nodes, weights = quadrature_nodes(low, high)
        got = log_sigma_density(nodes, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho) @ weights
        with mpmath.workdps(30):
            mass = float(uniform_mass(mpmath.exp(low), mpmath.exp(high), sigma_min, sigma_max, rho))
        assert got.item() == pytest.approx(mass, rel=1e-12)
        if (low, high) == (a, b):
            assert got.item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("n", [50, 100, 200, 400, 800])
def test_the_uniform_density_is_the_limit_of_the_discrete_probabilities(n: int) -> None:
    # Let x = sigma^(1/rho), D = sigma_max^(1/rho) - sigma_min^(1/rho), y = D / ((n-1) x). The quotient is
    # y / log(1 + y) = 1 + y/2 - y^2/12 + ...: largest in the lowest of the compared intervals, whose x is x_1 here.
    root = 1 / 7
    spread = 80**root - 0.002**root
    lowest = 0.002**root + spread / (n - 1)
    assert grid_rate(n) == pytest.approx(spread / (2 * lowest), rel=1 / (n - 1))


@pytest.mark.parametrize(("sigma_min", "sigma_max"), [(0.002, 80.0), (0.5, 2.0)])
def test_the_uniform_density_is_positive_on_a_closed_interval_and_zero_outside(
    sigma_min: float, sigma_max: float
) -> None:
    low, high = math.log(sigma_min), math.log(sigma_max)
    logs = f64(-1e4, low - 1, low - 1e-12, low, low + 1e-12, high - 1e-12, high, high + 1e-12, high + 1, 1e4)
    got = log_sigma_density(logs, sigma_min=sigma_min, sigma_max=sigma_max).tolist()
    assert got[:3] == got[7:] == [0.0] * 3
    assert min(got[3:7]) > 0.0


@pytest.mark.parametrize(("p_mean", "p_std"), NORMALS)
def test_the_lognormal_density_agrees_with_fifty_digits_in_the_tails_too(p_mean: float, p_std: float) -> None:
    logs = [p_mean + p_std * z for z in (-30.0, -8.0, -1.0, -0.1, 0.0, 0.4, 3.0, 12.0, 30.0)]
    got = lognormal_density(f64(*logs), p_mean=p_mean, p_std=p_std)
    with mpmath.workdps(50):
        for x, value in zip(logs, got.tolist(), strict=True):
            exact = mpmath.npdf(mpmath.mpf(x), mpmath.mpf(p_mean), mpmath.mpf(p_std))
            assert float(abs(value / exact - 1)) < 1e-11


@pytest.mark.parametrize(("p_mean", "p_std"), NORMALS)
def test_the_lognormal_density_integrates_to_the_mass_of_the_normal_law(p_mean: float, p_std: float) -> None:
    # 12 deviations on each side leave out a mass below 1e-32.
    for low, high in ((-12.0, 12.0), (-3.0, -1.0), (0.0, 2.0)):
        nodes, weights = quadrature_nodes(p_mean + p_std * low, p_mean + p_std * high)
        got = (lognormal_density(nodes, p_mean=p_mean, p_std=p_std) @ weights).item()
        assert got == pytest.approx(float(mpmath.ncdf(high) - mpmath.ncdf(low)), rel=1e-12)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 4)])
def test_the_densities_keep_the_shape_of_log_sigma(shape: tuple[int, ...]) -> None:
    for got in (log_sigma_density(torch.zeros(shape).double()), lognormal_density(torch.zeros(shape).double())):
        assert got.shape == shape
        assert got.dtype == torch.float64


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_logarithm_that_is_not_finite_is_rejected(bad: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        log_sigma_density(f64(0.0, bad))
    with pytest.raises(ValueError, match="sigma"):
        lognormal_density(f64(0.0, bad))


@pytest.mark.parametrize("bad", [0.0, -2.0, math.nan, math.inf])
def test_hyper_parameters_of_the_densities_outside_their_domain_are_rejected(bad: float) -> None:
    with pytest.raises(ValueError, match="rho"):
        log_sigma_density(f64(0.0), rho=bad)
    with pytest.raises(ValueError, match="sigma_min"):
        log_sigma_density(f64(0.0), sigma_min=bad)
    with pytest.raises(ValueError, match="sigma_max"):
        log_sigma_density(f64(0.0), sigma_max=bad)
    with pytest.raises(ValueError, match=r"(?i)p_std"):
        lognormal_density(f64(0.0), p_std=bad)


@pytest.mark.parametrize("sigma_min", [80.0, 81.0])
def test_an_empty_range_of_levels_is_rejected(sigma_min: float) -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        log_sigma_density(f64(0.0), sigma_min=sigma_min)


@pytest.mark.parametrize("p_mean", [math.nan, math.inf])
def test_a_mean_of_the_lognormal_outside_its_domain_is_rejected(p_mean: float) -> None:
    with pytest.raises(ValueError, match=r"(?i)p_mean"):
        lognormal_density(f64(0.0), p_mean=p_mean)


@pytest.mark.parametrize("rho", [5e-324, 2.3e-309, 1e-300])
def test_the_density_rejects_a_rho_whose_roots_are_infinite(rho: float) -> None:
    with pytest.raises(ValueError, match=r"rho such that sigma_max\^\(1/rho\) is finite"):
        log_sigma_density(torch.zeros(1, dtype=torch.float64), sigma_min=0.002, sigma_max=149.0, rho=rho)
