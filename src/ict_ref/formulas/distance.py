"""The distance d(x, y) between two examples, and the paper's choice of its constant."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.formulas import _domain


def squared_l2(x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Return d(x, y) = ||x - y||_2^2, one value per example.

    Source: iCT, Section 2, below Eq. (3).

    The sum runs over all event axes; the mean would be this value divided by the number of values.

    Raises: ValueError if x and y do not have one shape.
    """
    _domain.same_shape("iCT Section 2", x=x, y=y)
    return (x - y).reshape(len(x), -1).square().sum(1)


def l2(x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Return d(x, y) = ||x - y||_2, one value per example.

    Source: ECT, public code for CIFAR-10.

    It is the limit of `pseudo_huber` for c to 0, and not squared. Its gradient is a unit vector, and 0 where x = y, at
    which the norm has no gradient.

    Raises: ValueError if x and y do not have one shape.

    >>> l2(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
    tensor([5.])
    """
    _domain.same_shape("ECT public code", x=x, y=y)
    norm: Tensor = torch.linalg.vector_norm((x - y).reshape(len(x), -1), dim=1)
    return norm


def l1(x: Float[Tensor, " batch *event"], y: Float[Tensor, " batch *event"]) -> Float[Tensor, " batch"]:
    """Return d(x, y) = ||x - y||_1, one value per example.

    Source: CM, Section 4; iCT, Section 3.3 names it as not twice differentiable.

    The sum runs over all event axes; it is not a mean.

    Raises: ValueError if x and y do not have one shape.
    """
    _domain.same_shape("CM Section 4", x=x, y=y)
    return (x - y).reshape(len(x), -1).abs().sum(1)


def pseudo_huber(
    x: Float[Tensor, " batch *event"],
    y: Float[Tensor, " batch *event"],
    *,
    c: float,
) -> Float[Tensor, " batch"]:
    """Return d(x, y) = sqrt(||x - y||_2^2 + c^2) - c, one value per example.

    Source: iCT, Section 3.3, Eq. (8).

    The norm runs over all event axes at once. Applying the formula to each element and averaging is a different
    function, whose c is sqrt(d) times too large: 55 times for 32x32 colour images. Where the square of the norm
    overflows the result is infinite, in float16 from a norm of 256.

    Raises: ValueError if x and y do not have one shape, or if c <= 0: at c = 0 the gradient has no limit where x = y.

    >>> pseudo_huber(torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [3.0, 4.0]]), c=12.0)
    tensor([0., 1.])
    """
    _domain.positive("c", c, "iCT Eq. (8)")
    if c * c < torch.finfo(x.dtype).tiny:
        _domain.refuse(f"c^2 > 0 in {x.dtype} (iCT Eq. (8))", f"c = {c}", "compute in float32 or better")
    squared_norm = squared_l2(x, y)
    # sqrt(s + c^2) - c = s / (sqrt(s + c^2) + c): for s far below c^2 the difference loses all its digits.
    distance = squared_norm / ((squared_norm + c * c).sqrt() + c)
    return torch.where(squared_norm.isinf(), squared_norm, distance)


def cauchy(
    x: Float[Tensor, " batch *event"],
    y: Float[Tensor, " batch *event"],
    *,
    c: float,
) -> Float[Tensor, " batch"]:
    """Return d(x, y) = log(1 + ||x - y||_2^2/(2 c^2)), one value per example.

    Source: sLCT, the Cauchy distance that it names; the form is that of Barron 2019, alpha = 0.

    The form was not compared with the text of sLCT, whose schedule of c is not here either. The distance is not convex:
    its gradient is longest, 1 / (sqrt(2) c), for a difference of norm sqrt(2) c, and falls beyond. For small
    differences it is `pseudo_huber` / c. Where the square of the norm overflows the result is infinite.

    Raises: ValueError if x and y do not have one shape, or if c is not positive or c^2 is 0 in the dtype of x.

    >>> cauchy(torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]), c=5.0)
    tensor([0.4055])
    """
    _domain.positive("c", c, "sLCT")
    if c * c < torch.finfo(x.dtype).tiny:
        _domain.refuse(f"c^2 > 0 in {x.dtype} (sLCT)", f"c = {c}", "compute in float32 or better")
    # log1p keeps the digits of small differences.
    return (squared_l2(x, y) / (2 * c * c)).log1p()


def pseudo_huber_constant(dim: int) -> float:
    """Return c = 0.00054 sqrt(d), d the number of values in an example: channels times height times width.

    Source: iCT, Section 3.3 and Table 1.

    Raises: ValueError if dim < 1.

    >>> round(pseudo_huber_constant(3 * 32 * 32), 4)
    0.0299
    """
    if dim < 1:
        _domain.refuse("dim >= 1 (iCT Section 3.3)", f"dim = {dim}", "give channels * height * width")
    return 0.00054 * math.sqrt(dim)
