"""Laws of the Cauchy distance."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, close, flat, given, law, needs, norm
from ict_ref.verify.laws import distance
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.vectors.values import column


def also(laws: Laws, function: str) -> Laws:
    """Return a law of a distance as one of another distance with a constant."""
    return Laws((replace(laws.of[0], function=function, passed_on={"c": some.huber_constants}),))


@law("cauchy")
@given(x=some.images, y=some.images, c=some.huber_constants, a=some.factors)
def scales_with_its_constant(f: Function, x: Tensor, y: Tensor, c: float, a: float) -> None:
    """d(a x, a y; a c) = d(x, y; c), and exp(d) - 1 is ||x - y||^2 / (2 c^2)."""
    d = f(x=x, y=y, c=c)
    close(f(x=a * x, y=a * y, c=a * c), d, rtol=1e-10)
    close(d.expm1(), flat(x - y).square().sum(1) / (2 * c * c), rtol=1e-10)


@law("cauchy")
@given(x=some.images, y=some.images, c=some.huber_constants)
def lies_below_pseudo_huber(f: Function, x: Tensor, y: Tensor, c: float) -> None:
    """d <= pseudo_huber / c <= ||x - y||^2 / (2 c^2)."""
    d, huber = f(x=x, y=y, c=c), formulas.pseudo_huber(x, y, c=c) / c
    needs(d <= huber * (1 + 1e-6), f"d = {d.tolist()}, above pseudo_huber / c = {huber.tolist()}")


@law("cauchy", needs=("float64",))
@given(x=some.images, c=some.huber_constants)
def is_a_parabola_for_small_differences(f: Function, x: Tensor, c: float) -> None:
    """d = ||x - y||^2 / (2 c^2) = pseudo_huber / c for differences far below c."""
    length = column(norm(x), x)
    z = 1e-6 * c * torch.where(length > 0, x / length, 0)
    d = f(x=z, y=0 * z, c=c)
    close(d, norm(z) ** 2 / (2 * c * c), rtol=1e-10)
    close(d, formulas.pseudo_huber(z, 0 * z, c=c) / c, rtol=1e-10)


@law("cauchy", needs=("gradients",))
@given(x=some.images, y=some.images, c=some.huber_constants)
def has_a_gradient_that_falls_far_out(f: Function, x: Tensor, y: Tensor, c: float) -> None:
    """grad d in x is (x - y) / (c^2 + ||x - y||^2 / 2), at most 1 / (sqrt(2) c) long, and 0 for equals."""
    x, y = torch.cat([x, y[:1]]), torch.cat([y, y[:1]])
    at = x.clone().requires_grad_()
    d = f(x=at, y=y, c=c)
    needs(isinstance(d, Tensor) and d.requires_grad, "the distance has no gradient")
    (gradient,) = torch.autograd.grad(d.sum(), at)
    expected = (x - y) / (c * c + column(norm(x - y), x) ** 2 / 2)
    close(gradient, expected, rtol=1e-10, what="the gradient is")
    needs(norm(gradient) <= (1 + 1e-6) / (math.sqrt(2) * c), "the gradient is longer than 1 / (sqrt(2) c)")


is_symmetric_and_one_value_per_example = also(distance.is_symmetric_and_one_value_per_example, "cauchy")
is_0_for_equals = also(distance.is_0_for_equals, "cauchy")
sees_each_example_whole_and_alone = also(distance.sees_each_example_whole_and_alone, "cauchy")
hides_no_nan = also(distance.hides_no_nan, "cauchy")

LAWS: tuple[Laws, ...] = (
    scales_with_its_constant,
    lies_below_pseudo_huber,
    is_a_parabola_for_small_differences,
    has_a_gradient_that_falls_far_out,
    is_symmetric_and_one_value_per_example,
    is_0_for_equals,
    sees_each_example_whole_and_alone,
    hides_no_nan,
)
