"""Laws of the continuous-time objectives, on networks whose derivatives are known."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref.formulas import (
    ConsistencyFunction,
    consistency_training_loss,
    continuous_consistency_distillation_loss,
    continuous_consistency_training_loss,
    delta_consistency_function,
    gaussian_consistency_function,
    gaussian_mixture_score,
    pseudo_huber,
    squared_l2,
)
from properties.law_of import law_of
from properties.strategies import levels_of, tensor_lists

huber = partial(pseudo_huber, c=0.03)
metrics = st.sampled_from([(squared_l2, 2.0), (huber, 1 / 0.03)])
Loss = Callable[..., Tensor]


def training(f: ConsistencyFunction, pair: list[Tensor], sigma: Tensor, **options: object) -> Tensor:
    """Return the training loss of f, lambda = 1 and squared l2 by default."""
    settings = {"weights": torch.ones_like(sigma), "distance": squared_l2, **options}
    return continuous_consistency_training_loss(f, pair[0], pair[1], sigma, **settings)  # type: ignore[arg-type]


def distillation(f: ConsistencyFunction, pair: list[Tensor], sigma: Tensor, **options: object) -> Tensor:
    """Return the distillation loss of f for the score of N(0, I), lambda = 1 and squared l2 by default."""
    settings = {"weights": torch.ones_like(sigma), "distance": squared_l2, **options}
    return continuous_consistency_distillation_loss(f, standard_score, pair[0], sigma, **settings)  # type: ignore[arg-type]


losses = st.sampled_from([training, distillation])


def column(sigma: Tensor, x: Tensor) -> Tensor:
    """Return sigma with the trailing axes of x."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:]))


def standard_score(x: Tensor, sigma: Tensor) -> Tensor:
    """Return the score of N(0, (1 + sigma^2) I)."""
    return -x / (1 + column(sigma, x) ** 2)


class Network:
    """f(x, sigma) = theta x / (1 + sigma), with a parameter theta."""

    def __init__(self, theta: float = 0.7) -> None:
        self.theta = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return f(x, sigma)."""
        self.calls += 1
        return self.theta * x / (1 + column(sigma, x))


@law_of("continuous_consistency_training_loss")
@given(tensor_lists(2), st.data(), metrics)
def test_continuous_consistency_training_loss_is_its_formula_for_a_known_derivative(
    pair: list[Tensor], data: st.DataObject, metric: tuple[Loss, float]
) -> None:
    """f = theta x / (1 + sigma): D f = theta (z / (1 + sigma) - x_sigma / (1 + sigma)^2), and the loss is h f . D f."""
    x, z = pair
    sigma = data.draw(levels_of(len(x)))
    distance, curvature = metric
    level = column(sigma, x)
    noisy = x + level * z
    along = 0.7 * (z / (1 + level) - noisy / (1 + level) ** 2)
    expected = curvature * (0.7 * noisy / (1 + level) * along).reshape(len(x), -1).sum(1)
    scale = curvature * float((noisy.abs() * (z.abs() + noisy.abs())).max() + 1e-30) * x[0].numel()
    torch.testing.assert_close(
        training(Network(), pair, sigma, distance=distance).detach(), expected, rtol=1e-9, atol=1e-13 * scale
    )


@law_of("continuous_consistency_training_loss", "continuous_consistency_distillation_loss")
@given(tensor_lists(2), st.data(), losses)
def test_continuous_consistency_losses_send_gradient_through_the_first_factor_alone(
    pair: list[Tensor], data: st.DataObject, loss: Loss
) -> None:
    """With f linear in theta the gradient is loss / theta; were D f in the graph too, it would be 2 loss / theta."""
    sigma, f = data.draw(levels_of(len(pair[0]))), Network()
    value = loss(f, pair, sigma).sum()
    value.backward()  # type: ignore[no-untyped-call]
    assert f.theta.grad is not None
    torch.testing.assert_close(f.theta.grad, value.detach() / 0.7, rtol=1e-9, atol=1e-12 * float(value.detach().abs()))
    assert f.calls == 2  # for the derivative, then for the value


@law_of("continuous_consistency_training_loss", "continuous_consistency_distillation_loss")
@given(tensor_lists(2), st.data(), losses, st.floats(0.1, 10))
def test_continuous_consistency_losses_are_weighted_per_example(
    pair: list[Tensor], data: st.DataObject, loss: Loss, factor: float
) -> None:
    """loss(lambda) = lambda loss(1), with each example's own lambda; and examples do not affect each other."""
    sigma = data.draw(levels_of(len(pair[0])))
    weight = factor * torch.arange(1, len(sigma) + 1, dtype=torch.float64)
    weighted, plain = loss(Network(), pair, sigma, weights=weight).detach(), loss(Network(), pair, sigma).detach()
    torch.testing.assert_close(weighted, weight * plain)
    alone = [loss(Network(), [t[j : j + 1] for t in pair], sigma[j : j + 1]).detach() for j in range(len(sigma))]
    torch.testing.assert_close(torch.cat(alone), plain)


@law_of("continuous_consistency_training_loss", "continuous_consistency_distillation_loss")
@given(tensor_lists(2), st.data(), losses)
def test_continuous_consistency_losses_of_huber_are_those_of_squared_l2_over_2c(
    pair: list[Tensor], data: st.DataObject, loss: Loss
) -> None:
    """H = 2 I and H = I / c: the pseudo-Huber loss is 1 / (2 c) times the squared l2 loss, exactly quadratic at 0."""
    sigma = data.draw(levels_of(len(pair[0])))
    by_huber = loss(Network(), pair, sigma, distance=huber).detach()
    torch.testing.assert_close(by_huber, loss(Network(), pair, sigma).detach() / 0.06, rtol=1e-9, atol=0)


@law_of("continuous_consistency_training_loss")
@given(tensor_lists(2), st.data(), metrics)
def test_continuous_consistency_training_loss_is_0_for_the_exact_function_of_a_point(
    pair: list[Tensor], data: st.DataObject, metric: tuple[Loss, float]
) -> None:
    """p_data = delta(x - xi): xi + sigma z is a trajectory of Eq. (1), along which f* does not change."""
    z, xi = pair[0], pair[1][0]
    sigma = data.draw(levels_of(len(z)))
    f = partial(delta_consistency_function, xi=xi)
    loss = training(f, [xi.expand_as(z), z], sigma, distance=metric[0])
    # Relative to what cancels: (d f / d sigma) and z . (d f / d x), each sigma_min / sigma z.
    size = metric[1] * float((1 + z.abs().max() + xi.abs().max()) ** 2) * z[0].numel() / float(sigma.min())
    assert float(loss.abs().max()) < 1e-13 * size


@law_of("continuous_consistency_distillation_loss")
@given(tensor_lists(2), st.data(), st.floats(0.1, 3.0), metrics)
def test_continuous_consistency_distillation_loss_is_0_for_the_exact_function_of_a_gaussian(
    pair: list[Tensor], data: st.DataObject, std: float, metric: tuple[Loss, float]
) -> None:
    """p_data = N(m, s^2 I) and its score: f* does not change along Eq. (1)."""
    x, mean = pair[0], pair[1][0]
    sigma = data.draw(levels_of(len(x)))
    one = torch.ones(1, dtype=torch.float64)
    score = partial(gaussian_mixture_score, means=mean[None], stds=std * one, mixture_weights=one)
    f = partial(gaussian_consistency_function, mean=mean, std=std)
    loss = continuous_consistency_distillation_loss(
        f, score, x, sigma, weights=torch.ones_like(sigma), distance=metric[0]
    )
    size = metric[1] * float((1 + x.abs().max() + mean.abs().max()) ** 2) * x[0].numel() / float(sigma.min())
    assert float(loss.detach().abs().max()) < 1e-12 * size


@law_of("continuous_consistency_distillation_loss")
@given(tensor_lists(2), st.data())
def test_continuous_consistency_distillation_loss_is_the_training_loss_along_the_score(
    pair: list[Tensor], data: st.DataObject
) -> None:
    """With x_sigma = x + sigma z and score = -z / sigma, that of a single point x, Theorems 5 and 6 are one number."""
    x, z = pair
    sigma = data.draw(levels_of(len(x)))
    noisy = x + column(sigma, x) * z
    by_score = continuous_consistency_distillation_loss(
        Network(),
        lambda _, level: -z / column(level, z),
        noisy,
        sigma,
        weights=torch.ones_like(sigma),
        distance=squared_l2,
    )
    scale = float(noisy.abs().max() * (z.abs().max() + noisy.abs().max())) * x[0].numel()
    torch.testing.assert_close(
        by_score.detach(), training(Network(), pair, sigma).detach(), rtol=1e-9, atol=1e-13 * scale
    )


@law_of("continuous_consistency_training_loss")
@given(tensor_lists(2), st.sampled_from([squared_l2, huber]), st.floats(0.1, 10.0))
def test_continuous_consistency_training_loss_is_the_limit_of_the_discrete_gradient(
    pair: list[Tensor], metric: Loss, level: float
) -> None:
    """lambda = 1 / (sigma_{i+1} - sigma_i): the discrete gradient meets the continuous one, with an error like 1/N."""
    x, z = (tensor / tensor.abs().max().clamp_min(1e-300) for tensor in pair)

    def gradient(loss: Callable[[Network], Tensor]) -> float:
        f = Network()
        loss(f).sum().backward()  # type: ignore[no-untyped-call]
        assert f.theta.grad is not None
        return float(f.theta.grad)

    sigma = torch.full((len(x),), level, dtype=torch.float64)
    limit = gradient(lambda f: training(f, [x, z], sigma, distance=metric))
    errors = []
    for intervals in (2_000, 4_000, 8_000, 16_000):
        gap = level / intervals
        sigmas = torch.tensor([level, level + gap], dtype=torch.float64)
        discrete = gradient(
            lambda f, sigmas=sigmas, gap=gap: consistency_training_loss(  # type: ignore[misc]
                f,
                f,
                x,
                z,
                torch.zeros(len(x), dtype=torch.int64),
                sigmas,
                distance=metric,
                weights=torch.tensor([1 / gap], dtype=torch.float64),
            )
        )
        errors.append(discrete - limit)
    scale = float((x.abs() + z.abs()).square().sum()) * (1 + level) ** 2 / level * (2 if metric is squared_l2 else 34)
    for coarse, fine in pairwise(errors):
        # The term of order 1/N^2, at most this large, shows if that of order 1/N is small.
        assert fine == pytest.approx(coarse / 2, rel=0.05, abs=1e-6 * scale)


@law_of("continuous_consistency_training_loss", "continuous_consistency_distillation_loss")
@given(tensor_lists(2), st.sampled_from([float("nan"), 0.0, -1.0, float("inf")]), losses)
def test_continuous_consistency_losses_refuse_what_is_outside_their_domain(
    pair: list[Tensor], bad: float, loss: Loss
) -> None:
    """Needs 0 < sigma < infinity and 0 < lambda < infinity."""
    good, spoiled = torch.ones(len(pair[0])).double(), torch.full((len(pair[0]),), bad).double()
    with pytest.raises(ValueError, match="0 < sigma < infinity"):
        loss(Network(), pair, spoiled)
    with pytest.raises(ValueError, match="0 < weights < infinity"):
        loss(Network(), pair, good, weights=spoiled)
