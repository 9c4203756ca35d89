"""Laws of the distance between examples."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

from ict_ref.formulas import l1, pseudo_huber, pseudo_huber_constant, squared_l2
from properties.strategies import rotation, seeds, tensor_lists

constants = st.floats(1e-3, 10.0)
pairs = tensor_lists(2)


def norm(x: Tensor) -> Tensor:
    """Return the length of each example, as a plain sum of squares."""
    return x.reshape(len(x), -1).square().sum(1).sqrt()


@given(pairs)
def test_squared_l2_is_the_squared_length(pair: list[Tensor]) -> None:
    """d(x, y) = d(y, x) = ||x - y||^2, and 0 for equals."""
    x, y = pair
    torch.testing.assert_close(squared_l2(x, y), norm(x - y) ** 2)
    assert torch.equal(squared_l2(x, y), squared_l2(y, x))
    assert bool((squared_l2(x, x) == 0).all())


@given(pairs, st.floats(-9.0, 9.0), seeds)
def test_squared_l2_scales_by_the_square_and_is_invariant_under_rotation(
    pair: list[Tensor], a: float, seed: int
) -> None:
    """d(ax, ay) = a^2 d(x, y) and d(Qx, Qy) = d(x, y)."""
    x, y = (tensor.reshape(len(tensor), -1) for tensor in pair)
    q = rotation(x.shape[1], seed)
    torch.testing.assert_close(squared_l2(a * x @ q, a * y @ q), a**2 * squared_l2(x, y), rtol=1e-10, atol=1e-300)


@given(pairs)
def test_squared_l2_has_the_difference_doubled_as_gradient(pair: list[Tensor]) -> None:
    """Grad d = 2 (x - y)."""
    x, y = pair[0].clone().requires_grad_(), pair[1]
    (gradient,) = torch.autograd.grad(squared_l2(x, y).sum(), x)
    torch.testing.assert_close(gradient, 2 * (x - y).detach())


@given(tensor_lists(3))
def test_l1_is_a_metric(triple: list[Tensor]) -> None:
    """d(x, y) = d(y, x) > 0 = d(x, x), and d(x, z) <= d(x, y) + d(y, z)."""
    x, y, z = triple
    assert torch.equal(l1(x, y), l1(y, x))
    assert bool((l1(x, y) > 0).all())
    assert bool((l1(x, x) == 0).all())
    assert bool((l1(x, z) <= (l1(x, y) + l1(y, z)) * (1 + 1e-12)).all())


@given(pairs)
def test_l1_lies_between_the_norm_and_root_d_times_it(pair: list[Tensor]) -> None:
    """||x - y||_2 <= d(x, y) <= sqrt(d) ||x - y||_2."""
    x, y = pair
    length = norm(x - y)
    assert bool((length <= l1(x, y) * (1 + 1e-12)).all())
    assert bool((l1(x, y) <= math.sqrt(x[0].numel()) * length * (1 + 1e-12)).all())


@given(pairs, st.floats(-9.0, 9.0))
def test_l1_scales_by_the_absolute_value(pair: list[Tensor], a: float) -> None:
    """d(ax, ay) = |a| d(x, y)."""
    x, y = pair
    torch.testing.assert_close(l1(a * x, a * y), abs(a) * l1(x, y), rtol=1e-10, atol=1e-300)


@given(pairs, constants)
def test_pseudo_huber_is_symmetric_and_positive(pair: list[Tensor], c: float) -> None:
    """d(x, y) = d(y, x) > 0 where x and y differ."""
    x, y = pair
    d = pseudo_huber(x, y, c=c)
    assert d.shape == (len(x),)
    assert bool((d > 0).all())
    assert torch.equal(d, pseudo_huber(y, x, c=c))


@given(pairs, constants)
def test_pseudo_huber_is_0_for_equals(pair: list[Tensor], c: float) -> None:
    """d(x, x) = 0, exactly."""
    assert bool((pseudo_huber(pair[0], pair[0], c=c) == 0).all())


@given(pairs, constants)
def test_pseudo_huber_lies_below_the_norm(pair: list[Tensor], c: float) -> None:
    """||x - y|| - c <= d(x, y) <= ||x - y||."""
    d, length = pseudo_huber(*pair, c=c), norm(pair[0] - pair[1])
    assert bool((d <= length * (1 + 1e-12)).all())
    assert bool((d >= length - c - 1e-12 * length).all())


@given(pairs, constants)
def test_pseudo_huber_is_squared_l2_for_small_differences(pair: list[Tensor], c: float) -> None:
    """d(0, t u) -> t^2 / (2c), from below; the relative difference is less than (t / 2c)^2."""
    u = pair[0] / norm(pair[0]).reshape(-1, *(1 for _ in pair[0].shape[1:]))
    for t in (1e-2 * c, 1e-4 * c):
        d, parabola = pseudo_huber(torch.zeros_like(u), t * u, c=c), t**2 / (2 * c)
        assert bool((d <= parabola * (1 + 1e-12)).all())
        assert bool((d >= parabola * (1 - (t / (2 * c)) ** 2 - 1e-12)).all())


@given(pairs, constants, seeds)
def test_pseudo_huber_is_invariant_under_rotation(pair: list[Tensor], c: float, seed: int) -> None:
    """d(Qx, Qy) = d(x, y) for orthogonal Q on the flattened example: the norm is the whole example's."""
    x, y = (tensor.reshape(len(tensor), -1) for tensor in pair)
    q = rotation(x.shape[1], seed)
    torch.testing.assert_close(pseudo_huber(x @ q, y @ q, c=c), pseudo_huber(*pair, c=c), rtol=1e-10, atol=0)


@given(pairs, constants, st.floats(0.01, 100.0))
def test_pseudo_huber_scales_with_its_constant(pair: list[Tensor], c: float, a: float) -> None:
    """d(ax, ay; ac) = a d(x, y; c)."""
    x, y = pair
    torch.testing.assert_close(pseudo_huber(a * x, a * y, c=a * c), a * pseudo_huber(x, y, c=c), rtol=1e-11, atol=0)


@given(pairs, constants)
def test_pseudo_huber_has_a_bounded_gradient(pair: list[Tensor], c: float) -> None:
    """Grad d = (x - y) / sqrt(||x - y||^2 + c^2): finite at 0, never longer than 1."""
    x, y = pair
    x = torch.cat([x, y[:1]]).requires_grad_()
    y = torch.cat([y, y[:1]])
    (gradient,) = torch.autograd.grad(pseudo_huber(x, y, c=c).sum(), x)
    delta = (x - y).detach()
    length = norm(delta).reshape(-1, *(1 for _ in x.shape[1:]))
    torch.testing.assert_close(gradient, delta / (length**2 + c**2).sqrt(), rtol=1e-11, atol=1e-15)
    assert bool((norm(gradient) <= 1).all())
    assert bool((gradient[-1] == 0).all())


@given(seeds, st.floats(1e-6, 1e-3))
def test_pseudo_huber_keeps_its_digits_in_float32(seed: int, scale: float) -> None:
    """In float32 a tiny difference has the distance that it has in float64."""
    delta = scale * torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    single = pseudo_huber(delta, torch.zeros_like(delta), c=0.03)
    double = pseudo_huber(delta.double(), torch.zeros_like(delta).double(), c=0.03)
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


dims = st.integers(1, 10**9)


@given(dims)
def test_pseudo_huber_constant_grows_with_the_root_of_the_dimension(dim: int) -> None:
    """c(4d) = 2 c(d)."""
    assert pseudo_huber_constant(4 * dim) == pytest.approx(2 * pseudo_huber_constant(dim), rel=1e-15)


@given(dims)
def test_pseudo_huber_constant_squared_is_proportional_to_the_dimension(dim: int) -> None:
    """c(d)^2 = d c(1)^2."""
    assert pseudo_huber_constant(dim) ** 2 == pytest.approx(dim * pseudo_huber_constant(1) ** 2, rel=1e-14)


@given(dims)
def test_pseudo_huber_constant_rises(dim: int) -> None:
    """0 < c(d) < c(d + 1)."""
    assert 0 < pseudo_huber_constant(dim) < pseudo_huber_constant(dim + 1)


@given(pairs, st.sampled_from([0.0, -0.03, float("nan"), float("inf")]), st.integers(-5, 0))
def test_distances_refuse_what_is_outside_their_domain(pair: list[Tensor], c: float, dim: int) -> None:
    """C > 0: at c = 0 the gradient of equals has no limit. d >= 1. As many x as y."""
    x, y = pair
    with pytest.raises(ValueError, match="0 < c < infinity"):
        pseudo_huber(x, y, c=c)
    with pytest.raises(ValueError, match="dim >= 1"):
        pseudo_huber_constant(dim)
    assume(len(x) > 1)
    with pytest.raises((ValueError, TypeError)):
        pseudo_huber(x, y[1:], c=1.0)
