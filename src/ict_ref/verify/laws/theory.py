"""Laws of the consistency functions that are known, and of the limits of Section 3.2."""

import math
from functools import partial

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, close, equal, given, law, needs, tolerance
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.vectors.values import column


@law("delta_consistency_function")
@given(z=some.images, sigma=some.noise_levels)
def is_constant_along_every_trajectory(f: Function, z: Tensor, sigma: Tensor) -> None:
    """f*(xi + sigma z, sigma) = xi + sigma_min z, whatever sigma is."""
    xi = 0.5 * torch.ones_like(z[0])
    got = f(x=xi + column(sigma, z) * z, sigma=sigma, xi=xi)
    close(got, xi + 0.002 * z, rtol=1e-11, atol=1e-13 * (1 + float(z.abs().max())))


@law("delta_consistency_function")
@given(x=some.images, sigma_min=some.sigma_mins)
def is_x_at_sigma_min(f: Function, x: Tensor, sigma_min: float) -> None:
    """f*(x, sigma_min) = x."""
    xi, level = 0.5 * torch.ones_like(x[0]), torch.full((len(x),), sigma_min, dtype=torch.float64)
    close(f(x=x, sigma=level, xi=xi, sigma_min=sigma_min), x, rtol=1e-14, atol=1e-15)


@law("gaussian_consistency_function")
@given(z=some.images, sigma=some.noise_levels, std=some.stds)
def keeps_every_quantile(f: Function, z: Tensor, sigma: Tensor, std: float) -> None:
    """x = mean + sqrt(s^2 + sigma^2) u is taken to mean + sqrt(s^2 + sigma_min^2) u, and at sigma_min to itself."""
    mean = 0.5 * torch.ones_like(z[0])
    x = mean + column((std**2 + sigma**2).sqrt(), z) * z
    got = f(x=x, sigma=sigma, mean=mean, std=std)
    close(got, mean + math.sqrt(std**2 + 0.002**2) * z, rtol=1e-11, atol=1e-12 * (1 + float(z.abs().max())))


@law("gaussian_consistency_function")
@given(x=some.images, sigma=some.noise_levels, std=some.stds)
def does_not_change_along_the_ode(f: Function, x: Tensor, sigma: Tensor, std: float) -> None:
    """(d/dsigma - sigma score . d/dx) f* = 0, by a central difference along Eq. (1)."""
    sigma = sigma + 0.01  # away from sigma_min, below which f* does not exist
    mean, h = torch.zeros_like(x[0]), 1e-4 * sigma
    drift = column(sigma / (std**2 + sigma**2), x) * x
    ahead, behind = (
        f(x=x + sign * column(h, x) * drift, sigma=sigma + sign * h, mean=mean, std=std) for sign in (1, -1)
    )
    close(ahead, behind, rtol=1e-7, atol=1e-9 * float(x.abs().max()), what="a step ahead is")


@law("gaussian_mixture_score")
@given(x=some.images, sigma=some.noise_levels, std=some.stds, fraction=some.fractions)
def is_that_of_one_for_equal_components(f: Function, x: Tensor, sigma: Tensor, std: float, fraction: float) -> None:
    """The same component twice, with any weights, is that component: score = (mean - x) / (s^2 + sigma^2)."""
    mean, part = 0.5 * torch.ones_like(x[0]), 0.1 + 0.8 * fraction
    got = f(
        x=x,
        sigma=sigma,
        means=torch.stack([mean, mean]),
        stds=torch.tensor([std, std], dtype=torch.float64),
        mixture_weights=torch.tensor([part, 1 - part], dtype=torch.float64),
    )
    size = float((1 + x.abs().max()) / (std**2 + sigma.min() ** 2))  # of the terms, before x - mean cancels
    close(got, (mean - x) / column(std**2 + sigma**2, x), rtol=1e-10, atol=1e-15 * size)


@law("gaussian_mixture_score")
@given(x=some.images, sigma=some.noise_levels, std=some.stds)
def is_odd_for_a_mixture_that_is_symmetric(f: Function, x: Tensor, sigma: Tensor, std: float) -> None:
    """Components m and -m with equal weights: score(-x) = -score(x)."""
    mean = 0.5 * torch.ones_like(x[0])
    parts = {
        "means": torch.stack([mean, -mean]),
        "stds": torch.tensor([std, std], dtype=torch.float64),
        "mixture_weights": torch.tensor([0.5, 0.5], dtype=torch.float64),
    }
    there, back = f(x=x, sigma=sigma, **parts), f(x=-x, sigma=sigma, **parts)
    close(back, -there, rtol=1e-10, atol=1e-10 * float(there.abs().max()))


@law("ct_loss_limit")
@given(theta=some.points, xi=some.points, sigma_min=some.sigma_mins)
def is_a_square_between_0_and_the_difference(f: Function, theta: float, xi: float, sigma_min: float) -> None:
    """0 <= Eq. (6) <= (theta - theta-)^2, symmetric, and 4 times as large for twice the difference."""
    ends = {"sigma_min": sigma_min, "sigma_max": 1.0}
    limit = f(theta=theta, theta_minus=xi, **ends)
    needs(0 <= limit <= (theta - xi) ** 2, f"got {limit}, should be between 0 and {(theta - xi) ** 2}")
    close(f(theta=xi, theta_minus=theta, **ends), limit, rtol=1e-13)
    close(f(theta=2 * theta, theta_minus=2 * xi, **ends), 4 * limit, rtol=1e-12)


@law("ct_loss_limit")
@given(sigma_min=some.sigma_mins, sigma_max=some.sigma_maxs)
def is_the_mean_square_over_uniform_levels(f: Function, sigma_min: float, sigma_max: float) -> None:
    """E[(1 - sigma_min / sigma)^2] for sigma uniform on [sigma_min, sigma_max], by Simpson's rule in log sigma."""
    t = torch.linspace(math.log(sigma_min), math.log(sigma_max), 20_001, dtype=torch.float64)
    sigma = t.exp()
    values = (1 - sigma_min / sigma) ** 2 * sigma / (sigma_max - sigma_min)
    weights = torch.full_like(t, 2.0)
    weights[1::2] = 4.0
    weights[0] = weights[-1] = 1.0
    expected = (weights * values).sum() * (t[1] - t[0]) / 3
    got = f(theta=1.0, theta_minus=0.0, sigma_min=sigma_min, sigma_max=sigma_max)
    close(got, float(expected), rtol=1e-9)


@law("ct_gradient_divergence")
@given(theta=some.points, a=some.factors)
def diverges_where_theta_minus_lags(f: Function, theta: float, a: float) -> None:
    """Eq. (7): +infinity for theta- < theta, -infinity for theta- > theta."""
    needs(f(theta=theta, theta_minus=theta - a) == math.inf, "theta- < theta: should be +infinity")
    needs(f(theta=theta, theta_minus=theta + a) == -math.inf, "theta- > theta: should be -infinity")


@law("ct_gradient_divergence")
@given(theta=some.points, a=some.factors, m=some.small_integers)
def depends_on_the_sign_of_the_difference_alone(f: Function, theta: float, a: float, m: int) -> None:
    """theta - theta- > 0, however small: the same infinity as for theta = a, theta- = 0; and minus it, exchanged."""
    step = a * 10.0**-m
    got = f(theta=theta + step, theta_minus=theta)
    equal(got, f(theta=a, theta_minus=0.0), f"theta - theta- = {step}: got")
    equal(f(theta=theta, theta_minus=theta + step), -got, "exchanged: got")


@law("ct_gradient_limit")
@given(xi=some.points, sigma_min=some.sigma_mins)
def is_0_at_the_data(f: Function, xi: float, sigma_min: float) -> None:
    """Eq. (7): 0 for theta- = theta = xi, so that descent ends there."""
    close(f(theta=xi, xi=xi, sigma_min=sigma_min, sigma_max=1.0), 0.0, what="theta- = theta = xi: got")


@law("ct_gradient_limit")
@given(theta=some.points, xi=some.points, sigma_min=some.sigma_mins)
def pulls_theta_to_the_data(f: Function, theta: float, xi: float, sigma_min: float) -> None:
    """theta- = theta: the gradient has the sign of theta - xi and is proportional to it."""
    ends = {"sigma_min": sigma_min, "sigma_max": 1.0}
    got = f(theta=theta, xi=xi, **ends)
    needs(got * (theta - xi) >= 0, f"the gradient is {got} where theta - xi = {theta - xi}")
    close(f(theta=theta + (theta - xi), xi=xi, **ends), 2 * got, atol=1e-12)


@law("ct_gradient_leading_term")
@given(theta=some.points, xi=some.points, sigma_min=some.sigma_mins, fraction=some.fractions)
def is_delta_sigma_times_a_slope(f: Function, theta: float, xi: float, sigma_min: float, fraction: float) -> None:
    """theta- = theta: Eq. (13) is proportional to Delta sigma, and has the sign of theta - xi."""
    term = partial(f, theta=theta, xi=xi, sigma_min=sigma_min, sigma_max=1.0)
    step = 1e-6 + fraction
    got = term(delta_sigma=step)
    close(term(delta_sigma=2 * step), 2 * got, rtol=1e-12)
    needs(got * (theta - xi) >= 0, f"the term is {got} where theta - xi = {theta - xi}")


@law("ct_gradient_divergent_term")
@given(theta=some.points, a=some.factors, sigma_min=some.sigma_mins)
def is_proportional_to_the_difference(f: Function, theta: float, a: float, sigma_min: float) -> None:
    """theta- != theta: Eq. (13) is odd in theta - theta-, proportional to it, and between 0 and twice it."""
    ends = {"sigma_min": sigma_min, "sigma_max": 1.0}
    got = f(theta=theta, theta_minus=theta - a, **ends)
    close(f(theta=theta - a, theta_minus=theta, **ends), -got)
    close(f(theta=2 * theta, theta_minus=2 * (theta - a), **ends), 2 * got)
    needs(0 < got < 2 * a * (1 + tolerance(1e-12)), f"got {got}, should be between 0 and {2 * a}")


@law("ct_gradient_divergent_term")
@given(theta=some.points, xi=some.points, sigma_min=some.sigma_mins)
def is_the_derivative_of_the_loss_limit(f: Function, theta: float, xi: float, sigma_min: float) -> None:
    """d/dtheta of Eq. (6), here a central difference, which is exact for a square."""
    ends = {"sigma_min": sigma_min, "sigma_max": 1.0}
    up, down = (formulas.ct_loss_limit(theta + step, xi, **ends) for step in (0.5, -0.5))
    close(f(theta=theta, theta_minus=xi, **ends), up - down, atol=1e-12)


LAWS: tuple[Laws, ...] = (
    is_constant_along_every_trajectory,
    is_x_at_sigma_min,
    keeps_every_quantile,
    does_not_change_along_the_ode,
    is_that_of_one_for_equal_components,
    is_odd_for_a_mixture_that_is_symmetric,
    is_a_square_between_0_and_the_difference,
    is_the_mean_square_over_uniform_levels,
    diverges_where_theta_minus_lags,
    depends_on_the_sign_of_the_difference_alone,
    is_0_at_the_data,
    pulls_theta_to_the_data,
    is_delta_sigma_times_a_slope,
    is_proportional_to_the_difference,
    is_the_derivative_of_the_loss_limit,
)
