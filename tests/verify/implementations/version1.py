"""An implementation with the names and signatures of version 1 of the vectors; the values are today's."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ict_ref import formulas

Function = Callable[..., Any]


def continuous_consistency_training_loss(
    f: Function, x: Tensor, z: Tensor, sigma: Tensor, *, weight: Tensor, metric: Function
) -> Tensor:
    return formulas.continuous_consistency_training_loss(f, x, z, sigma, weights=weight, distance=metric)


def continuous_consistency_distillation_loss(
    f: Function, score: Function, x: Tensor, sigma: Tensor, *, weight: Tensor, metric: Function
) -> Tensor:
    return formulas.continuous_consistency_distillation_loss(f, score, x, sigma, weights=weight, distance=metric)


def ct_gradient_limit(theta: float, theta_minus: float, xi: float, **ends: float) -> float:
    limit = formulas.ct_gradient_limit(theta, xi, **ends)
    return limit if theta == theta_minus else formulas.ct_gradient_divergence(theta, theta_minus)


def ct_gradient_leading_term(
    theta: float, theta_minus: float, xi: float, *, delta_sigma: float, **ends: float
) -> float:
    alike = formulas.ct_gradient_leading_term(theta, xi, delta_sigma=delta_sigma, **ends)
    return alike if theta == theta_minus else formulas.ct_gradient_divergent_term(theta, theta_minus, **ends)


def edit(
    f: Function, y: Tensor, operator: Any, mask: Tensor, noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002
) -> Tensor:
    return formulas.edit(f, y, operator, mask, noises, sigmas, sigma_min=sigma_min)


def stroke_edit(f: Function, y: Tensor, noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002) -> Tensor:
    return formulas.stroke_edit(f, y, noises, sigmas, sigma_min=sigma_min)


def ema_update(average: Tensor, value: Tensor, *, decay: float) -> Tensor:
    return formulas.ema_update(average, value, decay=decay)


def fourier_embedding(c: Tensor, frequencies: Tensor) -> Tensor:
    return formulas.fourier_embedding(c, frequencies)


def positional_embedding(c: Tensor, dim: int, *, max_period: float = 10000.0) -> Tensor:
    return formulas.positional_embedding(c, dim, max_period=max_period)


def frechet_distance(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> Tensor:
    return formulas.frechet_distance(mu1, cov1, mu2, cov2)


def gaussian_mixture_score(x: Tensor, sigma: Tensor, *, means: Tensor, stds: Tensor, weights: Tensor) -> Tensor:
    return formulas.gaussian_mixture_score(x, sigma, means=means, stds=stds, mixture_weights=weights)


def one_step_sample(f: Function, noise: Tensor, *, sigma_max: float = 80.0) -> Tensor:
    return formulas.one_step_sample(f, noise, sigma_max=sigma_max)


def search_intermediate_sigma(score: Function, grid: Tensor, *, before: Any = (), after: Any = ()) -> float:
    return formulas.search_intermediate_sigma(score, grid, before=before, after=after)
