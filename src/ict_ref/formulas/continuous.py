"""The losses of consistency training and distillation in continuous time.

Both are pseudo-objectives: only their gradient is meaningful, not their value. The student is called twice at the same
place: in forward mode without gradient for its derivative along the path, then with gradient for its value. It must be
the same function both times: its dropout mask is fixed, and a call must not change it, as batch statistics would. It
may contain only operations that torch can differentiate forward.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example
from ict_ref.formulas.objective import ConsistencyFunction, Distance
from ict_ref.formulas.ode import ScoreFunction, probability_flow_drift


def continuous_consistency_training_loss(
    student: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    weights: Float[Tensor, " batch"],
    distance: Distance,
) -> Float[Tensor, " batch"]:
    """Return lambda f_theta^T H (d/dsigma + z . d/dx) f_theta-, all at (x + sigma z, sigma), with theta- = theta.

    Source: CM, Appendix B, Theorem 6; iCT, Section 3.1, Figure 1b.

    Return one value per example. Its gradient is the limit of the gradient of `consistency_training_loss`, divided by
    the width of the interval; iCT's weights already divide by it. Only the first f_theta has a gradient.

    H is the Hessian of `distance` in its first argument where both are f_theta-: 2 I for `squared_l2`, I / c for
    `pseudo_huber`. A distance without a Hessian, such as `l1`, gives 0.

    `weights` is lambda(sigma) of each example. It includes the theorem's 1 / (tau^-1)'(sigma) for sigma = tau(u), u
    uniform; CM's experiments choose lambda = (tau^-1)', so that `weights` is 1.

    Raises: ValueError if shapes differ, or if sigma or weights are not positive and finite.
    """
    source = "CM Theorem 6"
    _domain.same_shape(source, x=x, z=z)
    _domain.one_per_example(source, x=x, sigma=sigma, weights=weights)
    _domain.levels(sigma, source)
    sigma = sigma.to(x)
    return _along(student, x + per_example(sigma, x) * z, sigma, z, weights, distance)


def continuous_consistency_distillation_loss(
    student: ConsistencyFunction,
    score: ScoreFunction,
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    weights: Float[Tensor, " batch"],
    distance: Distance,
) -> Float[Tensor, " batch"]:
    """Return lambda f_theta^T H (d/dsigma - sigma score . d/dx) f_theta-, all at (x, sigma), with theta- = theta.

    Source: CM, Appendix B, Theorem 5.

    Return one value per example. Here `x` is the noisy example itself, x ~ p_sigma, and the path solves Eq. (1). The
    score does not receive a gradient. Everything else is as in `continuous_consistency_training_loss`.

    Raises: ValueError if sigma or weights are not one positive, finite value per example.
    """
    source = "CM Theorem 5"
    _domain.one_per_example(source, x=x, sigma=sigma, weights=weights)
    sigma = sigma.to(x)
    with torch.no_grad():
        drift = probability_flow_drift(x, sigma, score)
    return _along(student, x, sigma, drift, weights, distance)


def _along(
    student: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
    weights: Float[Tensor, " batch"],
    distance: Distance,
) -> Float[Tensor, " batch"]:
    """Return lambda f^T H Df, D the derivative where sigma grows by 1 and x by `velocity`."""
    _domain.all_positive("weights", weights, "iCT Eq. (3): lambda(sigma) > 0", "give one positive weight per example")
    derivative = _derivative(student, (x, sigma), (velocity, torch.ones_like(sigma)))
    value = student(x, sigma)
    anchor = value.detach()
    distance_gradient = torch.func.grad(lambda y: distance(y, anchor).sum())
    hessian_derivative = _derivative(distance_gradient, (anchor,), (derivative,))
    return weights.to(x) * (value * hessian_derivative).reshape(len(x), -1).sum(1)


def _derivative(
    function: Callable[..., Tensor],
    at: tuple[Tensor, ...],
    along: tuple[Tensor, ...],
) -> Tensor:
    """Return the derivative of function(*at) in the direction `along`, without gradient."""
    # Fused attention has no derivative in forward mode.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        derivative: Tensor = torch.func.jvp(function, at, along)[1]
    return derivative
