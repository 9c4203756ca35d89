"""Laws of the statistics that compare two sets of examples."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor

from ict_ref.formulas import frechet_distance, inception_score, kernel_distance, precision_recall
from properties.law_of import law_of
from properties.strategies import feature_sets


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and covariance."""
    return x.mean(0), x.T.cov().reshape(x.shape[1], x.shape[1])


pairs = feature_sets(2)


@law_of("frechet_distance")
@given(feature_sets(1), st.floats(0.01, 100.0))
def test_frechet_distance_is_not_negative_in_float32(sets: list[Tensor], scale: float) -> None:
    """FD(p, p) >= 0 where rounding would have it below."""
    mean, covariance = (moment.float() for moment in moments(scale * sets[0]))
    assert float(frechet_distance(mean, covariance, mean, covariance)) >= 0


@law_of("precision_recall")
@given(st.floats(1e2, 1e4), st.integers(30, 60))
def test_precision_recall_resolves_small_distances_far_from_the_origin(offset: float, count: int) -> None:
    """Points a millionth apart are distinguished, wherever they lie."""
    line = torch.zeros(count, 2, dtype=torch.float64)
    line[:, 0] = torch.arange(count) * 1e-6
    beside, above = line + torch.tensor([0.4e-6, 0.0]), line + torch.tensor([0.0, 3e-6])
    assert tuple(map(float, precision_recall(line + offset, beside + offset, k=1))) == (1.0, 1.0)
    assert tuple(map(float, precision_recall(line + offset, above + offset, k=1))) == (0.0, 0.0)


@law_of("frechet_distance")
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


@law_of("inception_score")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_inception_score_is_finite_at_the_bottom_of_the_dtype(dtype: torch.dtype) -> None:
    """The mean over examples of p's smallest number is 0: no log 0."""
    p = torch.tensor([[1.0, 0.0]] * 5, dtype=dtype)
    p[0, 1] = torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    assert float(p[0, 1]) > 0
    assert float(inception_score(p)) == pytest.approx(1, abs=1e-2)


@law_of("inception_score")
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


@law_of("kernel_distance")
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


@law_of("frechet_distance", "precision_recall", "inception_score", "kernel_distance")
@given(pairs, st.sampled_from([float("nan"), float("inf")]))
def test_statistics_refuse_what_is_outside_their_domain(pair: list[Tensor], bad: float) -> None:
    """Finite features, symmetric covariances without negative eigenvalues, more examples than neighbours."""
    real, fake = pair
    mean, covariance = moments(real)
    with pytest.raises(ValueError, match="mean1"):
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
