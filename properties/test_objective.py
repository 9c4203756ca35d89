"""Laws of the consistency training loss and of averaging."""

from functools import partial

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref.formulas import (
    consistency_matching_loss,
    consistency_training_loss,
    ema_update,
    inverse_gap_weights,
    pseudo_huber,
    squared_l2,
)
from properties.law_of import law_of
from properties.strategies import dtypes, grids, seeds, tensor_lists

distance = partial(pseudo_huber, c=0.03)
decays = st.floats(0.0, 0.999)


def like_batch(sigma: Tensor, x: Tensor) -> Tensor:
    """Return sigma with the trailing axes of x."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:]))


def intervals(sigmas: Tensor, batch: int, seed: int) -> Tensor:
    """Return a random interval for each example."""
    return torch.randint(len(sigmas) - 1, (batch,), generator=torch.Generator().manual_seed(seed))


class Recorder:
    """A consistency function with a parameter, which records its calls."""

    def __init__(self) -> None:
        self.theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        self.x = self.sigma = torch.empty(0)
        self.had_gradient = False

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return theta x / (1 + sigma)."""
        self.x, self.sigma, self.had_gradient = x, sigma, torch.is_grad_enabled()
        return self.theta * x / (1 + like_batch(sigma, x))


@law_of("consistency_training_loss")
@given(tensor_lists(2), grids(), seeds)
def test_consistency_training_loss_sends_no_gradient_to_the_teacher(
    pair: list[Tensor], sigmas: Tensor, seed: int
) -> None:
    """d loss / d theta- = 0, and the teacher builds no graph; d loss / d theta is the student's alone."""
    x, z = pair
    index, student, teacher = intervals(sigmas, len(x), seed), Recorder(), Recorder()
    loss = consistency_training_loss(
        student, teacher, x, z, index, sigmas, distance=distance, weights=inverse_gap_weights(sigmas)
    )
    torch.autograd.backward(loss.sum())
    assert student.theta.grad is not None
    assert float(student.theta.grad) != 0
    assert teacher.theta.grad is None
    assert student.had_gradient
    assert not teacher.had_gradient


@law_of("consistency_training_loss")
@given(tensor_lists(2), grids(), seeds, dtypes)
def test_consistency_training_loss_computes_in_the_dtype_of_x(
    pair: list[Tensor], sigmas: Tensor, seed: int, dtype: torch.dtype
) -> None:
    """sigma_i and sigma_{i+1} are looked up in float64 and rounded last; networks and loss have the dtype of x."""
    x, z = (tensor.to(dtype) for tensor in pair)
    index, student, teacher = intervals(sigmas, len(x), seed), Recorder(), Recorder()
    student.theta, teacher.theta = (torch.tensor(0.7, dtype=dtype) for _ in range(2))
    weights = torch.ones_like(sigmas[1:])
    loss = consistency_training_loss(student, teacher, x, z, index, sigmas, distance=squared_l2, weights=weights)
    assert {loss.dtype, student.x.dtype, teacher.x.dtype} == {dtype}
    assert torch.equal(student.sigma, sigmas[index + 1].to(dtype))
    assert torch.equal(teacher.sigma, sigmas[index].to(dtype))


@law_of("consistency_matching_loss")
@given(tensor_lists(1), grids(), seeds, dtypes)
def test_consistency_matching_loss_computes_in_the_dtype_of_x(
    x: list[Tensor], sigmas: Tensor, seed: int, dtype: torch.dtype
) -> None:
    """sigma_i and sigma_{i+1} are rounded last; networks, score and loss have x's dtype."""
    x_hi = x[0].to(dtype)
    index, student, teacher, score = intervals(sigmas, len(x_hi), seed), Recorder(), Recorder(), Recorder()
    for network in (student, teacher, score):
        network.theta = torch.tensor(0.7, dtype=dtype)
    weights = torch.ones_like(sigmas[1:])
    loss = consistency_matching_loss(student, teacher, score, x_hi, index, sigmas, distance=squared_l2, weights=weights)
    assert {loss.dtype, student.x.dtype, teacher.x.dtype, score.x.dtype} == {dtype}
    assert torch.equal(student.sigma, sigmas[index + 1].to(dtype))
    assert torch.equal(teacher.sigma, sigmas[index].to(dtype))
    assert torch.equal(score.sigma, sigmas[index + 1].to(dtype))


@law_of("consistency_matching_loss")
@given(tensor_lists(2), grids(), seeds)
def test_consistency_matching_loss_sends_no_gradient_to_teacher_or_score(
    pair: list[Tensor], sigmas: Tensor, seed: int
) -> None:
    """d loss / d theta- = 0, and neither teacher nor score build a graph."""
    x_hi = pair[0]
    index, student, teacher, score = intervals(sigmas, len(x_hi), seed), Recorder(), Recorder(), Recorder()
    loss = consistency_matching_loss(
        student, teacher, score, x_hi, index, sigmas, distance=distance, weights=inverse_gap_weights(sigmas)
    )
    torch.autograd.backward(loss.sum())
    assert student.theta.grad is not None
    assert teacher.theta.grad is None
    assert score.theta.grad is None
    assert not teacher.had_gradient
    assert not score.had_gradient
    assert student.had_gradient
    assert torch.equal(student.sigma, sigmas[index + 1])
    assert torch.equal(score.sigma, sigmas[index + 1])
    assert torch.equal(teacher.sigma, sigmas[index])
    assert torch.equal(student.x, x_hi)


@law_of("consistency_matching_loss")
@given(tensor_lists(1), st.floats(0.2, 3.0))
def test_consistency_matching_loss_of_the_exact_function_falls_with_the_grid(x: list[Tensor], deviation: float) -> None:
    """Gaussian data: f* has the loss of Euler's error alone, and ||.||_2 of it falls like 1/N^2 at a fixed level."""

    def score(y: Tensor, sigma: Tensor) -> Tensor:
        return -y / (deviation**2 + like_batch(sigma, y) ** 2)

    def exact(y: Tensor, sigma: Tensor) -> Tensor:
        return ((deviation**2 + 0.1**2) / (deviation**2 + like_batch(sigma, y) ** 2)).sqrt() * y

    x_hi = x[0] + 1
    roots = []
    for gap in (0.02, 0.01, 0.005):
        sigmas = torch.tensor([0.1, 1.0 - gap, 1.0], dtype=torch.float64)
        loss = consistency_matching_loss(
            exact,
            exact,
            score,
            x_hi,
            torch.ones(len(x_hi), dtype=torch.int64),
            sigmas,
            distance=squared_l2,
            weights=torch.ones(2).double(),
        )
        roots.append(float(loss.sum().sqrt()))
    assert roots[0] / roots[1] == pytest.approx(4, abs=0.3)
    assert roots[1] / roots[2] == pytest.approx(4, abs=0.2)


@law_of("ema_update")
@given(tensor_lists(2), decays)
def test_ema_update_lies_between_and_changes_neither(pair: list[Tensor], decay: float) -> None:
    """min(a, v) <= ema <= max(a, v); a and v stay as they were, and no gradient reaches them."""
    average, value = (tensor.clone().requires_grad_() for tensor in pair)
    updated = ema_update(average, value, decay=decay)
    slack = 1e-12 * (average.abs() + value.abs())
    assert bool((updated >= torch.minimum(average, value) - slack).all())
    assert bool((updated <= torch.maximum(average, value) + slack).all())
    assert torch.equal(average, pair[0])
    assert torch.equal(value, pair[1])
    assert not updated.requires_grad


@law_of("consistency_matching_loss", "consistency_training_loss", "ema_update")
@given(tensor_lists(2), st.sampled_from([-0.1, 1.0, 1.5, float("nan"), float("inf")]), st.sampled_from([-1, 4]))
def test_objectives_refuse_what_is_outside_their_domain(pair: list[Tensor], decay: float, interval: int) -> None:
    """0 <= decay < 1; an index is an interval of the grid, counted from 0."""
    x, z = pair
    sigmas = torch.tensor([0.002, 0.1, 1.0, 10.0, 80.0], dtype=torch.float64)
    with pytest.raises(ValueError, match="decay"):
        ema_update(x, z, decay=decay)
    with pytest.raises(ValueError, match="index"):
        consistency_training_loss(
            Recorder(),
            Recorder(),
            x,
            z,
            torch.full((len(x),), interval),
            sigmas,
            distance=distance,
            weights=inverse_gap_weights(sigmas),
        )
    with pytest.raises(ValueError, match="index"):
        consistency_matching_loss(
            Recorder(),
            Recorder(),
            Recorder(),
            x,
            torch.full((len(x),), interval),
            sigmas,
            distance=distance,
            weights=inverse_gap_weights(sigmas),
        )
