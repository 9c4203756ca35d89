"""What consistency training and distillation become when there is a noise level for every real number.

Both are pseudo-objectives: their gradient is what one wants, their value means nothing. The network's derivative
along its path is taken in forward mode, together with its value, so that one call (and one dropout mask) gives both.
The student may hold nothing that torch cannot differentiate forward, nor what a call changes, such as batch statistics.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

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

    One value per example, whose gradient is the limit of that of `consistency_training_loss` divided by the cell's
    width; iCT's weights divide by it already. Only the first f_theta has a gradient. H is the Hessian of `distance` in
    its first argument where both are f_theta-: 2 I for `squared_l2`, I / c for `pseudo_huber`; a distance such as `l1`,
    which has none, gives 0. `weights` is lambda(sigma) of each example, and takes up the theorem's 1 / (tau^-1)'(sigma)
    for sigma = tau(u), u uniform; CM's experiments choose lambda = (tau^-1)', so that it is 1.
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

    One value per example. Here `x` is the noisy example itself, x ~ p_sigma, and the path is Eq. (1)'s. No gradient
    passes through the score; everything else as in `continuous_consistency_training_loss`.
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
    value, derivative = _value_and_derivative(student, (x, sigma), (velocity, torch.ones_like(sigma)))
    anchor = value.detach()
    distance_gradient = torch.func.grad(lambda y: distance(y, anchor).sum())
    _, hessian_derivative = _value_and_derivative(distance_gradient, (anchor,), (derivative.detach(),))
    return weights.to(x) * (value * hessian_derivative.detach()).reshape(len(x), -1).sum(1)


def _value_and_derivative(
    function: Callable[..., Tensor],
    at: tuple[Tensor, ...],
    along: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor]:
    """Return function(*at) and its derivative in the direction `along`."""
    value, derivative = torch.func.jvp(function, at, along)  # type: ignore[misc] # it has 3 with has_aux only
    return value, derivative
