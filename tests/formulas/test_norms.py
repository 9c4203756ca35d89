"""The plain distances.

Oracle: exact fractions.
"""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import l1, squared_l2

NORMS = [squared_l2, l1]
SHAPES = [(1,), (4,), (1, 5), (3, 1), (2, 3, 4, 4), (5, 2, 3)]


def normal(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact(norm: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> list[float]:
    values = []
    for j in range(len(x)):
        total = Fraction(0)
        for p, q in zip(x[j].reshape(-1).tolist(), y[j].reshape(-1).tolist(), strict=True):
            delta = Fraction(p) - Fraction(q)
            total += delta * delta if norm is squared_l2 else abs(delta)
        values.append(float(total))
    return values


def test_a_three_four_five_difference_is_computed_by_hand() -> None:
    # 3^2 + 4^2 = 25 and 3 + 4 = 7; 0^2 + 35^2 = 1225 and 0 + 35 = 35
    x = torch.tensor([[4.0, -2.0], [1.0, 37.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    assert squared_l2(x, y).tolist() == [25.0, 1225.0]
    assert l1(x, y).tolist() == [7.0, 35.0]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_unit_difference_in_every_pixel_has_distance_3072(
    norm: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    # one for each of 3 * 32 * 32 entries; the mean over pixels would be 1
    x = torch.ones(2, 3, 32, 32, dtype=dtype)
    got = norm(torch.zeros_like(x), x)
    assert got.dtype == dtype
    assert got.tolist() == [3072.0] * 2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4])
def test_a_norm_agrees_with_rational_arithmetic(
    norm: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...], scale: float
) -> None:
    x, y = normal(*shape, seed=1, scale=scale), normal(*shape, seed=2, scale=scale)
    got = norm(x, y)
    assert got.shape == shape[:1]
    assert got.tolist() == pytest.approx(exact(norm, x, y), rel=1e-13, abs=0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_tiny_difference_of_large_images_does_not_cancel(norm: Callable[[Tensor, Tensor], Tensor]) -> None:
    # ||x||^2 - 2 x.y + ||y||^2 has lost every digit here.
    x = 1e3 + normal(3, 4, 4, seed=3)
    y = x + normal(3, 4, 4, seed=4, scale=1e-8)
    assert norm(x, y).tolist() == pytest.approx(exact(norm, x, y), rel=1e-13, abs=0.0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_is_symmetric_and_zero_only_between_equal_examples(norm: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = normal(3, 2, 4, seed=5)
    y = x.clone()
    y[1, 0, 0] -= 1e-4
    got = norm(x, y)
    assert torch.equal(got, norm(y, x))
    assert got[0].item() == got[2].item() == 0.0
    assert got[1].item() > 0.0


@pytest.mark.parametrize(("norm", "degree"), [(squared_l2, 2), (l1, 1)])
def test_a_norm_scales_with_its_degree(norm: Callable[[Tensor, Tensor], Tensor], degree: int) -> None:
    x, y = normal(4, 3, 2, seed=6), normal(4, 3, 2, seed=7)
    torch.testing.assert_close(norm(4 * x, 4 * y), 4**degree * norm(x, y), rtol=1e-15, atol=0)


def test_the_squared_norm_does_not_change_when_the_flattened_example_is_rotated() -> None:
    rotation, _ = torch.linalg.qr(normal(12, 12, seed=8))
    x, y = normal(4, 3, 2, 2, seed=9), normal(4, 3, 2, 2, seed=10)
    rotated = squared_l2(x.reshape(4, 12) @ rotation, y.reshape(4, 12) @ rotation)
    torch.testing.assert_close(squared_l2(x, y), rotated, rtol=1e-13, atol=0)


@pytest.mark.parametrize("norm", NORMS)
def test_an_example_does_not_depend_on_the_others_of_its_batch(norm: Callable[[Tensor, Tensor], Tensor]) -> None:
    x, y = normal(4, 3, 2, seed=11), normal(4, 3, 2, seed=12)
    alone = [norm(x[j : j + 1], y[j : j + 1]).item() for j in range(4)]
    assert norm(x, y).tolist() == pytest.approx(alone, rel=1e-15)


def test_the_gradients_are_twice_the_difference_and_its_sign() -> None:
    x, y = normal(3, 2, 2, seed=13).requires_grad_(), normal(3, 2, 2, seed=14).requires_grad_()
    deltas = [p - q for p, q in zip(x.reshape(-1).tolist(), y.reshape(-1).tolist(), strict=True)]
    for norm, slopes in ((squared_l2, [2 * d for d in deltas]), (l1, [math.copysign(1.0, d) for d in deltas])):
        by_x, by_y = torch.autograd.grad(norm(x, y).sum(), [x, y])
        assert by_x.reshape(-1).tolist() == pytest.approx(slopes, rel=1e-15)
        assert by_y.reshape(-1).tolist() == pytest.approx([-s for s in slopes], rel=1e-15)


@pytest.mark.parametrize("norm", NORMS)
def test_the_gradient_vanishes_between_equal_examples(norm: Callable[[Tensor, Tensor], Tensor]) -> None:
    x = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(norm(x, x.detach().clone()).sum(), x)
    assert gradient.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (1, 3), (2, 1), (2,)])
def test_examples_of_different_shapes_are_rejected(
    norm: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        norm(torch.ones(2, 3), torch.zeros(shape))
