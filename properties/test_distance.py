"""Laws of the distance between examples."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

from ict_ref.formulas import l1, pseudo_huber, pseudo_huber_constant, squared_l2
from properties.law_of import law_of
from properties.strategies import seeds, tensor_lists

constants = st.floats(1e-3, 10.0)
pairs = tensor_lists(2)


def norm(x: Tensor) -> Tensor:
    """Return the length of each example, as a plain sum of squares."""
    return x.reshape(len(x), -1).square().sum(1).sqrt()


@law_of("squared_l2")
@given(pairs)
def test_squared_l2_has_the_difference_doubled_as_gradient(pair: list[Tensor]) -> None:
    """Grad d = 2 (x - y)."""
    x, y = pair[0].clone().requires_grad_(), pair[1]
    (gradient,) = torch.autograd.grad(squared_l2(x, y).sum(), x)
    torch.testing.assert_close(gradient, 2 * (x - y).detach())


@law_of("l1")
@given(pairs, st.floats(-9.0, 9.0))
def test_l1_scales_by_the_absolute_value(pair: list[Tensor], a: float) -> None:
    """d(ax, ay) = |a| d(x, y)."""
    x, y = pair
    torch.testing.assert_close(l1(a * x, a * y), abs(a) * l1(x, y), rtol=1e-10, atol=1e-300)


@law_of("pseudo_huber")
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


@law_of("pseudo_huber")
@given(seeds, st.floats(1e-6, 1e-3))
def test_pseudo_huber_keeps_its_digits_in_float32(seed: int, scale: float) -> None:
    """In float32 a tiny difference has the distance that it has in float64."""
    delta = scale * torch.randn(3, 8, generator=torch.Generator().manual_seed(seed))
    single = pseudo_huber(delta, torch.zeros_like(delta), c=0.03)
    double = pseudo_huber(delta.double(), torch.zeros_like(delta).double(), c=0.03)
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=0)


@law_of("pseudo_huber", "pseudo_huber_constant")
@given(pairs, st.sampled_from([0.0, -0.03, float("nan"), float("inf")]), st.integers(-5, 0))
def test_distances_refuse_what_is_outside_their_domain(pair: list[Tensor], c: float, dim: int) -> None:
    """C > 0: at c = 0 the gradient of equals has no limit. d >= 1. Equal numbers of x and y."""
    x, y = pair
    with pytest.raises(ValueError, match="0 < c < infinity"):
        pseudo_huber(x, y, c=c)
    with pytest.raises(ValueError, match="dim >= 1"):
        pseudo_huber_constant(dim)
    assume(len(x) > 1)
    with pytest.raises((ValueError, TypeError)):
        pseudo_huber(x, y[1:], c=1.0)
