"""Laws of the statistics that compare two sets of examples."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref.formulas import frechet_distance, precision_recall
from properties.strategies import feature_sets, rotation, seeds


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance."""
    return x.mean(0), x.T.cov().reshape(x.shape[1], x.shape[1])


pairs = feature_sets(2)


@given(pairs)
def test_frechet_distance_is_symmetric_and_not_negative(pair: list[Tensor]) -> None:
    """FD(p, q) = FD(q, p) >= 0."""
    p, q = map(moments, pair)
    there, back = frechet_distance(*p, *q), frechet_distance(*q, *p)
    assert float(there) >= 0
    torch.testing.assert_close(there, back, rtol=1e-9, atol=1e-9)


@given(feature_sets(1))
def test_frechet_distance_of_equals_is_0(sets: list[Tensor]) -> None:
    """FD(p, p) = 0, also for singular covariances."""
    p = moments(sets[0])
    assert float(frechet_distance(*p, *p)) < 1e-12


@given(pairs, seeds)
def test_frechet_distance_does_not_see_motions(pair: list[Tensor], seed: int) -> None:
    """FD is the same after both sets are rotated and moved alike."""
    q = rotation(pair[0].shape[1], seed)
    moved = [x @ q + q[0] for x in pair]
    torch.testing.assert_close(
        frechet_distance(*moments(moved[0]), *moments(moved[1])),
        frechet_distance(*moments(pair[0]), *moments(pair[1])),
        rtol=1e-7,
        atol=1e-9,
    )


@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0, 9), st.floats(-9, 9)), min_size=1, max_size=6), seeds)
def test_frechet_distance_of_commuting_covariances(axes: list[tuple[float, float, float]], seed: int) -> None:
    """For covariances with common axes: sum of (m1 - m2)^2 + (s1 - s2)^2 over the axes."""
    q = rotation(len(axes), seed)
    s1, s2, m = (torch.tensor(column, dtype=torch.float64) for column in zip(*axes, strict=True))
    value = frechet_distance(q @ m, q @ (s1**2).diag() @ q.T, torch.zeros_like(m), q @ (s2**2).diag() @ q.T)
    expected = (m**2 + (s1 - s2) ** 2).sum()
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-5)


@given(pairs, st.integers(1, 4))
def test_precision_is_recall_the_other_way(pair: list[Tensor], k: int) -> None:
    """precision(a, b) = recall(b, a), and both are shares."""
    precision, recall = precision_recall(pair[0], pair[1], k=k)
    assert 0 <= float(precision) <= 1
    assert (float(recall), float(precision)) == tuple(map(float, precision_recall(pair[1], pair[0], k=k)))


@given(feature_sets(1), st.integers(1, 4))
def test_precision_and_recall_of_equals_are_1(sets: list[Tensor], k: int) -> None:
    """A set is within its own reach."""
    assert tuple(map(float, precision_recall(sets[0], sets[0], k=k))) == (1.0, 1.0)


@given(pairs, st.integers(1, 3))
def test_precision_and_recall_grow_with_k(pair: list[Tensor], k: int) -> None:
    """A farther neighbour means more reach."""
    near, far = precision_recall(pair[0], pair[1], k=k), precision_recall(pair[0], pair[1], k=k + 1)
    assert float(near[0]) <= float(far[0])
    assert float(near[1]) <= float(far[1])


@given(pairs)
def test_precision_and_recall_of_far_sets_are_0(pair: list[Tensor]) -> None:
    """Sets that are far apart do not reach each other."""
    assert tuple(map(float, precision_recall(pair[0], pair[1] + 1e3))) == (0.0, 0.0)


@given(pairs, st.sampled_from([float("nan"), float("inf")]))
def test_statistics_refuse_what_is_outside_their_domain(pair: list[Tensor], bad: float) -> None:
    """Finite features, symmetric covariances without negative eigenvalues, more examples than neighbours."""
    real, fake = pair
    mean, covariance = moments(real)
    with pytest.raises(ValueError, match="mu1"):
        frechet_distance(mean * bad, covariance, mean, covariance)
    with pytest.raises(ValueError, match="cov2"):
        frechet_distance(mean, covariance, mean, covariance * bad)
    if len(mean) > 1:
        skew = covariance.clone()
        skew[0, 1] += 1
        with pytest.raises(ValueError, match="symmetric cov1"):
            frechet_distance(mean, skew, mean, covariance)
    with pytest.raises(ValueError, match="cov1"):
        frechet_distance(mean, -covariance - torch.eye(len(mean)).double(), mean, covariance)
    for k in (0, -1, len(fake)):
        with pytest.raises(ValueError, match="k"):
            precision_recall(fake, fake, k=k)
    with pytest.raises(ValueError, match="real"):
        precision_recall(real * bad, fake)
