"""Laws of power-function averages. Oracle: exact fractions, and mpmath's quadrature of the profiles."""

import math
from fractions import Fraction
from itertools import pairwise

import mpmath
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ict_ref.checkpoint.ema_profiles import (
    WIDEST,
    Profile,
    power_decay,
    power_exponent,
    profile_product,
    reconstruction,
    relative_width,
)

widths = st.floats(0.01, WIDEST)
times = st.floats(0.1, 10.0)
STORED = (0.05, 0.10)
quick = settings(max_examples=20, deadline=None, derandomize=True)


def density(profile: Profile, tau: mpmath.mpf) -> mpmath.mpf:
    """Return the profile at a time, in mpmath."""
    gamma, t = mpmath.mpf(power_exponent(profile.sigma_rel)), mpmath.mpf(profile.updates)
    return (gamma + 1) * tau**gamma / t ** (gamma + 1)


@quick
@given(gamma=st.floats(0, 1000))
def test_the_relative_width_is_the_standard_deviation_of_the_profile(gamma: float) -> None:
    """sigma_rel^2 = E[tau^2] - E[tau]^2 under (gamma + 1) tau^gamma on [0, 1]"""
    exact = Fraction(gamma)
    first, second = ((exact + 1) / (exact + 1 + k) for k in (1, 2))
    assert relative_width(gamma) ** 2 == pytest.approx(float(second - first**2), rel=1e-12)


@quick
@given(sigma_rel=widths)
@example(sigma_rel=WIDEST)
def test_the_exponent_is_the_inverse_of_the_width(sigma_rel: float) -> None:
    """relative_width(power_exponent(s)) = s"""
    assert relative_width(power_exponent(sigma_rel)) == pytest.approx(sigma_rel, rel=1e-12)


@quick
@given(gamma=st.floats(0.1, 200))
def test_the_width_is_the_inverse_of_the_exponent(gamma: float) -> None:
    """power_exponent(relative_width(g)) = g"""
    assert power_exponent(relative_width(gamma)) == pytest.approx(gamma, rel=1e-9)


@quick
@given(gamma=st.integers(0, 12), updates=st.integers(1, 30))
def test_the_decays_give_each_update_the_integral_of_the_profile(gamma: int, updates: int) -> None:
    """(1 - beta(s)) prod_{u = s+1}^t beta(u) = (s^(g+1) - (s-1)^(g+1)) / t^(g+1)"""
    weights = [0.0] * updates
    for update in range(1, updates + 1):
        decay = power_decay(update, float(gamma))
        weights = [decay * weight for weight in weights]
        weights[update - 1] += 1 - decay
    power = gamma + 1
    exact = [Fraction(s**power - (s - 1) ** power, updates**power) for s in range(1, updates + 1)]
    assert weights == pytest.approx([float(weight) for weight in exact], rel=1e-9, abs=1e-15)


@quick
@given(a=st.builds(Profile, times, widths), b=st.builds(Profile, times, widths))
def test_the_inner_product_is_the_integral_of_both_profiles(a: Profile, b: Profile) -> None:
    """<p_a, p_b> = int p_a(tau) p_b(tau) dtau"""
    lower, end = min(a.updates, b.updates), max(power_exponent(one.sigma_rel) for one in (a, b))
    # A steep power is smooth in the variable in which its end is stretched.
    points = [0, *(lower * (1 - mpmath.mpf(2) ** -k) for k in range(1, 3 + int(math.log2(end + 2)))), lower]
    area = mpmath.quad(lambda tau: density(a, tau) * density(b, tau), points)
    assert profile_product(a, b) == pytest.approx(float(area), rel=1e-9, abs=1e-12)
    assert profile_product(a, b) == profile_product(b, a)


@quick
@given(sigma_rel=widths)
def test_a_stored_average_is_reconstructed_by_itself(sigma_rel: float) -> None:
    """x = (0, ..., 0, 1) where the wanted profile is the last stored one"""
    stored = [Profile(k, width) for k in (8, 16) for width in (0.7 * sigma_rel, sigma_rel)]
    found = reconstruction(stored, Profile(16, sigma_rel))
    torch.testing.assert_close(found.coefficients, torch.tensor([0, 0, 0, 1.0]).double(), rtol=0, atol=1e-6)
    assert found.residual < 1e-6


@quick
@given(sigma_rel=widths, scale=st.floats(0.1, 1e5))
def test_the_coefficients_do_not_depend_on_the_unit_of_time(sigma_rel: float, scale: float) -> None:
    """x(a t) = x(t), and sum x = 1"""
    stored = [Profile(k / 8, width) for k in range(1, 9) for width in STORED]
    scaled = [Profile(scale * one.updates, one.sigma_rel) for one in stored]
    one, other = reconstruction(stored, Profile(1, sigma_rel)), reconstruction(scaled, Profile(scale, sigma_rel))
    torch.testing.assert_close(one.coefficients, other.coefficients, rtol=1e-6, atol=1e-6)
    assert float(one.coefficients.sum()) == pytest.approx(1, abs=1e-9)


@quick
@given(sigma_rel=st.floats(0.03, 0.25))
def test_more_snapshots_reconstruct_a_profile_better(sigma_rel: float) -> None:
    """n -> 2 n snapshots keep the old ones, so the residual does not grow"""
    residuals = [
        reconstruction([Profile(k / n, s) for k in range(1, n + 1) for s in STORED], Profile(1, sigma_rel)).residual
        for n in (4, 8, 16)
    ]
    assert all(after <= before + 1e-6 for before, after in pairwise(residuals))


@quick
@given(sigma_rel=widths)
def test_no_other_coefficients_with_sum_one_are_closer(sigma_rel: float) -> None:
    """||sum_i y_i p_i - p|| >= ||sum_i x_i p_i - p|| for sum_i y_i = 1"""
    stored = [Profile(k / 4, s) for k in range(1, 5) for s in STORED]
    wanted = Profile(1, sigma_rel)
    found = reconstruction(stored, wanted)
    products = torch.tensor([[profile_product(a, b) for b in stored] for a in stored], dtype=torch.float64)
    right = torch.tensor([profile_product(a, wanted) for a in stored], dtype=torch.float64)

    def square(x: torch.Tensor) -> float:
        return float(x @ products @ x - 2 * right @ x)

    for k in range(len(stored)):
        change = torch.full((len(stored),), -1e-3, dtype=torch.float64) / (len(stored) - 1)
        change[k] = 1e-3
        for sign in (-1, 1):
            assert square(found.coefficients + sign * change) >= square(found.coefficients) - 1e-12


@pytest.mark.parametrize("bad", [0.0, -0.1, 0.2888, math.nan, math.inf])
def test_a_width_outside_its_range_is_rejected(bad: float) -> None:
    """0 < sigma_rel <= 12^-1/2"""
    with pytest.raises(ValueError, match=r"sigma_rel: expected 0 < sigma_rel <= 12\^-1/2"):
        power_exponent(bad)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_an_exponent_outside_its_range_is_rejected(bad: float) -> None:
    """0 <= gamma < infinity"""
    with pytest.raises(ValueError, match=r"gamma: expected a finite number >= 0"):
        relative_width(bad)
    with pytest.raises(ValueError, match=r"gamma: expected a finite number >= 0"):
        power_decay(3, bad)


def test_a_time_before_the_first_update_is_rejected() -> None:
    """t >= 1"""
    with pytest.raises(ValueError, match=r"updates: expected the number of this update, an integer >= 1, got 0"):
        power_decay(0, 1.0)
    with pytest.raises(ValueError, match=r"updates: expected a number above 0, got 0"):
        profile_product(Profile(0, 0.1), Profile(1, 0.1))
    with pytest.raises(ValueError, match=r"stored: expected one profile or more, got none"):
        reconstruction([], Profile(1, 0.1))
