"""Truncated consistency models: the function of two stages, the law of the level, and the weights of both losses.

Oracle: mpmath's incomplete beta function, 50 digits.
"""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from ict_ref.formulas import (
    consistency_tuning_loss,
    gap_weights,
    log_student_t_density,
    log_student_t_level,
    squared_l2,
    truncated,
    truncated_weights,
)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_f_has_the_cut_and_what_is_above_it() -> None:
    x = torch.full((5, 1), 2.0, dtype=torch.float64)
    got = truncated(lambda x, _: 0 * x, lambda x, _: 0.3 * x, x, f64(0.2, 0.999, 1.0, 1.5, 80.0))
    assert got.flatten().tolist() == [0.6, 0.6, 0.0, 0.0, 0.0]


def test_only_examples_from_the_cut_on_send_a_gradient_to_f() -> None:
    a, b = (f64(1.0, 1.0, 1.0).reshape(3, 1).requires_grad_() for _ in range(2))
    x = torch.full((3, 1), 2.0, dtype=torch.float64)
    got = truncated(lambda x, _: a * x, lambda x, _: b * x, x, f64(0.5, 2.0, 3.0), sigma_cut=2.0)
    (gradient,) = torch.autograd.grad(got.sum(), a)
    assert gradient.flatten().tolist() == [0.0, 2.0, 2.0]
    assert b.grad is None


def test_the_level_has_its_golden_quantiles() -> None:
    got = log_student_t_level(f64(0.05, 0.25, 0.5, 0.75, 0.95))
    expected = [1.006045063, 1.042977647, 1.221149954, 2.523549362, 24.64973273]
    assert got.tolist() == pytest.approx(expected, rel=5e-10)


def test_the_density_has_its_golden_values_and_ends() -> None:
    got = log_student_t_density(f64(0.0, 0.1, 0.5, 1.0, 4.0, -0.01, 4.39))
    assert float(log_student_t_density(f64(math.log(80.0)))) > 0
    expected = [8.419886329, 1.624593412, 0.3258638544, 0.1619044606, 0.03992642726, 0.0, 0.0]
    assert got.tolist() == pytest.approx(expected, rel=5e-10)


@pytest.mark.parametrize(
    ("loc", "scale", "dof", "sigma_min", "sigma_max"),
    [
        (0.0, 0.2, 0.01, 1.0, 80.0),
        (-1.1, 2.0, 2.0, 0.002, 80.0),
        (-1.1, 2.0, 300.0, 0.002, 80.0),
        (0.5, 0.1, 5.0, 0.01, 1e4),
        # the middle is narrow, and the range has both tails
        (0.0, 0.2, 0.01, 0.0125, 80.0),
        # all of the range is in one tail
        (-3.0, 0.2, 8.0, 1.0, 80.0),
        (6.0, 0.3, 3.0, 0.1, 2.0),
        (-3.0, 0.2, 1e4, 1.0, 80.0),
    ],
)
def test_the_level_is_the_quantile_of_the_incomplete_beta_function(
    loc: float, scale: float, dof: float, sigma_min: float, sigma_max: float
) -> None:
    parts = (1e-6, 0.01, 0.3, 0.5, 0.9, 0.999)
    given = {"loc": loc, "scale": scale, "dof": dof, "sigma_min": sigma_min, "sigma_max": sigma_max}
    levels = log_student_t_level(f64(*parts), **given)
    densities = log_student_t_density(levels.log(), **given)
    with mpmath.workdps(40):

        def tail(level: float) -> mpmath.mpf:
            x = (mpmath.log(level) - mpmath.mpf(loc)) / mpmath.mpf(scale)
            half = mpmath.betainc(mpmath.mpf(dof) / 2, 0.5, 0, dof / (dof + x**2), regularized=True) / 2
            return half if x >= 0 else 1 - half

        whole = tail(sigma_min) - tail(sigma_max)
        got = [float((tail(sigma_min) - tail(level)) / whole) for level in levels.tolist()]

        def density(level: float) -> float:
            return float(mpmath.diff(lambda y: -tail(mpmath.exp(y)), mpmath.log(level)) / whole)

        slopes = [density(level) for level in levels.tolist()[1:-1]]
    assert got == pytest.approx(parts, rel=1e-9)
    assert densities.tolist()[1:-1] == pytest.approx(slopes, rel=1e-9)


def test_a_distribution_that_is_narrow_in_its_range_is_nearly_normal() -> None:
    # The integral has 3 000 parts. The quantile 3/4 of a unit normal is 0.674490.
    level = log_student_t_level(f64(0.5), scale=0.001, dof=5000.0)
    assert float(level.log()) == pytest.approx(0.000674490, rel=2e-4)


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        ([True, True] + [False] * 6, [0.4, 0.4] + [4 / 3] * 6),
        ([False, True, False, False], [4 / 3, 0.4, 4 / 3, 4 / 3]),
        ([True, False, False], [0.3, 1.5, 1.5]),
        ([False, True], [2.0, 0.2]),
    ],
)
def test_each_part_of_the_loss_is_a_mean(boundary: list[bool], expected: list[float]) -> None:
    got = truncated_weights(torch.tensor(boundary))
    assert got.dtype == torch.float64
    assert got.tolist() == pytest.approx(expected, rel=1e-15)
    losses = torch.linspace(1.0, 2.0, len(boundary), dtype=torch.float64)
    at_cut = torch.tensor(boundary)
    parts = losses[~at_cut].mean() + 0.1 * losses[at_cut].mean()
    torch.testing.assert_close((got * losses).mean(), parts)


def test_a_constant_from_the_cut_on_has_loss_0_inside_and_not_at_the_cut() -> None:
    # The collapse: f = 0 agrees with itself above the cut; at the cut its target is f0 of the level below.
    def f(x: Tensor, sigma: Tensor) -> Tensor:
        return 0 * x

    def f0(x: Tensor, sigma: Tensor) -> Tensor:
        return 0.5 * x

    t, r = f64(4.0, 1.0), f64(2.0, 0.999)
    x = z = torch.ones(2, 1, dtype=torch.float64)
    loss = consistency_tuning_loss(
        f, lambda x, sigma: truncated(f, f0, x, sigma), x, z, t, r, distance=squared_l2, weights=gap_weights(t, r)
    )
    # At the cut: (0.5 (1 + .999))^2 / .001
    assert loss.tolist() == pytest.approx([0.0, 0.9995**2 / 0.001], rel=1e-9)
