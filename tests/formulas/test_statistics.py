"""Frechet distance, precision and recall.

Oracle: scipy.linalg.sqrtm; prdc.
"""

import math

import numpy as np
import prdc
import pytest
import scipy.linalg
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import frechet_distance, precision_recall


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(dim: int, seed: int) -> Tensor:
    factor = normal(dim, dim + 2, seed=seed)
    return factor @ factor.T / dim


def rotation(dim: int, seed: int) -> Tensor:
    q: Tensor = torch.linalg.qr(normal(dim, dim, seed=seed)).Q
    return q


def frechet_by_matrix_root(mu1: Tensor, cov1: Tensor, mu2: Tensor, cov2: Tensor) -> float:
    first, second = np.array(cov1.tolist()), np.array(cov2.tolist())
    root = scipy.linalg.sqrtm(first @ second)
    shift = np.array(mu1.tolist()) - np.array(mu2.tolist())
    return float(shift @ shift + np.trace(first + second - 2 * root.real))


def covered(points: list[list[int]], by: list[list[int]], k: int) -> float:
    """Fraction of the points that lie within the reach of some point of `by`, its k-th nearest neighbour there."""

    def square(a: list[int], b: list[int]) -> int:
        return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))

    radii = [sorted(square(a, b) for j, b in enumerate(by) if j != i)[k - 1] for i, a in enumerate(by)]
    inside = sum(any(square(p, a) <= r for a, r in zip(by, radii, strict=True)) for p in points)
    return inside / len(points)


def test_the_frechet_distance_of_two_lines_is_computed_by_hand() -> None:
    # (3 - 1)^2 + 4 + 9 - 2 sqrt(36) = 5 = 2^2 + (2 - 3)^2
    got = frechet_distance(f64(3.0), f64(4.0).reshape(1, 1), f64(1.0), f64(9.0).reshape(1, 1))
    assert got.shape == ()
    assert got.item() == pytest.approx(5.0, rel=1e-14)


def test_the_frechet_distance_adds_up_over_common_axes() -> None:
    # Commuting covariances: |mu1 - mu2|^2 + sum (sqrt(l1) - sqrt(l2))^2 = (1 + 4) + (1 - 3)^2 + (2 - 5)^2
    axes = rotation(2, seed=1)
    cov1 = axes @ f64(1.0, 4.0).diag() @ axes.T
    cov2 = axes @ f64(9.0, 25.0).diag() @ axes.T
    assert frechet_distance(f64(1.0, 2.0), cov1, f64(0.0, 0.0), cov2).item() == pytest.approx(18.0, rel=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 5, 24])
def test_the_frechet_distance_agrees_with_the_matrix_root(dim: int) -> None:
    # For dim > 1 these covariances do not commute.
    mu1, mu2 = normal(dim, seed=2), normal(dim, seed=3)
    cov1, cov2 = covariance(dim, seed=4), covariance(dim, seed=5)
    got = frechet_distance(mu1, cov1, mu2, cov2)
    assert got.dtype == torch.float64
    assert got.item() == pytest.approx(frechet_by_matrix_root(mu1, cov1, mu2, cov2), rel=1e-10)


def test_the_frechet_distance_is_zero_of_a_law_to_itself_and_symmetric() -> None:
    mu1, mu2 = normal(6, seed=6), normal(6, seed=7)
    cov1, cov2 = covariance(6, seed=8), covariance(6, seed=9)
    assert abs(frechet_distance(mu1, cov1, mu1, cov1).item()) < 1e-11
    there, back = frechet_distance(mu1, cov1, mu2, cov2), frechet_distance(mu2, cov2, mu1, cov1)
    assert there.item() == pytest.approx(back.item(), rel=1e-11)


def test_the_frechet_distance_ignores_translations_and_rotations() -> None:
    mu1, mu2, shift = normal(5, seed=10), normal(5, seed=11), normal(5, seed=12)
    cov1, cov2, turn = covariance(5, seed=13), covariance(5, seed=14), rotation(5, seed=15)
    moved = frechet_distance(turn @ mu1 + shift, turn @ cov1 @ turn.T, turn @ mu2 + shift, turn @ cov2 @ turn.T)
    assert moved.item() == pytest.approx(frechet_distance(mu1, cov1, mu2, cov2).item(), rel=1e-11)


@pytest.mark.parametrize("tiny", [1e-1, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 3e-10, 1e-10, 1e-11, 1e-13])
@pytest.mark.parametrize("dim", [3, 8, 40])
def test_the_frechet_distance_has_ten_digits_for_small_variances(dim: int, tiny: float) -> None:
    # On common axes: the sum of (s1 - s2)^2. A product of covariances has the variances squared, 1e-18 for 1e-9.
    for seed in range(8):
        q, of_axes = rotation(dim, seed), torch.ones(dim, dtype=torch.float64)
        of_axes[dim // 2 :] = tiny
        cov1, cov2 = (factor * (q * of_axes) @ q.T for factor in (1.0, 1.7))
        got = frechet_distance(torch.zeros_like(of_axes), cov1, torch.zeros_like(of_axes), cov2).item()
        expected = (1 - math.sqrt(1.7)) ** 2 * of_axes.sum().item()
        # Below 1e-10 the smallest variances are lost in the entries of the covariances themselves.
        assert got == pytest.approx(expected, abs=1e-10 * 2.7 * of_axes.sum().item() if tiny > 1e-10 else 1e-6)


def test_the_frechet_distance_works_for_singular_covariances() -> None:
    # tr sqrt(a a^T b b^T) = |a . b|: here |a|^2 = 9, |b|^2 = 25 and a . b = -10, hence 9 + 25 - 2 * 10
    a, b, zero = f64(2.0, 1.0, 2.0), f64(-5.0, 0.0, 0.0), f64(0.0, 0.0, 0.0)
    got = frechet_distance(zero, a[:, None] * a, zero, b[:, None] * b)
    assert got.item() == pytest.approx(14.0, rel=1e-6)
    cov = covariance(3, seed=16)
    to_a_point = frechet_distance(zero, cov, zero, torch.zeros_like(cov))
    assert to_a_point.item() == pytest.approx(cov.trace().item(), rel=1e-7)


def test_a_covariance_that_rounding_made_asymmetric_is_accepted() -> None:
    # Each pair of entries differs by 8e-6 of itself, and by more than 1e-8 of the largest entry.
    mean, cov = f64(0, 0), f64(2, 1, 1, 2).reshape(2, 2)
    rounded = f64(2, 1, 1 + 8e-6, 2).reshape(2, 2)
    assert float(frechet_distance(mean, rounded, mean, cov)) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="symmetric cov1"):
        frechet_distance(mean, f64(2, 1, 1 + 2e-5, 2).reshape(2, 2), mean, cov)


def test_the_frechet_distance_can_be_vectorized() -> None:
    means, covs = normal(3, 4, seed=1), torch.stack([covariance(4, seed) for seed in (2, 3, 4)])
    one_by_one = torch.stack(
        [frechet_distance(mean, cov, means[0], covs[0]) for mean, cov in zip(means, covs, strict=True)]
    )
    at_once = torch.func.vmap(lambda mean, cov: frechet_distance(mean, cov, means[0], covs[0]))(means, covs)
    torch.testing.assert_close(at_once, one_by_one)


def test_the_frechet_distance_grows_with_the_square_of_the_unit() -> None:
    # Variances 1e8 and 1: their ratio decides how the root is computed, not their product.
    q, of_axes = rotation(8, 1), f64(*[1e-8] * 4, *[1.0] * 4)
    cov, zero = (q * of_axes) @ q.T, torch.zeros(8, dtype=torch.float64)
    got = frechet_distance(zero, 1e8 * cov, zero, 1.7e8 * cov).item()
    assert got == pytest.approx(1e8 * (1 - math.sqrt(1.7)) ** 2 * of_axes.sum().item(), rel=1e-9)


def test_statistics_that_are_not_finite_are_rejected() -> None:
    mu, cov, bad = torch.zeros(2), torch.eye(2), math.nan
    with pytest.raises(ValueError, match="mean1"):
        frechet_distance(torch.full((2,), bad), cov, mu, cov)
    with pytest.raises(ValueError, match="mean2"):
        frechet_distance(mu, cov, torch.full((2,), bad), cov)
    with pytest.raises(ValueError, match="cov"):
        frechet_distance(mu, torch.full((2, 2), bad), mu, cov)
    with pytest.raises(ValueError, match="cov"):
        frechet_distance(mu, cov, mu, torch.full((2, 2), bad))


def test_statistics_of_different_dimensions_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        frechet_distance(torch.zeros(2), torch.eye(2), torch.zeros(3), torch.eye(3))
    with pytest.raises((ValueError, TypeCheckError)):
        frechet_distance(torch.zeros(2), torch.eye(3), torch.zeros(2), torch.eye(2))


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "dim"), [(60, 40, 2), (25, 70, 4), (7, 7, 3)])
def test_precision_and_recall_agree_with_an_independent_package(k: int, n: int, m: int, dim: int) -> None:
    real, fake = normal(n, dim, seed=20), 0.8 * normal(m, dim, seed=21) + 0.7
    expected = prdc.compute_prdc(np.array(real.tolist()), np.array(fake.tolist()), nearest_k=k)
    precision, recall = precision_recall(real, fake, k=k)
    assert precision.shape == recall.shape == ()
    assert precision.item() == pytest.approx(expected["precision"], abs=1e-12)
    assert recall.item() == pytest.approx(expected["recall"], abs=1e-12)


def test_precision_counts_generated_points_and_recall_counts_real_points() -> None:
    # The generated points repeat one corner of the data: all are plausible, most of the data is missed.
    real = torch.arange(10, dtype=torch.float64).reshape(10, 1)
    fake = f64(0.0, 0.1, 0.2, 0.3).reshape(4, 1)
    precision, recall = precision_recall(real, fake, k=1)
    assert precision.item() == 1.0
    assert recall.item() == pytest.approx(0.1)


def test_a_point_on_the_rim_of_a_neighbourhood_is_inside() -> None:
    # real: 0 and 3 have radius 3, 10 has radius 7; fake: -3 lies on the rim of 0, 17 on that of 10, 18 outside
    real, fake = f64(0.0, 3.0, 10.0).reshape(3, 1), f64(-3.0, 17.0, 18.0, -20.0).reshape(4, 1)
    precision, _ = precision_recall(real, fake, k=1)
    assert precision.item() == pytest.approx(0.5)
    _, recall = precision_recall(fake, real, k=1)
    assert recall.item() == pytest.approx(0.5)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_precision_and_recall_agree_with_a_loop_over_integer_points(k: int, seed: int) -> None:
    # Small integers: every distance is exact, and there are many ties and repeated points.
    generator = torch.Generator().manual_seed(seed)
    real = torch.randint(-3, 4, (11, 2), generator=generator)
    fake = torch.randint(-1, 7, (8, 2), generator=generator)
    precision, recall = precision_recall(real.double(), fake.double(), k=k)
    assert precision.item() == pytest.approx(covered(fake.tolist(), real.tolist(), k), abs=1e-15)
    assert recall.item() == pytest.approx(covered(real.tolist(), fake.tolist(), k), abs=1e-15)


def test_three_neighbours_are_the_default() -> None:
    real, fake = normal(20, 3, seed=22), normal(20, 3, seed=23) + 0.5
    assert precision_recall(real, fake) == precision_recall(real, fake, k=3)
    assert precision_recall(real, fake) != precision_recall(real, fake, k=1)


@pytest.mark.parametrize("k", [0, -1, 5, 6])
def test_a_number_of_neighbours_that_the_smaller_set_does_not_have_is_rejected(k: int) -> None:
    with pytest.raises(ValueError, match=r"\bk\b"):
        precision_recall(torch.ones(5, 2), torch.ones(9, 2), k=k)
    with pytest.raises(ValueError, match=r"\bk\b"):
        precision_recall(torch.ones(9, 2), torch.ones(5, 2), k=k)


def test_features_that_are_nan_are_rejected() -> None:
    good, bad = normal(6, 2, seed=24), torch.full((6, 2), math.nan, dtype=torch.float64)
    with pytest.raises(ValueError, match="real"):
        precision_recall(bad, good)
    with pytest.raises(ValueError, match="fake"):
        precision_recall(good, bad)


def test_features_of_different_dimensions_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        precision_recall(torch.ones(6, 2), torch.ones(6, 3))
