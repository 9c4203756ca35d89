"""Closed forms for a point, a normal distribution and a mixture as data, and Proposition 1 on the first.

Section 3.2's toy model is f_theta(x, sigma) = sigma_min/sigma x + (1 - sigma_min/sigma) theta, on data xi. It is
`delta_consistency_function` with theta for xi. Its grid is *linear*, sigma_i = sigma_min + (i-1)/(N-1) (sigma_max -
sigma_min), which is `sigma_grid` with rho = 1. In the limit sigma is therefore uniform on [sigma_min, sigma_max].

Appendix A has one symbol for Euler's point and for x + sigma_i z, which agree here and not in general. It also writes
terms of order Delta sigma, and an o(Delta sigma), behind a limit in which they are 0. Eqs. (6) and (7) are meant with
the limit taken: (7) divides by Delta sigma first.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example


def delta_consistency_function(
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    xi: Float[Tensor, "*event"],
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Return f*(x, sigma) = sigma_min/sigma x + (1 - sigma_min/sigma) xi, for data that are the single point xi.

    Source: iCT, Section 3.2.

    With a parameter theta in place of xi it is the section's model f_theta.

    Raises: ValueError if shapes differ, or unless 0 < sigma_min <= sigma < infinity.
    """
    source = "iCT Section 3.2"
    _check(x, sigma, sigma_min, source)
    _check_point("xi", xi, x, source)
    kept = per_example(sigma.new_full((), sigma_min) / sigma, x)
    return kept * x + (1 - kept) * xi


def gaussian_consistency_function(
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    mean: Float[Tensor, "*event"],
    std: float,
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Return f*(x, sigma) = mean + sqrt((std^2 + sigma_min^2) / (std^2 + sigma^2)) (x - mean), for N(mean, std^2 I).

    Source: iCT, Section 2; its ODE solved in closed form, which the paper does not print.

    The path ends at sigma_min, where the noisy data have variance std^2 + sigma_min^2, not at the data. With std = 0 it
    is `delta_consistency_function`.

    Raises: ValueError if shapes differ, unless std >= 0, or unless 0 < sigma_min <= sigma < infinity.
    """
    source = "iCT Eq. (1)"
    _check(x, sigma, sigma_min, source)
    _check_point("mean", mean, x, source)
    if not 0 <= std < math.inf:
        _domain.refuse(f"std >= 0 ({source})", f"std = {std}", "give a standard deviation")
    # Both are rounded first, so that the ratio is exactly 1 at sigma_min in every dtype.
    s, low = sigma.new_full((), std), sigma.new_full((), sigma_min)
    return mean + per_example(torch.hypot(s, low) / torch.hypot(s, sigma), x) * (x - mean)


def gaussian_mixture_score(
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    *,
    means: Float[Tensor, " components *event"],
    stds: Float[Tensor, " components"],
    mixture_weights: Float[Tensor, " components"],
) -> Float[Tensor, " batch *event"]:
    """Return grad_x log sum_m mixture_weights_m N(x | means_m, (stds_m^2 + sigma^2) I).

    Source: iCT, Section 2; the score of p_sigma for data that are a mixture of normal distributions.

    It is the score of the noisy data, not of the data. `mixture_weights` sum to 1. A component may be a point, stds_m =
    0.

    Raises: ValueError if shapes differ, if `mixture_weights` do not sum to 1, or if a level or a component is not in
    its domain.
    """
    source = "iCT Eq. (1)"
    _domain.one_per_example(source, x=x, sigma=sigma)
    _domain.levels(sigma, source)
    _domain.one_per_example(source, means=means, stds=stds, mixture_weights=mixture_weights)
    _check_point("means[0]", means[0], x, source)
    _domain.probabilities("mixture_weights", mixture_weights, source)
    _domain.finite("stds", stds, source)
    if _domain.looks_at(stds) and not bool((stds >= 0).all()):
        _domain.refuse(f"stds >= 0 ({source})", f"stds = {stds.tolist()}", "give standard deviations")
    away = (x[:, None] - means).reshape(len(x), len(means), -1)
    scale = torch.hypot(stds, sigma[:, None])
    standardized = away / scale[:, :, None]
    exponent = standardized.square().sum(2) / 2 + away.shape[2] * scale.log()
    surprisal = exponent - mixture_weights.log()
    _domain.finite("(x - means)^2 / sigma^2", surprisal.amin(1), source)
    # p(component | x) from logarithms: far from all means every density is 0 in floating point.
    responsibility = (-surprisal).softmax(1)[:, :, None]
    pull = responsibility * (standardized / scale[:, :, None])
    # A component of density 0 may be infinitely many standard deviations away: 0 times infinity would be NaN.
    return -torch.where(responsibility > 0, pull, 0.0).sum(1).reshape(x.shape)


def ct_loss_limit(
    theta: float,
    theta_minus: float,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> float:
    """Return lim L^N = lim L_CT^N = E[(1 - sigma_min/sigma)^2] (theta - theta-)^2, sigma ~ U[sigma_min, sigma_max].

    Source: iCT, Section 3.2, Eq. (6), restated as Eq. (11) in Appendix A.

    The formula holds for theta- != theta, lambda = 1 and the squared l2 distance. It does not contain the data xi: with
    theta- fixed the loss does not depend on them. For theta- = theta it is 0, and the gradient's first order is
    `ct_gradient_limit`.

    Raises: ValueError if an argument is not finite, or unless 0 < sigma_min < sigma_max.
    """
    _check_limit(sigma_min, sigma_max, theta=theta, theta_minus=theta_minus)
    difference = theta - theta_minus
    return _mean_square(sigma_min, sigma_max) * difference * difference


def ct_gradient_limit(
    theta: float,
    xi: float,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> float:
    """Return lim 1/Delta sigma dL^N/dtheta = d/dtheta E[sigma_min/sigma^2 (1 - sigma_min/sigma) (theta - xi)^2].

    Source: iCT, Section 3.2, Eq. (7), restated as Eq. (12) in Appendix A.

    The formula holds for theta- = theta; otherwise the limit diverges, see `ct_gradient_divergence`. Sigma is uniform
    on [sigma_min, sigma_max]. Undivided, the gradient's limit is 0: Appendix A keeps a Delta sigma behind its limits.
    L^N is near its limit only for Delta sigma far below sigma_min: for the paper's numbers, N far above 40 000.

    Raises: ValueError if an argument is not finite, or unless 0 < sigma_min < sigma_max.
    """
    _check_limit(sigma_min, sigma_max, theta=theta, xi=xi)
    return 2 * _mean_slope(sigma_min, sigma_max) * (theta - xi)


def ct_gradient_divergence(theta: float, theta_minus: float) -> float:
    """Return lim 1/Delta sigma dL^N/dtheta = +infinity for theta- < theta, -infinity for theta- > theta.

    Source: iCT, Section 3.2, Eq. (7), restated as Eq. (12) in Appendix A.

    It does not contain the data xi and the ends of the grid.

    Raises: ValueError if an argument is not finite, or if theta- = theta: that limit is finite, `ct_gradient_limit`.
    """
    source = "iCT Section 3.2"
    _domain.finite("theta", theta, source)
    _domain.finite("theta_minus", theta_minus, source)
    if theta_minus == theta:
        _domain.refuse(
            "theta_minus != theta (iCT Eq. (7))",
            f"theta = theta_minus = {theta}",
            "use ct_gradient_limit where they are equal",
        )
    return math.copysign(math.inf, theta - theta_minus)


def ct_gradient_leading_term(
    theta: float,
    xi: float,
    *,
    delta_sigma: float,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> float:
    """Return dL^N/dtheta ~ 2 E[sigma_min Delta sigma/sigma^2 (1 - sigma_min/sigma)] (theta - xi), for theta- = theta.

    Source: iCT, Appendix A, Eq. (13).

    Divided by Delta sigma it is Eq. (7). The paper prints the factor 1 - sigma_min/sigma_i outside the expectation,
    where sigma_i has no meaning; the last line of the proof has it inside. For theta- != theta the leading term is
    `ct_gradient_divergent_term`.

    Raises: ValueError if an argument is not finite, or unless 0 < sigma_min < sigma_max and delta_sigma > 0.
    """
    _check_limit(sigma_min, sigma_max, theta=theta, xi=xi)
    _domain.positive("delta_sigma", delta_sigma, "iCT Eq. (13)")
    return 2 * delta_sigma * _mean_slope(sigma_min, sigma_max) * (theta - xi)


def ct_gradient_divergent_term(
    theta: float,
    theta_minus: float,
    *,
    sigma_min: float = 0.002,
    sigma_max: float = 80.0,
) -> float:
    """Return dL^N/dtheta ~ 2 E[(1 - sigma_min/sigma)^2 (theta - theta-)], the leading term for theta- != theta.

    Source: iCT, Appendix A, Eq. (13).

    It does not contain the data xi and Delta sigma, so it diverges when divided by Delta sigma. For theta- = theta it
    is 0, and the leading term is `ct_gradient_leading_term`.

    Raises: ValueError if an argument is not finite, or unless 0 < sigma_min < sigma_max.
    """
    _check_limit(sigma_min, sigma_max, theta=theta, theta_minus=theta_minus)
    return 2 * _mean_square(sigma_min, sigma_max) * (theta - theta_minus)


def _mean_square(a: float, b: float) -> float:
    """Return E[(1 - a/sigma)^2] for sigma ~ U[a, b]."""
    u = (b - a) / b
    if u < 0.1:
        # The closed form below is a difference of numbers near 2; this is its expansion in u.
        return math.fsum(2 * u**k / (k * (k + 1)) for k in range(2, 20))
    # [sigma - 2 a log(sigma) - a^2/sigma] from a to b, divided by b - a.
    return 1 + a / b - 2 * a * (math.log(b) - math.log(a)) / (b - a)


def _mean_slope(a: float, b: float) -> float:
    """Return E[a/sigma^2 (1 - a/sigma)] = (1 - a/b) / (2 b) for sigma ~ U[a, b]."""
    return (b - a) / b / (2 * b)


def _check(x: Float[Tensor, " batch *event"], sigma: Float[Tensor, " batch"], sigma_min: float, source: str) -> None:
    _domain.one_per_example(source, x=x, sigma=sigma)
    _domain.levels(sigma, source)
    _domain.positive("sigma_min", sigma_min, source)
    # The comparison is in the dtype of sigma, in which the lowest level of a grid is exactly sigma_min.
    if _domain.looks_at(sigma) and not bool((sigma >= sigma.new_full((), sigma_min)).all()):
        _domain.refuse(
            f"sigma >= sigma_min ({source})",
            f"sigma = {float(sigma.min())}, sigma_min = {sigma_min}",
            "give levels of sigma_min or more",
        )


def _check_point(symbol: str, point: Float[Tensor, "*event"], x: Float[Tensor, " batch *event"], source: str) -> None:
    if point.shape != x.shape[1:]:
        _domain.refuse(
            f"{symbol} of the shape of an example, {list(x.shape[1:])} ({source})",
            f"{symbol} {list(point.shape)}",
            "give one point",
        )


def _check_limit(sigma_min: float, sigma_max: float, **values: float) -> None:
    _domain.noise_range(sigma_min, sigma_max, "iCT Section 3.2")
    for symbol, value in values.items():
        _domain.finite(symbol, value, "iCT Section 3.2")
