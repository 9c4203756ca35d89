"""Continuous-time objectives of CM, Appendix B, Theorems 5 and 6.

Oracle: sympy, Jacobians written out, complex steps in NumPy, and quotient limits of the discrete losses.
Ingredients: consistency_training_loss, consistency_matching_loss, squared_l2, pseudo_huber.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import sympy as sp
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import (
    consistency_matching_loss,
    consistency_training_loss,
    continuous_consistency_distillation_loss,
    continuous_consistency_training_loss,
    pseudo_huber,
    squared_l2,
)

Network = Callable[[Tensor, Tensor], Tensor]
Array = npt.NDArray[Any]
HUBER_C = 0.3
METRICS: list[tuple[str, Network, float]] = [
    ("squared l2", squared_l2, 2.0),
    ("pseudo-Huber", lambda a, b: pseudo_huber(a, b, c=HUBER_C), 1.0 / HUBER_C),
]
by_metric = pytest.mark.parametrize(("metric", "factor"), [m[1:] for m in METRICS], ids=[m[0] for m in METRICS])


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def over(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def gradients(loss: Tensor, parameters: list[Tensor]) -> list[Array]:
    found = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    return [gradient.detach().numpy() for gradient in found]


def draws(seed: int, *shape: int) -> Tensor:
    return tensor(np.random.default_rng(seed).standard_normal(shape))


# ------------------------------------------------------------------ no event axes: sympy


def scalar_network(theta: Tensor) -> Network:
    return lambda x, s: theta[0] * torch.sin(theta[1] * x * s) + theta[2] * x**2 / (1.0 + s**2)


X, S, Z, P, Q, R, SCORE = sp.symbols("x s z p q r score", real=True)
SCALAR = P * sp.sin(Q * X * S) + R * X**2 / (1 + S**2)
THETA = (0.7, -1.3, 0.4)


def sympy_values(direction: sp.Expr) -> Callable[..., list[Array]]:
    """f D and (d f / d p, q, r) D, with D = d f / d sigma + (d f / d x) times the direction."""
    total = sp.diff(SCALAR, S) + sp.diff(SCALAR, X) * direction
    wanted = [SCALAR * total] + [sp.diff(SCALAR, t) * total for t in (P, Q, R)]
    compiled = sp.lambdify((X, S, Z, SCORE, P, Q, R), wanted, "numpy")

    def values(x: Array, s: Array, z: Array, score: Array) -> list[Array]:
        return [np.asarray(v) for v in compiled(x, s, z, score, *THETA)]

    return values


@by_metric
def test_training_loss_without_event_axes_has_the_value_and_gradient_that_sympy_derives(
    metric: Network, factor: float
) -> None:
    theta = tensor(THETA).requires_grad_()
    x, z = draws(1, 7), draws(2, 7)
    sigma, weight = tensor(np.geomspace(0.002, 5.0, 7)), tensor(np.linspace(0.5, 3.0, 7))
    loss = continuous_consistency_training_loss(scalar_network(theta), x, z, sigma, weights=weight, distance=metric)
    noisy = (x + sigma * z).numpy()
    value, *slopes = sympy_values(Z)(noisy, sigma.numpy(), z.numpy(), z.numpy())
    assert loss.shape == (7,)
    assert loss.dtype == torch.float64
    np.testing.assert_allclose(loss.detach().numpy(), factor * weight.numpy() * value, rtol=1e-9, atol=1e-12)
    for j in range(7):
        (got,) = torch.autograd.grad(loss[j], [theta], retain_graph=True)
        np.testing.assert_allclose(got.numpy(), factor * weight[j].item() * np.array([s[j] for s in slopes]), rtol=1e-9)


@by_metric
def test_distillation_loss_without_event_axes_has_the_value_and_gradient_that_sympy_derives(
    metric: Network, factor: float
) -> None:
    theta = tensor(THETA).requires_grad_()
    x, sigma, weight = draws(3, 6), tensor(np.geomspace(0.01, 4.0, 6)), tensor(np.linspace(2.0, 0.1, 6))

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.cos(x) / (1.0 + sigma)

    loss = continuous_consistency_distillation_loss(
        scalar_network(theta), score, x, sigma, weights=weight, distance=metric
    )
    value, *slopes = sympy_values(-S * SCORE)(x.numpy(), sigma.numpy(), x.numpy(), score(x, sigma).numpy())
    assert loss.shape == (6,)
    assert loss.dtype == torch.float64
    np.testing.assert_allclose(loss.detach().numpy(), factor * weight.numpy() * value, rtol=1e-9, atol=1e-12)
    (got,) = gradients(loss.sum(), [theta])
    wanted = [factor * float(np.sum(weight.numpy() * s)) for s in slopes]
    np.testing.assert_allclose(got, wanted, rtol=1e-9)


# ------------------------------------------------------------------ vectors: the Jacobian written out


def vector_network(w: Tensor, v: Tensor, b: Tensor) -> Network:
    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return b * torch.tanh(x @ w.T + sigma[:, None] * v) + sigma[:, None] ** 2

    return network


VECTOR_SHAPES = [(3, 3), (3,), (3,)]


def vector_parameters() -> list[Tensor]:
    return [draws(10 + k, *shape).requires_grad_() for k, shape in enumerate(VECTOR_SHAPES)]


def by_hand(
    parameters: list[Tensor], x: Array, sigma: float, direction: Array, hessian: Callable[[Array], Array]
) -> tuple[float, list[Array]]:
    """The pseudo-objective of one example, and its gradient to w, v, b, with D held fixed."""
    w, v, b = (p.detach().numpy() for p in parameters)
    h = np.tanh(w @ x + sigma * v)
    jacobian = (b * (1.0 - h**2))[:, None] * w
    f = b * h + sigma**2
    d = b * (1.0 - h**2) * v + 2.0 * sigma + jacobian @ direction
    g = hessian(f) @ d
    inner = g * b * (1.0 - h**2)
    return float(f @ g), [np.outer(inner, x), sigma * inner, g * h]


MATRIX = np.array([[2.0, 0.3, -0.4], [0.3, 1.5, 0.7], [-0.4, 0.7, 3.0]])


def quadratic(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("bi,ij,bj->b", a - b, tensor(MATRIX), a - b)


def exponential(a: Tensor, b: Tensor) -> Tensor:
    """A distance whose Hessian depends on the place: diag(2 exp(2 f))."""
    return ((a.exp() - b.exp()) ** 2).sum(1)


VECTOR_METRICS: list[tuple[str, Network, Callable[[Array], Array]]] = [
    ("squared l2", squared_l2, lambda f: 2.0 * np.eye(3)),
    ("pseudo-Huber", METRICS[1][1], lambda f: np.eye(3) / HUBER_C),
    ("full matrix", quadratic, lambda f: 2.0 * MATRIX),
    ("Hessian that depends on the place", exponential, lambda f: np.diag(2.0 * np.exp(2.0 * f))),
]
by_hessian = pytest.mark.parametrize(
    ("metric", "hessian"), [m[1:] for m in VECTOR_METRICS], ids=[m[0] for m in VECTOR_METRICS]
)


@by_hessian
def test_training_loss_of_vectors_matches_the_jacobian_written_out(
    metric: Network, hessian: Callable[[Array], Array]
) -> None:
    parameters = vector_parameters()
    x, z, sigma, weight = draws(4, 5, 3), draws(5, 5, 3), tensor([0.002, 0.1, 0.5, 1.0, 2.0]), tensor([1, 2, 3, 4, 0.5])
    loss = continuous_consistency_training_loss(
        vector_network(*parameters), x, z, sigma, weights=weight, distance=metric
    )
    wanted = [
        by_hand(parameters, (x[j] + sigma[j] * z[j]).numpy(), sigma[j].item(), z[j].numpy(), hessian) for j in range(5)
    ]
    np.testing.assert_allclose(
        loss.detach().numpy(), [weight[j].item() * wanted[j][0] for j in range(5)], rtol=1e-9, atol=1e-11
    )
    for k, got in enumerate(gradients(loss.sum(), parameters)):
        total = np.sum([weight[j].item() * wanted[j][1][k] for j in range(5)], axis=0)
        np.testing.assert_allclose(got, total, rtol=1e-9, atol=1e-11)


@by_hessian
def test_distillation_loss_of_vectors_matches_the_jacobian_written_out(
    metric: Network, hessian: Callable[[Array], Array]
) -> None:
    parameters = vector_parameters()
    x, sigma, weight = draws(6, 4, 3), tensor([0.02, 0.3, 0.9, 2.5]), tensor([1.0, 0.3, 2.0, 4.0])

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.sin(x.flip(1)) - x / (1.0 + sigma[:, None])

    loss = continuous_consistency_distillation_loss(
        vector_network(*parameters), score, x, sigma, weights=weight, distance=metric
    )
    s = score(x, sigma)
    wanted = [by_hand(parameters, x[j].numpy(), sigma[j].item(), (-sigma[j] * s[j]).numpy(), hessian) for j in range(4)]
    np.testing.assert_allclose(
        loss.detach().numpy(), [weight[j].item() * wanted[j][0] for j in range(4)], rtol=1e-9, atol=1e-11
    )
    for k, got in enumerate(gradients(loss.sum(), parameters)):
        total = np.sum([weight[j].item() * wanted[j][1][k] for j in range(4)], axis=0)
        np.testing.assert_allclose(got, total, rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------ images: complex steps in NumPy

IMAGE = (2, 3, 4)


def image_network(theta: Tensor) -> Network:
    def network(x: Tensor, sigma: Tensor) -> Tensor:
        s = over(sigma, x)
        mixed = torch.einsum("kl,blhw->bkhw", theta[:4].reshape(2, 2), x)
        return torch.sin(mixed) * theta[4] / (1.0 + s) + theta[5] * s * torch.roll(x, 1, dims=3) ** 2

    return network


def image_numpy(theta: Array, x: Array, s: complex) -> Array:
    mixed = np.einsum("kl,lhw->khw", theta[:4].reshape(2, 2), x)
    return np.asarray(np.sin(mixed) * theta[4] / (1.0 + s) + theta[5] * s * np.roll(x, 1, axis=2) ** 2)


def by_complex_step(theta: Array, x: Array, s: float, direction: Array, factor: float) -> tuple[float, Array]:
    h = 1e-30
    d = image_numpy(theta + 0j, x + 1j * h * direction, s + 1j * h).imag / h
    f = image_numpy(theta + 0j, x + 0j, s).real
    slopes = [image_numpy(theta + 1j * h * e, x + 0j, s).imag / h for e in np.eye(len(theta))]
    return factor * float(np.sum(f * d)), factor * np.array([np.sum(g * d) for g in slopes])


@by_metric
def test_losses_of_images_match_complex_steps_of_a_numpy_network(metric: Network, factor: float) -> None:
    theta = draws(7, 6).requires_grad_()
    fixed = theta.detach().numpy()
    x, z, sigma, weight = draws(8, 3, *IMAGE), draws(9, 3, *IMAGE), tensor([0.05, 0.7, 2.0]), tensor([2.0, 1.0, 0.25])
    training = continuous_consistency_training_loss(image_network(theta), x, z, sigma, weights=weight, distance=metric)
    noisy = x + over(sigma, x) * z
    distillation = continuous_consistency_distillation_loss(
        image_network(theta), lambda x, sigma: torch.tanh(x) * over(sigma, x), noisy, sigma, weights=weight,
        distance=metric,
    )  # fmt: skip
    s = np.tanh(noisy.numpy()) * sigma.numpy()[:, None, None, None]
    for loss, directions in ((training, z.numpy()), (distillation, -sigma.numpy()[:, None, None, None] * s)):
        wanted = [by_complex_step(fixed, noisy[j].numpy(), sigma[j].item(), directions[j], factor) for j in range(3)]
        assert loss.shape == (3,)
        values, slopes = (np.array([a[k] for a in wanted]) for k in (0, 1))
        np.testing.assert_allclose(loss.detach().numpy(), weight.numpy() * values, rtol=1e-9)
        (got,) = gradients(loss.sum(), [theta])
        np.testing.assert_allclose(got, weight.numpy() @ slopes, rtol=1e-9, atol=1e-11)


# ------------------------------------------------------------------ the discrete losses approach the continuous ones

WIDTHS = (1e-4, 5e-5, 2.5e-5, 1.25e-5)


def assert_first_order(discrete: list[list[Array]], continuous: list[Array]) -> None:
    limit = np.concatenate([g.ravel() for g in continuous])
    errors = [float(np.linalg.norm(np.concatenate([g.ravel() for g in d]) - limit)) for d in discrete]
    assert errors[-1] < 0.02 * np.linalg.norm(limit), errors
    assert errors[0] > 1e-6 * np.linalg.norm(limit), errors
    for wide, narrow in itertools.pairwise(errors):
        assert 1.9 < wide / narrow < 2.1, errors


@by_metric
@pytest.mark.parametrize("level", [0.3, 1.5])
def test_gradient_of_the_training_loss_with_weight_one_over_gap_tends_to_the_continuous_one(
    metric: Network, factor: float, level: float
) -> None:
    parameters = vector_parameters()
    network = vector_network(*parameters)
    x, z = draws(20, 6, 3), draws(21, 6, 3)
    discrete = []
    for width in WIDTHS:
        sigmas = tensor([0.002, level, level + width, 80.0])
        loss = consistency_training_loss(
            network, network, x, z, torch.ones(6, dtype=torch.int64), sigmas,
            distance=metric, weights=1.0 / (sigmas[1:] - sigmas[:-1]),
        )  # fmt: skip
        discrete.append(gradients(loss.mean(), parameters))
    sigma = torch.full((6,), level, dtype=torch.float64)
    loss = continuous_consistency_training_loss(network, x, z, sigma, weights=torch.ones_like(sigma), distance=metric)
    assert_first_order(discrete, gradients(loss.mean(), parameters))


MEANS, STDS, SHARES = tensor([[1.0, -0.5, 0.2], [-0.7, 0.4, 0.9]]), tensor([0.3, 0.6]), tensor([0.35, 0.65])


def mixture_score(x: Tensor, sigma: Tensor) -> Tensor:
    """The exact score of two Gaussian clouds in three dimensions."""
    variance = STDS**2 + sigma[:, None] ** 2
    offset = MEANS - x[:, None, :]
    density = SHARES * torch.exp(-0.5 * (offset**2).sum(2) / variance) / variance**1.5
    return (density[:, :, None] * offset / variance[:, :, None]).sum(1) / density.sum(1, keepdim=True)


@by_metric
@pytest.mark.parametrize("level", [0.4, 1.2])
def test_gradient_of_the_matching_loss_with_an_exact_score_tends_to_the_distillation_gradient(
    metric: Network, factor: float, level: float
) -> None:
    parameters = vector_parameters()
    network = vector_network(*parameters)
    x = draws(22, 6, 3)
    discrete = []
    for width in WIDTHS:
        sigmas = tensor([0.002, level - width, level, 80.0])
        loss = consistency_matching_loss(
            network, network, mixture_score, x, torch.ones(6, dtype=torch.int64), sigmas,
            distance=metric, weights=1.0 / (sigmas[1:] - sigmas[:-1]),
        )  # fmt: skip
        discrete.append(gradients(loss.mean(), parameters))
    sigma = torch.full((6,), level, dtype=torch.float64)
    loss = continuous_consistency_distillation_loss(
        network, mixture_score, x, sigma, weights=torch.ones_like(sigma), distance=metric
    )
    assert_first_order(discrete, gradients(loss.mean(), parameters))


# ------------------------------------------------------------------ exact consistency functions


def delta_network(xi: Tensor, sigma_min: float) -> Network:
    return lambda x, s: sigma_min / over(s, x) * x + (1.0 - sigma_min / over(s, x)) * xi


def gaussian_network(mean: Tensor, std: Tensor, sigma_min: float) -> Network:
    def network(x: Tensor, s: Tensor) -> Tensor:
        return mean + (x - mean) * torch.sqrt((std**2 + sigma_min**2) / (std**2 + over(s, x) ** 2))

    return network


@by_metric
@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2)], ids=["no event axes", "vector", "image"])
def test_training_loss_and_gradient_vanish_at_the_consistency_function_of_a_delta_and_nowhere_near(
    metric: Network, factor: float, shape: tuple[int, ...]
) -> None:
    data = draws(30, *shape)
    z, sigma = draws(31, 5, *shape), tensor([0.05, 0.1, 0.4, 1.0, 8.0])
    size = {}
    for offset in (0.0, 0.1):
        xi = (data + offset).clone().requires_grad_()
        loss = continuous_consistency_training_loss(
            delta_network(xi, 0.05), data.expand(5, *shape), z, sigma, weights=torch.ones_like(sigma), distance=metric
        )
        (slope,) = gradients(loss.sum(), [xi])
        size[offset] = (float(loss.detach().abs().max()), float(np.abs(slope).max()))
    assert max(size[0.0]) < 1e-12
    assert min(size[0.1]) > 1e-3


@by_metric
@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2)], ids=["no event axes", "vector", "image"])
def test_distillation_loss_and_gradient_vanish_at_the_consistency_function_of_a_gaussian_and_nowhere_near(
    metric: Network, factor: float, shape: tuple[int, ...]
) -> None:
    truth, spread = draws(32, *shape), 0.7
    x, sigma = draws(33, 5, *shape), tensor([0.05, 0.1, 0.4, 1.0, 8.0])
    size = {}
    for offset in (0.0, 0.1):
        mean = (truth + offset).clone().requires_grad_()
        std = tensor(spread + offset).requires_grad_()
        loss = continuous_consistency_distillation_loss(
            gaussian_network(mean, std, 0.05), lambda x, s: (truth - x) / (spread**2 + over(s, x) ** 2), x, sigma,
            weights=torch.ones_like(sigma), distance=metric,
        )  # fmt: skip
        slopes = gradients(loss.sum(), [mean, std])
        size[offset] = (float(loss.detach().abs().max()), *(float(np.abs(g).max()) for g in slopes))
    assert max(size[0.0]) < 1e-12
    assert min(size[0.1]) > 1e-3


# ------------------------------------------------------------------ where the gradient goes


@by_metric
def test_the_second_factor_does_not_receive_a_gradient(metric: Network, factor: float) -> None:
    level = 0.8
    theta = tensor(1.7).requires_grad_()

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return 1.0 + x + theta * (over(sigma, x) - level)

    x, z, sigma = draws(40, 4, 2), draws(41, 4, 2), torch.full((4,), level, dtype=torch.float64)
    one = torch.ones_like(sigma)
    training = continuous_consistency_training_loss(network, x, z, sigma, weights=one, distance=metric)
    distillation = continuous_consistency_distillation_loss(
        network, lambda x, s: -x, x, sigma, weights=one, distance=metric
    )
    noisy = x + level * z
    wanted = factor * ((1.0 + noisy) * (1.7 + z)).sum(1)
    np.testing.assert_allclose(training.detach().numpy(), wanted.numpy(), rtol=1e-10)
    np.testing.assert_allclose(
        distillation.detach().numpy(), (factor * ((1.0 + x) * (1.7 + level * x)).sum(1)).numpy(), rtol=1e-10
    )
    for loss in (training, distillation):
        (slope,) = gradients(loss.sum(), [theta])
        assert slope == 0.0


def test_the_score_does_not_receive_a_gradient() -> None:
    theta, phi = tensor(0.6).requires_grad_(), tensor(0.9).requires_grad_()
    x, sigma = draws(42, 4, 2), tensor([0.1, 0.5, 1.0, 3.0])
    loss = continuous_consistency_distillation_loss(
        lambda x, s: theta * x * torch.sin(over(s, x)), lambda x, s: -phi * x, x, sigma,
        weights=torch.ones_like(sigma), distance=squared_l2,
    )  # fmt: skip
    got = gradients(loss.sum(), [theta, phi])
    assert abs(got[0]) > 1e-3
    assert got[1] == 0.0


def test_each_example_has_a_separate_value_and_weights_multiply_it() -> None:
    parameters = vector_parameters()
    network = vector_network(*parameters)
    x, z, sigma, weight = draws(43, 4, 3), draws(44, 4, 3), tensor([0.1, 0.4, 1.0, 2.0]), tensor([3.0, 1.0, 0.2, 7.0])
    with torch.no_grad():
        together = continuous_consistency_training_loss(network, x, z, sigma, weights=weight, distance=squared_l2)
        alone = [
            continuous_consistency_training_loss(
                network, x[j : j + 1], z[j : j + 1], sigma[j : j + 1], weights=torch.ones_like(sigma[:1]),
                distance=squared_l2,
            ).item()
            for j in range(4)
        ]  # fmt: skip
    np.testing.assert_allclose(together.numpy(), weight.numpy() * np.array(alone), rtol=1e-11)


# ------------------------------------------------------------------ outside the domain


@pytest.mark.parametrize("level", [float("nan"), 0.0, -0.5, float("inf")])
def test_a_level_that_is_not_positive_and_finite_is_rejected(level: float) -> None:
    x, sigma = draws(50, 2, 3), tensor([0.5, level])
    one = torch.ones(2, dtype=torch.float64)
    network = vector_network(*vector_parameters())
    with pytest.raises(ValueError, match="sigma"):
        continuous_consistency_training_loss(network, x, x, sigma, weights=one, distance=squared_l2)
    with pytest.raises(ValueError, match="sigma"):
        continuous_consistency_distillation_loss(network, mixture_score, x, sigma, weights=one, distance=squared_l2)


@pytest.mark.parametrize("short", ["x", "z", "sigma", "weight"])
def test_batches_of_different_sizes_are_rejected(short: str) -> None:
    sizes = {name: 3 if name == short else 4 for name in ("x", "z", "sigma", "weight")}
    x, z = draws(51, sizes["x"], 3), draws(52, sizes["z"], 3)
    sigma = torch.ones(sizes["sigma"], dtype=torch.float64)
    weight = torch.ones(sizes["weight"], dtype=torch.float64)
    network = vector_network(*vector_parameters())
    with pytest.raises((ValueError, TypeCheckError), match=short):
        continuous_consistency_training_loss(network, x, z, sigma, weights=weight, distance=squared_l2)
    if short != "z":
        with pytest.raises((ValueError, TypeCheckError), match=short):
            continuous_consistency_distillation_loss(
                network, mixture_score, x, sigma, weights=weight, distance=squared_l2
            )
