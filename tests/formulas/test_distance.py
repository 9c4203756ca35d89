"""The pseudo-Huber distance.

Oracle: mpmath, 50 digits.
"""

import math

import mpmath
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import pseudo_huber, pseudo_huber_constant


def normal(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact_huber(x: Tensor, y: Tensor, c: float) -> list[float]:
    with mpmath.workdps(50):
        values = []
        for a, b in zip(x.reshape(len(x), -1).tolist(), y.reshape(len(y), -1).tolist(), strict=True):
            square = sum(((mpmath.mpf(p) - mpmath.mpf(q)) ** 2 for p, q in zip(a, b, strict=True)), mpmath.mpf(0))
            values.append(float(mpmath.sqrt(square + mpmath.mpf(c) ** 2) - mpmath.mpf(c)))
        return values


def test_the_constant_grows_with_the_root_of_the_dimension() -> None:
    # 0.00054 sqrt(d) (mpmath, 50 digits); the paper finds 0.03 for 3 * 32 * 32
    assert pseudo_huber_constant(3072) == pytest.approx(0.02992983795, rel=1e-9)
    assert pseudo_huber_constant(12288) == pytest.approx(0.05985967591, rel=1e-9)
    assert pseudo_huber_constant(1) == pytest.approx(0.00054, rel=1e-15)
    assert type(pseudo_huber_constant(4)) is float


@pytest.mark.parametrize("dim", [1, 2, 784, 3072, 12288, 196608])
def test_the_constant_agrees_with_fifty_digits(dim: int) -> None:
    with mpmath.workdps(50):
        assert pseudo_huber_constant(dim) == pytest.approx(float(mpmath.sqrt(dim) * 54 / 100000), rel=1e-15)


@pytest.mark.parametrize("dim", [0, -3])
def test_a_constant_for_zero_dimensions_is_rejected(dim: int) -> None:
    with pytest.raises(ValueError, match="d"):
        pseudo_huber_constant(dim)


@pytest.mark.parametrize(("dtype", "rel"), [(torch.float64, 1e-11), (torch.float32, 1e-6)])
def test_a_unit_difference_in_every_pixel_has_distance_55_3957(dtype: torch.dtype, rel: float) -> None:
    # sqrt(3072 + c^2) - c with c = 0.00054 sqrt(3072); the mean over pixels would be 0.9705
    x = torch.ones(2, 3, 32, 32, dtype=dtype)
    got = pseudo_huber(x, torch.zeros_like(x), c=pseudo_huber_constant(3072))
    assert got.dtype == dtype
    assert got.tolist() == pytest.approx([55.3957040853] * 2, rel=rel)


def test_a_three_four_five_difference_is_computed_by_hand() -> None:
    # ||(3, 4)|| = 5 and sqrt(25 + 144) - 12 = 1; ||(0, 35)|| = 35 and sqrt(1225 + 144) - 12 = 37 - 12
    x = torch.tensor([[4.0, 6.0], [1.0, 37.0]], dtype=torch.float64)
    y = torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    assert pseudo_huber(x, y, c=12.0).tolist() == pytest.approx([1.0, 25.0], rel=1e-14)


@pytest.mark.parametrize("shape", [(1, 5), (4,), (3, 1), (2, 3, 4, 4), (5, 2, 3)])
@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("c", [0.03, 1.5])
def test_the_distance_agrees_with_fifty_digits(shape: tuple[int, ...], scale: float, c: float) -> None:
    x, y = normal(*shape, seed=1, scale=scale), normal(*shape, seed=2, scale=scale)
    got = pseudo_huber(x, y, c=c)
    assert got.shape == shape[:1]
    assert got.tolist() == pytest.approx(exact_huber(x, y, c), rel=1e-13)


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-7, 1e-12])
def test_a_tiny_difference_does_not_cancel_in_single_precision(delta: float) -> None:
    # sqrt(||delta||^2 + c^2) rounds to c already for delta = 1e-5, where the distance is delta^2 / (2 c)
    x = torch.tensor([[delta, 0.0], [0.0, -delta]], dtype=torch.float32)
    y = torch.zeros_like(x)
    assert pseudo_huber(x, y, c=0.03).tolist() == pytest.approx(exact_huber(x, y, 0.03), rel=1e-5, abs=0.0)


def test_the_distance_is_zero_only_between_equal_examples() -> None:
    x = normal(3, 2, 4, seed=3)
    y = x.clone()
    y[1, 0, 0] += 1e-4
    got = pseudo_huber(x, y, c=0.03)
    assert got[0].item() == got[2].item() == 0.0
    assert got[1].item() > 0.0


def test_the_distance_is_symmetric_and_lies_between_its_bounds() -> None:
    x, y = normal(6, 3, 4, seed=4), normal(6, 3, 4, seed=5)
    got = pseudo_huber(x, y, c=0.7)
    assert torch.equal(got, pseudo_huber(y, x, c=0.7))
    norms = [math.dist(a, b) for a, b in zip(x.reshape(6, -1).tolist(), y.reshape(6, -1).tolist(), strict=True)]
    for distance, norm in zip(got.tolist(), norms, strict=True):
        assert norm - 0.7 <= distance <= norm


def test_the_distance_does_not_change_when_the_flattened_example_is_rotated() -> None:
    rotation, _ = torch.linalg.qr(normal(12, 12, seed=6))
    x, y = normal(4, 3, 2, 2, seed=7), normal(4, 3, 2, 2, seed=8)
    rotated = pseudo_huber(x.reshape(4, 12) @ rotation, y.reshape(4, 12) @ rotation, c=0.3)
    torch.testing.assert_close(pseudo_huber(x, y, c=0.3), rotated, rtol=1e-13, atol=0)


def test_an_example_does_not_depend_on_the_others_of_its_batch() -> None:
    x, y = normal(4, 3, 2, seed=9), normal(4, 3, 2, seed=10)
    alone = [pseudo_huber(x[j : j + 1], y[j : j + 1], c=0.1).item() for j in range(4)]
    assert pseudo_huber(x, y, c=0.1).tolist() == pytest.approx(alone, rel=1e-15)


def test_the_gradient_is_the_difference_over_the_root() -> None:
    x, y = normal(3, 2, 2, seed=11).requires_grad_(), normal(3, 2, 2, seed=12).requires_grad_()
    by_x, by_y = torch.autograd.grad(pseudo_huber(x, y, c=0.4).sum(), [x, y])
    for j in range(3):
        delta = [p - q for p, q in zip(x[j].reshape(-1).tolist(), y[j].reshape(-1).tolist(), strict=True)]
        root = math.sqrt(math.fsum(d * d for d in delta) + 0.16)
        assert by_x[j].reshape(-1).tolist() == pytest.approx([d / root for d in delta], rel=1e-13)
        assert by_y[j].reshape(-1).tolist() == pytest.approx([-d / root for d in delta], rel=1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_vanishes_between_equal_examples(dtype: torch.dtype) -> None:
    x = torch.ones(2, 3, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(pseudo_huber(x, x.detach().clone(), c=0.03).sum(), x)
    assert gradient.tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("c", [0.0, -0.03, math.nan, math.inf])
def test_a_constant_that_is_not_positive_is_rejected(c: float) -> None:
    with pytest.raises(ValueError, match=r"\bc\b"):
        pseudo_huber(torch.ones(2, 3), torch.zeros(2, 3), c=c)


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (1, 3), (2, 1), (2,)])
def test_examples_of_different_shapes_are_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        pseudo_huber(torch.ones(2, 3), torch.zeros(shape), c=0.03)
