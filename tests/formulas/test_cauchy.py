"""The Cauchy distance.

Oracle: mpmath, 50 digits.
"""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from ict_ref.formulas import cauchy


def ones(d: int) -> tuple[Tensor, Tensor]:
    return torch.ones(1, d, dtype=torch.float64), torch.zeros(1, d, dtype=torch.float64)


@pytest.mark.parametrize(
    ("d", "c", "expected"),
    [
        (1, 1.0, 0.4054651081),
        (4, 0.5, 2.197224577),
        (3072, 0.02993, 14.35472541),
        (3072, 1.0, 7.337587744),
        (4096, 0.5, 9.01103541),
    ],
)
def test_ones_have_their_golden_distances(d: int, c: float, expected: float) -> None:
    assert cauchy(*ones(d), c=c).tolist() == pytest.approx([expected], rel=5e-10)


def test_a_tiny_difference_keeps_its_digits() -> None:
    x = torch.full((1, 1), 1e-8, dtype=torch.float64)
    assert cauchy(x, 0 * x, c=1.0).tolist() == pytest.approx([5e-17], rel=1e-14)
    single = torch.full((1, 1), 1e-5)
    assert cauchy(single, 0 * single, c=1.0).tolist() == pytest.approx([5e-11], rel=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("c", [0.03, 1.5])
def test_the_distance_agrees_with_fifty_digits(scale: float, c: float) -> None:
    x = scale * torch.randn(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with mpmath.workdps(50):
        exact = [
            float(mpmath.log(1 + sum(mpmath.mpf(v) ** 2 for v in row) / (2 * mpmath.mpf(c) ** 2))) for row in x.tolist()
        ]
    assert cauchy(x, torch.zeros_like(x), c=c).tolist() == pytest.approx(exact, rel=1e-13)


def test_the_smallest_constant_has_the_smallest_normal_square() -> None:
    x, y = torch.ones(1, 1), torch.zeros(1, 1)
    # In float32 the smallest normal number is 2^-126.
    assert cauchy(x, y, c=2.0**-63).tolist() == pytest.approx([125 * math.log(2)], rel=1e-6)
    with pytest.raises(ValueError, match="got c ="):
        cauchy(x, y, c=2.0**-63 * 0.99)


def test_the_gradient_is_longest_at_root_2_c_and_falls_beyond() -> None:
    c, lengths = 0.5, torch.tensor([0.1, 0.5 * math.sqrt(2), 1.0, 10.0], dtype=torch.float64)
    x = lengths.reshape(4, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(cauchy(x, torch.zeros_like(x), c=c).sum(), x)
    # delta / (c^2 + delta^2 / 2): .1/.255, 1/(sqrt 2 c), 1/.75, 10/50.25
    expected = [0.1 / 0.255, math.sqrt(2), 1 / 0.75, 10 / 50.25]
    assert gradient.flatten().tolist() == pytest.approx(expected, rel=1e-14)
