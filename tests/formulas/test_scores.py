"""Inception score and kernel distance (KID).

Oracle: closed forms, NumPy double loops, scikit-learn's polynomial kernel, and all samples of a small population.
"""

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from jaxtyping import TypeCheckError
from sklearn.metrics.pairwise import polynomial_kernel
from torch import Tensor

from ict_ref.formulas import inception_score, kernel_distance

Array = npt.NDArray[Any]


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


# ------------------------------------------------------------------ inception score


def score_by_loops(p: Array) -> float:
    examples, classes = p.shape
    marginal = [sum(p[i, k] for i in range(examples)) / examples for k in range(classes)]
    total = 0.0
    for i in range(examples):
        for k in range(classes):
            if p[i, k] > 0.0:
                total += p[i, k] * math.log(p[i, k] / marginal[k])
    return math.exp(total / examples)


def dirichlet(seed: int, examples: int, classes: int, sharpness: float) -> Array:
    return np.random.default_rng(seed).dirichlet(np.full(classes, sharpness), size=examples)


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 20.0])
@pytest.mark.parametrize(("examples", "classes"), [(1, 4), (2, 2), (7, 3), (40, 10)])
def test_inception_score_equals_a_double_loop_and_stays_between_one_and_the_number_of_classes(
    sharpness: float, examples: int, classes: int
) -> None:
    p = dirichlet(examples + classes, examples, classes, sharpness)
    got = inception_score(tensor(p))
    assert got.shape == ()
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(score_by_loops(p), rel=1e-12)
    assert 1.0 - 1e-12 <= got.item() <= min(examples, classes) * (1.0 + 1e-12)


@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_one_certain_example_of_every_class_scores_the_number_of_classes(classes: int) -> None:
    assert inception_score(tensor(np.eye(classes))).item() == pytest.approx(classes, rel=1e-12)


def test_examples_with_the_same_probabilities_score_one() -> None:
    for row in ([0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]):
        assert inception_score(tensor([row] * 5)).item() == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("u", [0.0, 0.1, 0.37, 0.5, 1e-300])
def test_two_mirrored_examples_score_two_over_the_exponential_of_their_entropy(u: float) -> None:
    entropy = -sum(v * math.log(v) for v in (u, 1.0 - u) if v > 0.0)
    got = inception_score(tensor([[u, 1.0 - u], [1.0 - u, u]])).item()
    assert got == pytest.approx(2.0 * math.exp(-entropy), rel=1e-12)


def test_certain_examples_score_the_exponential_of_the_entropy_of_the_classes() -> None:
    counts = [5, 3, 2, 0]
    p = np.repeat(np.eye(4), counts, axis=0)
    entropy = -sum(c / 10 * math.log(c / 10) for c in counts if c)
    assert inception_score(tensor(p)).item() == pytest.approx(math.exp(entropy), rel=1e-12)


def test_inception_score_does_not_depend_on_the_order_or_on_repeating_all_examples() -> None:
    p = dirichlet(3, 9, 5, 0.5)
    wanted = inception_score(tensor(p)).item()
    for other in (p[::-1], p[:, ::-1], np.concatenate([p, p, p])):
        assert inception_score(tensor(other.copy())).item() == pytest.approx(wanted, rel=1e-12)


def test_inception_score_takes_rows_of_a_float32_softmax() -> None:
    logits = torch.as_tensor(5.0 * normal(4, 64, 1000), dtype=torch.float32)
    p = torch.softmax(logits, dim=1)
    got = inception_score(p)
    assert got.shape == ()
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(score_by_loops(p.double().numpy()), rel=1e-4)


@pytest.mark.parametrize(
    "row",
    [
        [0.5, 0.6],
        [0.5, 0.4],
        [0.0, 0.0],
        [1.5, -0.5],
        [float("nan"), 0.5],
        [float("inf"), 0.0],
    ],
)
def test_rows_that_are_not_probabilities_are_rejected(row: list[float]) -> None:
    with pytest.raises(ValueError, match=r"\bp\b"):
        inception_score(tensor([[0.3, 0.7], row]))


def test_an_empty_set_of_examples_is_rejected() -> None:
    with pytest.raises(ValueError, match=r"\bp\b|examples"):
        inception_score(torch.zeros(0, 3, dtype=torch.float64))


# ------------------------------------------------------------------ kernel distance


def kernel(x: Array, y: Array) -> float:
    return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1.0) ** 3)


def distance_by_loops(real: Array, fake: Array) -> float:
    m, n = len(real), len(fake)
    within_real = sum(kernel(real[i], real[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    within_fake = sum(kernel(fake[i], fake[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(kernel(real[i], fake[j]) for i in range(m) for j in range(n)) / (m * n)
    return within_real + within_fake - 2.0 * across


SIZES = [(2, 2, 1), (2, 5, 3), (6, 3, 2), (9, 9, 4), (5, 8, 16)]


@pytest.mark.parametrize(("m", "n", "d"), SIZES)
def test_kernel_distance_equals_a_double_loop(m: int, n: int, d: int) -> None:
    real, fake = normal(m, m, d), 0.5 + 2.0 * normal(n + 50, n, d)
    got = kernel_distance(tensor(real), tensor(fake))
    assert got.shape == ()
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(distance_by_loops(real, fake), rel=1e-11, abs=1e-11)


@pytest.mark.parametrize(("m", "n", "d"), [(30, 20, 8), (50, 50, 64)])
def test_kernel_distance_equals_scikit_learns_polynomial_kernel(m: int, n: int, d: int) -> None:
    real, fake = np.abs(normal(1, m, d)), np.abs(normal(2, n, d)) + 0.1
    k_real, k_fake, k_across = (
        polynomial_kernel(a, b, degree=3, gamma=1.0 / d, coef0=1.0)
        for a, b in ((real, real), (fake, fake), (real, fake))
    )
    wanted = (
        (k_real.sum() - np.trace(k_real)) / (m * (m - 1))
        + (k_fake.sum() - np.trace(k_fake)) / (n * (n - 1))
        - 2.0 * k_across.mean()
    )
    assert kernel_distance(tensor(real), tensor(fake)).item() == pytest.approx(float(wanted), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("t", [-1.5, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("d", [1, 5])
def test_two_repeated_points_have_the_closed_form(t: float, d: int) -> None:
    zeros, ones = torch.zeros(3, d, dtype=torch.float64), torch.full((4, d), t, dtype=torch.float64)
    wanted = (t * t + 1.0) ** 3 - 1.0
    assert kernel_distance(zeros, ones).item() == pytest.approx(wanted, rel=1e-12, abs=1e-14)
    assert kernel_distance(ones, zeros).item() == pytest.approx(wanted, rel=1e-12, abs=1e-14)


def test_the_same_pair_of_points_on_both_sides_has_a_negative_distance() -> None:
    x = tensor([[1.0], [-1.0]])
    # k(1, 1) = 8, k(1, -1) = 0: within 0 and 0, across (8 + 0 + 0 + 8) / 4.
    assert kernel_distance(x, x).item() == pytest.approx(-8.0, rel=1e-12)


def test_the_mean_over_all_samples_of_a_population_is_the_squared_distance_of_the_populations() -> None:
    points_p, points_q = normal(5, 3, 2), normal(6, 2, 2) + 0.7
    shares_p, shares_q = np.array([0.2, 0.5, 0.3]), np.array([0.6, 0.4])
    m, n = 3, 2
    mean = 0.0
    for chosen_p in itertools.product(range(3), repeat=m):
        for chosen_q in itertools.product(range(2), repeat=n):
            chance = math.prod(shares_p[list(chosen_p)]) * math.prod(shares_q[list(chosen_q)])
            found = kernel_distance(tensor(points_p[list(chosen_p)]), tensor(points_q[list(chosen_q)]))
            mean += chance * found.item()

    def average(x: Array, u: Array, y: Array, v: Array) -> float:
        return float(sum(u[i] * v[j] * kernel(x[i], y[j]) for i in range(len(u)) for j in range(len(v))))

    wanted = (
        average(points_p, shares_p, points_p, shares_p)
        + average(points_q, shares_q, points_q, shares_q)
        - 2.0 * average(points_p, shares_p, points_q, shares_q)
    )
    assert wanted > 0.0
    assert mean == pytest.approx(wanted, rel=1e-11)


def test_kernel_distance_is_symmetric_and_blind_to_order_and_to_a_common_rotation() -> None:
    real, fake = normal(7, 6, 4), normal(8, 9, 4) * 1.5
    wanted = kernel_distance(tensor(real), tensor(fake)).item()
    turn = np.linalg.qr(normal(9, 4, 4))[0]
    pairs = [(fake, real), (real[::-1].copy(), fake), (real, fake[::-1].copy()), (real @ turn, fake @ turn)]
    for first, second in pairs:
        assert kernel_distance(tensor(first), tensor(second)).item() == pytest.approx(wanted, rel=1e-11)


def test_kernel_distance_keeps_float32() -> None:
    real, fake = normal(10, 20, 8), normal(11, 30, 8) + 1.0
    got = kernel_distance(tensor(real).float(), tensor(fake).float())
    assert got.shape == ()
    assert got.dtype == torch.float32
    assert got.item() == pytest.approx(distance_by_loops(real, fake), rel=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_examples_are_rejected(count: int) -> None:
    few, many = tensor(normal(12, count, 3)), tensor(normal(13, 4, 3))
    with pytest.raises(ValueError, match="real"):
        kernel_distance(few, many)
    with pytest.raises(ValueError, match="fake"):
        kernel_distance(many, few)


def test_features_of_different_lengths_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError), match=r"real|fake|features|\bd\b"):
        kernel_distance(tensor(normal(14, 4, 3)), tensor(normal(15, 4, 2)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_rejected(value: float) -> None:
    broken, whole = tensor(normal(16, 4, 3)), tensor(normal(17, 4, 3))
    broken[1, 2] = value
    with pytest.raises(ValueError, match="real"):
        kernel_distance(broken, whole)
    with pytest.raises(ValueError, match="fake"):
        kernel_distance(whole, broken)
