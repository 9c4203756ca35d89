"""Laws of the statistics that compare two sets of examples."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref.formulas import frechet_distance, inception_score, kernel_distance, precision_recall
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


@given(feature_sets(1), st.floats(0.01, 100.0))
def test_frechet_distance_is_not_negative_in_float32(sets: list[Tensor], scale: float) -> None:
    """FD(p, p) >= 0 where rounding would have it below."""
    mean, covariance = (moment.float() for moment in moments(scale * sets[0]))
    assert float(frechet_distance(mean, covariance, mean, covariance)) >= 0


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
def test_precision_recall_is_recall_the_other_way(pair: list[Tensor], k: int) -> None:
    """precision(a, b) = recall(b, a), and both are shares."""
    precision, recall = precision_recall(pair[0], pair[1], k=k)
    assert 0 <= float(precision) <= 1
    assert (float(recall), float(precision)) == tuple(map(float, precision_recall(pair[1], pair[0], k=k)))


@given(feature_sets(1), st.integers(1, 4))
def test_precision_recall_of_equals_are_1(sets: list[Tensor], k: int) -> None:
    """A set is within its own reach."""
    assert tuple(map(float, precision_recall(sets[0], sets[0], k=k))) == (1.0, 1.0)


@given(pairs, st.integers(1, 3))
def test_precision_recall_grow_with_k(pair: list[Tensor], k: int) -> None:
    """A farther neighbour means more reach."""
    near, far = precision_recall(pair[0], pair[1], k=k), precision_recall(pair[0], pair[1], k=k + 1)
    assert float(near[0]) <= float(far[0])
    assert float(near[1]) <= float(far[1])


@given(pairs)
def test_precision_recall_of_far_sets_are_0(pair: list[Tensor]) -> None:
    """Sets that are far apart do not reach each other."""
    assert tuple(map(float, precision_recall(pair[0], pair[1] + 1e3))) == (0.0, 0.0)


@given(st.floats(1e2, 1e4), st.integers(30, 60))
def test_precision_recall_sees_small_distances_far_from_the_origin(offset: float, count: int) -> None:
    """Points a millionth apart are told apart, wherever they lie."""
    line = torch.zeros(count, 2, dtype=torch.float64)
    line[:, 0] = torch.arange(count) * 1e-6
    beside, above = line + torch.tensor([0.4e-6, 0.0]), line + torch.tensor([0.0, 3e-6])
    assert tuple(map(float, precision_recall(line + offset, beside + offset, k=1))) == (1.0, 1.0)
    assert tuple(map(float, precision_recall(line + offset, above + offset, k=1))) == (0.0, 0.0)


@given(st.floats(1e-3, 1e3), st.booleans())
def test_frechet_distance_forgives_rounding_and_no_more(scale: float, transposed: bool) -> None:
    """cov = cov^T up to 1e-5 of each entry and 1e-8 of the largest."""
    mean = torch.zeros(2, dtype=torch.float64)
    good = scale * torch.eye(2, dtype=torch.float64)
    for entry, forgiven in ((9e-9, True), (1.1e-8, False)):
        skew = good.clone()
        skew[0, 1] = entry * scale
        skew = skew.mT if transposed else skew
        if forgiven:
            assert float(frechet_distance(mean, skew, mean, good)) < 1e-6 * scale
        else:
            with pytest.raises(ValueError, match="symmetric cov1"):
                frechet_distance(mean, skew, mean, good)


@st.composite
def probabilities(draw: st.DrawFn) -> Tensor:
    """Rows of probabilities, some of them 0."""
    parts = draw(st.lists(st.integers(0, 5), min_size=1, max_size=24))
    classes = draw(st.integers(1, len(parts)))
    rows = torch.tensor(parts[: len(parts) // classes * classes], dtype=torch.float64).reshape(-1, classes)
    rows[:, 0] += rows.sum(1) == 0
    return rows / rows.sum(1, keepdim=True)


@given(probabilities())
def test_inception_score_lies_between_1_and_the_number_of_classes(p: Tensor) -> None:
    """1 <= IS <= classes, and not above the number of examples either."""
    assert 1 - 1e-12 <= float(inception_score(p)) <= min(p.shape) * (1 + 1e-12)


@given(st.integers(1, 10), st.integers(1, 4))
def test_inception_score_of_certain_and_balanced_examples_is_the_number_of_classes(classes: int, copies: int) -> None:
    """Every class equally often, each time for sure: IS = classes; all the same: IS = 1."""
    certain = torch.eye(classes, dtype=torch.float64).repeat(copies, 1)
    assert float(inception_score(certain)) == pytest.approx(classes, rel=1e-12)
    assert float(inception_score(certain[:1].expand(5, -1))) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_inception_score_is_finite_at_the_bottom_of_the_dtype(dtype: torch.dtype) -> None:
    """Of p's smallest number the mean over examples is 0: no log 0."""
    p = torch.tensor([[1.0, 0.0]] * 5, dtype=dtype)
    p[0, 1] = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert float(p[0, 1]) > 0
    assert float(inception_score(p)) == pytest.approx(1, abs=1e-2)


@given(probabilities(), st.integers(1, 4), seeds)
def test_inception_score_sees_no_order_and_no_copies(p: Tensor, copies: int, seed: int) -> None:
    """Examples and classes in another order, and each example several times: the same score."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(n, generator=generator) for n in p.shape)
    other = p[rows][:, columns].repeat(copies, 1)
    torch.testing.assert_close(inception_score(other), inception_score(p), rtol=1e-11, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inception_score_forgives_the_rounding_of_its_dtype_and_no_more(dtype: torch.dtype) -> None:
    """|sum - 1| <= 100 eps."""
    eps = torch.finfo(dtype).eps
    parts = torch.tensor([[0.5, 0.5]], dtype=dtype)
    far = 0.5 + torch.tensor([50, 51]) * eps  # half of 1 + 100 eps, exactly a number of each dtype; half of 1 + 102 eps
    assert float(inception_score(torch.stack([far[0], far[0]]).to(dtype)[None])) == pytest.approx(1, rel=200 * eps)
    with pytest.raises(ValueError, match="sum 1"):
        inception_score(torch.stack([far[1], far[0]]).to(dtype)[None])
    assert float(inception_score(parts)) == 1


@given(pairs)
def test_kernel_distance_is_symmetric(pair: list[Tensor]) -> None:
    """KD(a, b) = KD(b, a)."""
    torch.testing.assert_close(kernel_distance(*pair), kernel_distance(pair[1], pair[0]), rtol=1e-9, atol=1e-9)


@given(pairs, seeds)
def test_kernel_distance_does_not_see_rotations(pair: list[Tensor], seed: int) -> None:
    """k(Q x, Q y) = k(x, y) for orthogonal Q; moving both sets does change it."""
    q = rotation(pair[0].shape[1], seed)
    turned = kernel_distance(pair[0] @ q, pair[1] @ q)
    torch.testing.assert_close(turned, kernel_distance(*pair), rtol=1e-8, atol=1e-8)


@given(feature_sets(1))
def test_kernel_distance_is_unbiased(sets: list[Tensor]) -> None:
    """Drawn from one set, all disjoint pairs of pairs have mean 0."""
    x = sets[0][:5]
    total = torch.zeros((), dtype=torch.float64)
    for a in itertools.combinations(range(len(x)), 2):
        rest = [j for j in range(len(x)) if j not in a]
        for b in itertools.combinations(rest, 2):
            total += kernel_distance(x[list(a)], x[list(b)])
    scale = float((x @ x.T / x.shape[1] + 1).abs().max() ** 3)
    assert float(total.abs()) < 1e-11 * scale


@given(feature_sets(1), st.floats(0.1, 5.0))
def test_kernel_distance_grows_with_the_third_power_of_a_shift(sets: list[Tensor], shift: float) -> None:
    """Two points at 0 against two at v: 1 + (v . v / d + 1)^3 - 2."""
    zero = torch.zeros(2, sets[0].shape[1], dtype=torch.float64)
    expected = (shift**2 + 1) ** 3 - 1
    assert float(kernel_distance(zero, zero + shift)) == pytest.approx(expected, rel=1e-12)


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
    with pytest.raises(ValueError, match="fake"):
        kernel_distance(real, fake * bad)
    with pytest.raises(ValueError, match="two examples in real"):
        kernel_distance(real[:1], fake)
    p = torch.full((3, 4), 0.25, dtype=torch.float64)
    with pytest.raises(ValueError, match="at least one example in p"):
        inception_score(p[:0])
    for wrong in (p * bad, p * 1.001, p - torch.tensor([0.5, -0.5, 0, 0], dtype=torch.float64)):
        with pytest.raises(ValueError, match="p >= 0 with sum 1"):
            inception_score(wrong)
