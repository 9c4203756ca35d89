"""Noise levels and how often each is drawn.

Oracle: mpmath, 50 digits; exact fractions.
"""

import math
from fractions import Fraction
from itertools import pairwise

import mpmath
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import exponential_curriculum, index_from_uniform, inverse_gap_weights, lognormal_pmf, sigma_grid

NEXT_BELOW_ONE = math.nextafter(1.0, 0.0)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def worst_relative_error(got: Tensor, expected: list[mpmath.mpf]) -> float:
    assert got.shape == (len(expected),)
    return max(float(abs(mpmath.mpf(g) / e - 1)) for g, e in zip(got.tolist(), expected, strict=True))


def exact_grid(n: int, sigma_min: float, sigma_max: float, rho: float) -> list[mpmath.mpf]:
    root = 1 / mpmath.mpf(rho)
    low, high = mpmath.mpf(sigma_min) ** root, mpmath.mpf(sigma_max) ** root
    return [(low + mpmath.mpf(j) / (n - 1) * (high - low)) ** mpmath.mpf(rho) for j in range(n)]


def exact_pmf(sigmas: list[float], p_mean: float, p_std: float) -> list[mpmath.mpf]:
    # 200 digits: the probability of an interval far in a tail is a difference of numbers that agree in the first 100.
    with mpmath.workdps(200):
        scale = mpmath.sqrt(2) * mpmath.mpf(p_std)
        cdf = [mpmath.erf((mpmath.log(mpmath.mpf(s)) - mpmath.mpf(p_mean)) / scale) for s in sigmas]
        return [(b - a) / (cdf[-1] - cdf[0]) for a, b in pairwise(cdf)]


def exact_curriculum(step: int, total_steps: int, s0: int, s1: int) -> int:
    # K' is the largest t with t (log2 m + 1) <= K, that is (2 m)^t <= 2^K, where m = floor(s1 / s0): integers only.
    base, bound = 2 * (s1 // s0), 1 << total_steps
    low, high = 0, total_steps
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if base**middle <= bound else (low, middle - 1)
    return min(s0 << (step // low), s1) + 1


@pytest.mark.parametrize("n", [2, 3, 11, 151, 1281])
@pytest.mark.parametrize(("sigma_min", "sigma_max", "rho"), [(0.002, 80.0, 7.0), (0.05, 3.0, 7.0), (0.01, 1.0, 2.5)])
def test_the_grid_agrees_with_fifty_digits(n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    got = sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    with mpmath.workdps(50):
        assert worst_relative_error(got, exact_grid(n, sigma_min, sigma_max, rho)) < 1e-13


@pytest.mark.parametrize("n", [2, 11, 18, 641, 1281])
@pytest.mark.parametrize(("sigma_min", "sigma_max"), [(0.002, 80.0), (0.003, 70.0), (0.1, 0.7)])
def test_the_grid_has_both_ends_exactly(n: int, sigma_min: float, sigma_max: float) -> None:
    grid = sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max)
    assert grid.dtype == torch.float64
    assert grid[0].item() == sigma_min
    assert grid[-1].item() == sigma_max
    assert bool((grid.diff() > 0).all())


def test_the_grid_has_the_two_step_levels_of_the_paper() -> None:
    # 1-based nodes 493, 572, 467, 514 of N = 1281; the paper prints 0.821, 1.526, 0.661, 0.973 (mpmath, 50 digits).
    levels = sigma_grid(1281)[[492, 571, 466, 513]]
    torch.testing.assert_close(levels, f64(0.82086684, 1.5257662, 0.66097902, 0.97318305), rtol=1e-7, atol=0)


def test_the_grid_is_linear_for_rho_one() -> None:
    expected = [float(Fraction(1, 4) + Fraction(j, 6) * Fraction(3, 2)) for j in range(7)]
    got = sigma_grid(7, sigma_min=0.25, sigma_max=1.75, rho=1.0)
    torch.testing.assert_close(got, f64(*expected), rtol=1e-14, atol=0)


@pytest.mark.parametrize("n", [1, 0, -3])
def test_a_grid_of_fewer_than_two_levels_is_rejected(n: int) -> None:
    with pytest.raises(ValueError, match=r"\b[nN]\b"):
        sigma_grid(n)


@pytest.mark.parametrize("sigma_min", [0.0, -0.002, 80.0, 81.0, math.nan, math.inf])
def test_a_grid_with_a_lowest_level_outside_its_domain_is_rejected(sigma_min: float) -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        sigma_grid(11, sigma_min=sigma_min)


@pytest.mark.parametrize("sigma_max", [0.002, 0.001, -1.0, math.nan, math.inf])
def test_a_grid_with_a_highest_level_outside_its_domain_is_rejected(sigma_max: float) -> None:
    with pytest.raises(ValueError, match="sigma_max"):
        sigma_grid(11, sigma_max=sigma_max)


@pytest.mark.parametrize("rho", [0.0, -7.0, math.nan, math.inf])
def test_a_grid_with_rho_outside_its_domain_is_rejected(rho: float) -> None:
    with pytest.raises(ValueError, match="rho"):
        sigma_grid(11, rho=rho)


def test_the_curriculum_doubles_eight_times_at_multiples_of_fifty_thousand() -> None:
    # K' = floor(400 000 / (log2 128 + 1)) = 50 000
    for period, n in enumerate([11, 21, 41, 81, 161, 321, 641, 1281]):
        assert exponential_curriculum(50_000 * period, total_steps=400_000) == n
        assert exponential_curriculum(50_000 * period + 49_999, total_steps=400_000) == n
    assert exponential_curriculum(400_000, total_steps=400_000) == 1281


@pytest.mark.parametrize(
    ("total_steps", "s0", "s1"),
    [
        (8, 10, 1280),  # the shortest run that has K' = 1
        (83, 10, 1280),  # 83 / 8 is not an integer
        (400, 10, 1289),  # floor(s1 / s0) = 128, without the floor K' = 49
        (1000, 3, 10),  # floor(s1 / s0) = 3: log2 is not an integer, and 10 is not 3 doubled
        (1000, 2, 150),
        (997, 7, 48),
        (500, 5, 5),  # s1 = s0: constant
        (500, 5, 9),
        (300, 1, 2**29),  # log2 as a quotient of natural logarithms gives 29.000000000000004, and K' = 9
    ],
)
def test_the_curriculum_agrees_with_integer_arithmetic_at_every_step(total_steps: int, s0: int, s1: int) -> None:
    got = [exponential_curriculum(k, total_steps=total_steps, s0=s0, s1=s1) for k in range(total_steps + 1)]
    assert got == [exact_curriculum(k, total_steps, s0, s1) for k in range(total_steps + 1)]
    assert {type(n) for n in got} == {int}
    assert got[0] == s0 + 1
    assert got[-1] == s1 + 1


@pytest.mark.parametrize("total_steps", [7, 1, 0])
def test_a_run_too_short_for_all_doublings_is_rejected(total_steps: int) -> None:
    with pytest.raises(ValueError, match=r"total_steps|\bK\b"):
        exponential_curriculum(0, total_steps=total_steps)


@pytest.mark.parametrize("step", [-1, 401])
def test_a_step_outside_the_run_is_rejected(step: int) -> None:
    with pytest.raises(ValueError, match="step"):
        exponential_curriculum(step, total_steps=400)


@pytest.mark.parametrize(("s0", "s1"), [(0, 10), (-1, 10), (11, 10)])
def test_a_curriculum_that_cannot_double_is_rejected(s0: int, s1: int) -> None:
    with pytest.raises(ValueError, match="s0"):
        exponential_curriculum(0, total_steps=400, s0=s0, s1=s1)


def test_the_lognormal_probabilities_of_ten_intervals_have_their_printed_values() -> None:
    # mpmath, 50 digits
    expected = f64(0.063, 0.182, 0.246, 0.213, 0.142, 0.081, 0.041, 0.020, 0.009, 0.004)
    torch.testing.assert_close(lognormal_pmf(sigma_grid(11)), expected, rtol=0, atol=5e-4)


@pytest.mark.parametrize("n", [2, 11, 321])
@pytest.mark.parametrize(("p_mean", "p_std"), [(-1.1, 2.0), (-1.1, 0.5), (-1.1, 0.25), (4.0, 0.5), (-6.0, 0.5)])
def test_each_lognormal_probability_agrees_with_mpmath_in_the_tails_too(n: int, p_mean: float, p_std: float) -> None:
    sigmas = sigma_grid(n)
    got = lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    assert got.dtype == torch.float64
    assert worst_relative_error(got, exact_pmf(sigmas.tolist(), p_mean, p_std)) < 1e-12
    assert abs(math.fsum(got.tolist()) - 1) < 1e-13


@pytest.mark.parametrize("p_std", [2.0, 0.5])
def test_each_lognormal_probability_of_the_finest_grid_agrees_with_mpmath(p_std: float) -> None:
    sigmas = sigma_grid(1281)
    assert worst_relative_error(lognormal_pmf(sigmas, p_std=p_std), exact_pmf(sigmas.tolist(), -1.1, p_std)) < 1e-12


def test_the_lognormal_probabilities_hold_on_any_ascending_levels() -> None:
    levels = [0.01, 0.011, 0.5, 0.6, 40.0]
    assert worst_relative_error(lognormal_pmf(f64(*levels)), exact_pmf(levels, -1.1, 2.0)) < 1e-12


@pytest.mark.parametrize(
    "levels",
    [(1.0,), (1.0, 1.0), (2.0, 1.0), (0.1, 0.3, 0.2), (0.0, 1.0), (-1.0, 1.0), (0.1, math.nan), (0.1, math.inf)],
)
def test_levels_that_are_not_an_ascending_grid_are_rejected(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigma"):
        lognormal_pmf(f64(*levels))
    with pytest.raises(ValueError, match="sigma"):
        inverse_gap_weights(f64(*levels))


@pytest.mark.parametrize("p_std", [0.0, -2.0, math.nan, math.inf])
def test_a_width_of_the_lognormal_outside_its_domain_is_rejected(p_std: float) -> None:
    with pytest.raises(ValueError, match=r"(?i)p_std"):
        lognormal_pmf(sigma_grid(11), p_std=p_std)


@pytest.mark.parametrize("p_mean", [math.nan, math.inf])
def test_a_mean_of_the_lognormal_outside_its_domain_is_rejected(p_mean: float) -> None:
    with pytest.raises(ValueError, match=r"(?i)p_mean"):
        lognormal_pmf(sigma_grid(11), p_mean=p_mean)


@pytest.mark.parametrize(
    "eighths", [(1, 1, 2, 4), (8,), (4, 4), (0, 3, 0, 0, 5, 0), (0, 0, 8), (8, 0, 0), (1,) * 8, (2, 0, 2, 0, 4, 0)]
)
def test_an_index_is_the_first_interval_whose_cumulated_probability_exceeds_u(eighths: tuple[int, ...]) -> None:
    # Eighths and 64ths are exact in float64, so a u on an edge must fall into the interval above that edge.
    uniforms = [j / 64 for j in range(64)] + [NEXT_BELOW_ONE, math.nextafter(0.125, 0.0), math.nextafter(0.5, 1.0)]
    cumulated = [Fraction(sum(eighths[: j + 1]), 8) for j in range(len(eighths))]
    expected = [next(j for j, total in enumerate(cumulated) if Fraction(u) < total) for u in uniforms]
    got = index_from_uniform(f64(*uniforms), f64(*(p / 8 for p in eighths)))
    assert got.dtype == torch.int64
    assert got.tolist() == expected


@pytest.mark.parametrize("trailing_zeros", [0, 1, 3])
@pytest.mark.parametrize("intervals", [3, 10, 49, 1000])
def test_the_largest_u_falls_into_the_last_interval_of_positive_probability(
    intervals: int, trailing_zeros: int
) -> None:
    # Ten times 0.1 cumulates to 1 - 2^-53, which is the largest u below 1.
    pmf = f64(*[1 / intervals] * intervals, *[0.0] * trailing_zeros)
    assert index_from_uniform(f64(NEXT_BELOW_ONE), pmf).tolist() == [intervals - 1]


@pytest.mark.parametrize("n", [11, 1281])
def test_an_index_inverts_the_rational_cumulative_distribution(n: int) -> None:
    pmf = lognormal_pmf(sigma_grid(n))
    generator = torch.Generator().manual_seed(3)
    uniforms = torch.rand(500, dtype=torch.float64, generator=generator)
    below = [Fraction(0)]
    for p in pmf.tolist():
        below.append(below[-1] + Fraction(p))
    slack = Fraction(1, 10**13)
    for u, j in zip(uniforms.tolist(), index_from_uniform(uniforms, pmf).tolist(), strict=True):
        assert below[j] - slack <= Fraction(u) < below[j + 1] + slack


@pytest.mark.parametrize("u", [-1e-9, 1.0, 1.5, math.nan, math.inf])
def test_a_u_outside_the_half_open_unit_interval_is_rejected(u: float) -> None:
    with pytest.raises(ValueError, match=r"\bu\b"):
        index_from_uniform(f64(0.5, u), f64(0.5, 0.5))


@pytest.mark.parametrize("pmf", [(0.5, 0.4), (0.7, 0.7), (0.0, 0.0), (1.5, -0.5), (0.5, math.nan), (math.inf, 0.0)])
def test_numbers_that_are_not_probabilities_are_rejected(pmf: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="pmf"):
        index_from_uniform(f64(0.5), f64(*pmf))


def test_levels_along_two_axes_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        lognormal_pmf(f64(0.1, 1.0).reshape(1, 2))


def test_the_weights_run_from_25584_7_to_2_936() -> None:
    # mpmath, 50 digits, N = 1281
    weights = inverse_gap_weights(sigma_grid(1281))
    assert weights.shape == (1280,)
    torch.testing.assert_close(weights[[0, -1]], f64(25584.724, 2.9360313), rtol=1e-7, atol=0)


def test_each_weight_is_the_inverse_of_its_gap() -> None:
    levels = [0.002, 0.5, 0.75, 1.75, 80.0]
    expected = [float(1 / (Fraction(b) - Fraction(a))) for a, b in pairwise(levels)]
    got = inverse_gap_weights(f64(*levels))
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, f64(*expected), rtol=1e-14, atol=0)
