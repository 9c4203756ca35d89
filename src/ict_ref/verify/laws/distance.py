"""Laws of the distance between examples."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ict_ref.verify.checks.law import Function, Laws, close, equal, flat, given, law, needs, norm, rotation, tolerance
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.vectors.values import column

DISTANCES = ("squared_l2", "l1", "pseudo_huber")
WITH_C = {"pseudo_huber": {"c": some.huber_constants}}


@law(*DISTANCES, passed_on=WITH_C)
@given(x=some.images, y=some.images)
def is_symmetric_and_one_value_per_example(f: Function, x: Tensor, y: Tensor) -> None:
    """d(x, y) = d(y, x) >= 0, one value per example."""
    there, back = f(x=x, y=y), f(x=y, y=x)
    equal(list(there.shape), [len(x)], "a shape of")
    needs(there >= 0, f"d = {there.tolist()}, should not be negative")
    close(there, back, rtol=1e-14)


@law(*DISTANCES, passed_on=WITH_C)
@given(x=some.images)
def is_0_for_equals(f: Function, x: Tensor) -> None:
    """d(x, x) = 0, exactly."""
    equal(f(x=x, y=x), torch.zeros(len(x), dtype=torch.float64))


@law(*DISTANCES, passed_on=WITH_C)
@given(x=some.images, y=some.images)
def sees_each_example_whole_and_alone(f: Function, x: Tensor, y: Tensor) -> None:
    """d of a batch is d of its examples; and it is the same for an example as an image or as a row of values."""
    together = f(x=x, y=y)
    alone = [f(x=x[j : j + 1], y=y[j : j + 1]) for j in range(len(x))]
    close(together, torch.cat(alone), rtol=1e-12)
    close(together, f(x=flat(x), y=flat(y)), rtol=1e-12)


@law(*DISTANCES, passed_on=WITH_C)
@given(x=some.images, y=some.images)
def does_not_see_the_layout_in_memory(f: Function, x: Tensor, y: Tensor) -> None:
    """d is of the values, in whatever order they lie in memory: channels last, or a transposed view."""
    last = x.ndim - 1
    turned = x.transpose(1, last).contiguous().transpose(1, last)
    close(f(x=turned, y=y), f(x=x, y=y), rtol=1e-12)


@law(*DISTANCES, passed_on=WITH_C, needs=("float64",), kind="precision")
@given(x=some.images, z=some.images)
def keeps_its_digits_for_near_equals(f: Function, x: Tensor, z: Tensor) -> None:
    """d(x, y) is d(x - y, 0), also where x - y is a millionth of x: ||x||^2 - 2 x . y + ||y||^2 has lost it."""
    y = x + 1e-6 * z
    got, expected = f(x=x, y=y), f(x=x - y, y=torch.zeros_like(x))
    close(got, expected, rtol=1e-9)


@law(*DISTANCES, passed_on=WITH_C)
@given(x=some.images, y=some.images)
def hides_no_nan(f: Function, x: Tensor, y: Tensor) -> None:
    """A NaN among the values of an example is a NaN in its distance, and in no other."""
    spoiled = x.clone()
    flat(spoiled)[0, 0] = math.nan
    d = f(x=spoiled, y=y)
    equal(d.isnan(), torch.arange(len(x)) == 0, "the distance is NaN:")


def _gradients(f: Function, x: Tensor, y: Tensor, slope: Callable[[Tensor], Tensor]) -> None:
    """Check both gradients of a distance; the last two examples are equals. `slope` is the one in x, of x - y."""
    x, y = torch.cat([x, y[:1]]), torch.cat([y, y[:1]])
    ours, theirs = x.clone().requires_grad_(), y.clone().requires_grad_()
    d = f(x=ours, y=theirs)
    needs(isinstance(d, Tensor) and d.requires_grad, "the distance has no gradient")
    expected = slope(x - y)
    gradients = torch.autograd.grad(d.sum(), (ours, theirs), allow_unused=True)
    for gradient, sign, who in zip(gradients, (1, -1), "xy", strict=True):
        needs(gradient is not None, f"no gradient reaches {who}")
        close(gradient, sign * expected, what=f"the gradient in {who} is")


@law("squared_l2", needs=("gradients",))
@given(x=some.images, y=some.images)
def has_twice_the_difference_as_gradient(f: Function, x: Tensor, y: Tensor) -> None:
    """grad d in x is 2 (x - y), and minus that in y; for equals it is 0."""
    _gradients(f, x, y, lambda delta: 2 * delta)


@law("l1", needs=("gradients",))
@given(x=some.images, y=some.images)
def has_the_sign_of_the_difference_as_gradient(f: Function, x: Tensor, y: Tensor) -> None:
    """grad d in x is sign(x - y), and minus that in y; for equals it is 0."""
    _gradients(f, x, y, torch.sign)


@law("pseudo_huber", needs=("gradients",))
@given(x=some.images, y=some.images, c=some.huber_constants)
def has_its_gradient(f: Function, x: Tensor, y: Tensor, c: float) -> None:
    """grad d in x is (x - y) / sqrt(||x - y||^2 + c^2), and minus that in y; for equals it is 0, never a NaN."""

    def slope(delta: Tensor) -> Tensor:
        return delta / (column(norm(delta), delta) ** 2 + c**2).sqrt()

    _gradients(partial(f, c=c), x, y, slope)


@law("squared_l2", "pseudo_huber", passed_on=WITH_C)
@given(x=some.images, y=some.images, seed=some.seeds)
def is_invariant_under_rotation(f: Function, x: Tensor, y: Tensor, seed: int) -> None:
    """d(Q x, Q y) = d(x, y) for orthogonal Q on the flattened example: the norm is the whole example's."""
    x, y = flat(x), flat(y)
    q = rotation(x.shape[1], seed)
    got, expected = f(x=x @ q, y=y @ q), f(x=x, y=y)
    # The rounding error of x @ q, times the steepest slope: 1 of pseudo-Huber, 2 ||x - y|| of squared l2.
    moved = 1e-14 * float(x.abs().max() + y.abs().max()) * x.shape[1]
    close(got, expected, rtol=1e-10, atol=moved * (1 + 2 * float(norm(x - y).max())))


@law("squared_l2")
@given(x=some.images, y=some.images, a=some.factors)
def scales_by_the_square(f: Function, x: Tensor, y: Tensor, a: float) -> None:
    """d(a x, a y) = a^2 d(x, y)."""
    close(f(x=a * x, y=a * y), a**2 * f(x=x, y=y), rtol=1e-10)


@law("squared_l2")
@given(x=some.images, y=some.images)
def is_the_sum_of_squares(f: Function, x: Tensor, y: Tensor) -> None:
    """d(x, y) = ||x - y||_2^2, neither its root nor a mean."""
    close(f(x=x, y=y), norm(x - y) ** 2, rtol=1e-12)


@law("l1")
@given(x=some.images, y=some.images, z=some.images)
def keeps_the_triangle(f: Function, x: Tensor, y: Tensor, z: Tensor) -> None:
    """d(x, z) <= d(x, y) + d(y, z)."""
    needs(f(x=x, y=z) <= (f(x=x, y=y) + f(x=y, y=z)) * (1 + tolerance(1e-12)), "a way round is shorter")


@law("l1")
@given(x=some.images, y=some.images)
def lies_between_the_norm_and_root_d_times_it(f: Function, x: Tensor, y: Tensor) -> None:
    """||x - y||_2 <= d(x, y) <= sqrt(d) ||x - y||_2."""
    d, length = f(x=x, y=y), norm(x - y)
    needs(length <= d * (1 + tolerance(1e-12)), f"d = {d.tolist()}, below ||x - y||_2 = {length.tolist()}")
    most = math.sqrt(flat(x).shape[1]) * length
    needs(d <= most * (1 + tolerance(1e-12)), f"d = {d.tolist()}, above sqrt(d) ||x - y||_2 = {most.tolist()}")


@law("pseudo_huber", needs=("gradients", "float64"))
@given(x=some.images, y=some.images, c=some.huber_constants)
def is_twice_differentiable(f: Function, x: Tensor, y: Tensor, c: float) -> None:
    """H = I / r - (x - y) (x - y)^T / r^3, r = sqrt(||x - y||^2 + c^2): eigenvalues c^2 / r^3 once and 1 / r.

    It is positive definite. At x = y it is I / c, which is also its limit there.
    """
    unit = torch.ones_like(x[:1]) / math.sqrt(x[0].numel())
    x, y = torch.cat([x, y[:1], y[:1] + 1e-6 * c * unit]), torch.cat([y, y[:1], y[:1]])
    got, delta = _hessian(f, x, y, c), flat(x - y)
    r = (norm(delta) ** 2 + c**2).sqrt()
    identity = torch.eye(delta.shape[1], dtype=torch.float64)
    for j, h in enumerate(got):
        expected = identity / r[j] - delta[j][:, None] * delta[j] / r[j] ** 3
        # The terms that cancel in the direction of x - y are rounded before.
        close(h, expected, rtol=1e-9, atol=1e-12 / float(r[j]), what="the Hessian is")
        across = torch.cat([c**2 / r[j : j + 1] ** 3, (1 / r[j]).expand(len(h) - 1)])
        eigenvalues = torch.linalg.eigvalsh((h + h.T) / 2)
        close(eigenvalues, across, rtol=1e-9, atol=1e-12 / float(r[j]), what="the Hessian's eigenvalues are")
        seen = c**2 > 1e-10 * float(r[j]) ** 2  # else rounding hides whether the least eigenvalue is above 0
        needs(not seen or eigenvalues[0] > 0, f"the Hessian is not positive definite: {eigenvalues.tolist()}")
    close(got[-2], identity / c, rtol=1e-12, atol=1e-14 / c, what="at x = y the Hessian is")
    close(got[-1], identity / c, rtol=1e-9, atol=1e-9 / c, what="beside x = y the Hessian is")


def _hessian(f: Function, x: Tensor, y: Tensor, c: float) -> Tensor:
    """Return the second derivative of each example's distance by its first argument."""
    x = x.clone().requires_grad_()
    d = f(x=x, y=y, c=c)
    needs(isinstance(d, Tensor) and d.requires_grad, "the distance has no gradient")
    (gradient,) = torch.autograd.grad(d.sum(), x, create_graph=True)
    needs(gradient.requires_grad, "the distance has no second derivative")
    # An example's gradient depends on that example alone.
    columns = [torch.autograd.grad(column.sum(), x, retain_graph=True)[0] for column in flat(gradient).unbind(1)]
    return torch.stack([flat(column) for column in columns], 1)


@law("pseudo_huber")
@given(x=some.images, y=some.images, c=some.huber_constants)
def lies_below_the_norm(f: Function, x: Tensor, y: Tensor, c: float) -> None:
    """||x - y|| - c <= d(x, y) <= ||x - y||."""
    d, length = f(x=x, y=y, c=c), norm(x - y)
    needs(d <= length * (1 + tolerance(1e-12)), f"d = {d.tolist()}, above ||x - y|| = {length.tolist()}")
    least = length - c - tolerance(1e-12) * (length + c)
    needs(d >= least, f"d = {d.tolist()}, below ||x - y|| - c = {least.tolist()}")


@law("pseudo_huber")
@given(x=some.images, c=some.huber_constants)
def is_a_parabola_for_small_differences(f: Function, x: Tensor, c: float) -> None:
    """d(0, t u) = t^2 / (2c) for unit vectors u, from below; the relative difference is less than (t / 2c)^2."""
    length = norm(x)
    u = torch.where(column(length, x) > 0, x, torch.ones_like(x))
    u = u / column(norm(u), x)
    for t in (1e-2 * c, 1e-4 * c):
        d, parabola = f(x=torch.zeros_like(u), y=t * u, c=c), t**2 / (2 * c)
        rounding = tolerance(5e-15) * c  # of sqrt(t^2 + c^2), from which c may be subtracted
        needs(
            d <= parabola * (1 + tolerance(1e-12)) + rounding,
            f"d = {d.tolist()} at t = {t}, above t^2 / 2c = {parabola}",
        )
        least = parabola * (1 - (t / (2 * c)) ** 2 - tolerance(1e-12)) - rounding
        needs(d >= least, f"d = {d.tolist()} at t = {t}, far below t^2 / 2c = {parabola}")


@law("pseudo_huber")
@given(x=some.images, y=some.images, c=some.huber_constants, a=some.factors)
def scales_with_its_constant(f: Function, x: Tensor, y: Tensor, c: float, a: float) -> None:
    """d(a x, a y; a c) = a d(x, y; c)."""
    close(f(x=a * x, y=a * y, c=a * c), a * f(x=x, y=y, c=c), rtol=1e-10, atol=5e-15 * a * c)


@law("pseudo_huber")
@given(x=some.images, y=some.images, z=some.images, c=some.huber_constants)
def never_changes_faster_than_its_argument(f: Function, x: Tensor, y: Tensor, z: Tensor, c: float) -> None:
    """|d(x, z) - d(y, z)| <= ||x - y||: no gradient is longer than 1, that is what makes it robust."""
    change = (f(x=x, y=z, c=c) - f(x=y, y=z, c=c)).abs()
    most = norm(x - y) * (1 + tolerance(1e-12)) + tolerance(1e-12) * (norm(x) + norm(y) + norm(z))
    needs(change <= most, f"d changes by {change.tolist()} where its argument moves by {most.tolist()}")


@law("pseudo_huber_constant")
@given(dim=some.dimensions)
def doubles_for_four_times_the_values(f: Function, dim: int) -> None:
    """c(4d) = 2 c(d)."""
    close(f(dim=4 * dim), 2 * f(dim=dim), rtol=1e-15)


@law("pseudo_huber_constant")
@given(dim=some.dimensions)
def rises(f: Function, dim: int) -> None:
    """0 < c(d) < c(d + 1)."""
    needs(0 < f(dim=dim) < f(dim=dim + 1), f"c(d) = {f(dim=dim)}, c(d + 1) = {f(dim=dim + 1)}")


@law("pseudo_huber_constant")
@given(dim=some.dimensions)
def is_that_of_one_value_times_the_root(f: Function, dim: int) -> None:
    """c(d)^2 = d c(1)^2."""
    close(f(dim=dim) ** 2, dim * f(dim=1) ** 2, rtol=1e-14)


LAWS: tuple[Laws, ...] = (
    is_symmetric_and_one_value_per_example,
    is_0_for_equals,
    sees_each_example_whole_and_alone,
    does_not_see_the_layout_in_memory,
    keeps_its_digits_for_near_equals,
    hides_no_nan,
    has_twice_the_difference_as_gradient,
    has_the_sign_of_the_difference_as_gradient,
    has_its_gradient,
    is_invariant_under_rotation,
    scales_by_the_square,
    is_the_sum_of_squares,
    keeps_the_triangle,
    lies_between_the_norm_and_root_d_times_it,
    is_twice_differentiable,
    lies_below_the_norm,
    is_a_parabola_for_small_differences,
    scales_with_its_constant,
    never_changes_faster_than_its_argument,
    doubles_for_four_times_the_values,
    rises,
    is_that_of_one_value_times_the_root,
)
