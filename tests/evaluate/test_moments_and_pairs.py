"""Moments by batches and all pairs by blocks: what the formulas say of everything at once.

Oracles: numpy; the formulas; prdc; torchmetrics.
"""

import contextlib
import io
import warnings

import numpy as np
import prdc
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.kid import KernelInceptionDistance

from ict_ref.data.dataset import digits
from ict_ref.evaluate import pairs
from ict_ref.evaluate.moments import Moments
from ict_ref.evaluate.pairs import Compared, compare
from ict_ref.formulas import kernel_distance, precision_recall


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_formulas(real: Tensor, fake: Tensor, k: int) -> Compared:
    precision, recall = precision_recall(real.double(), fake.double(), k=k)
    return Compared(float(kernel_distance(real.double(), fake.double())), float(precision), float(recall))


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "BLOCK", 7)


@pytest.mark.parametrize("cuts", [[50], [1, 1, 48], [20, 7, 23]])
def test_moments_do_not_depend_on_how_features_are_cut(cuts: list[int]) -> None:
    x = normal(50, 4, seed=0).double() @ normal(4, 4, seed=1).double() + 3
    moments = Moments(4)
    for batch in x.split(cuts):  # type: ignore[no-untyped-call]
        moments.add(batch)
    assert moments.count == 50
    np.testing.assert_allclose(moments.mean.numpy(), x.numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(moments.covariance().numpy(), np.cov(x.numpy().T), rtol=1e-12)


def test_moments_of_parts_are_those_of_all() -> None:
    x = normal(50, 4, seed=0).double() @ normal(4, 4, seed=1).double() + 3
    whole = Moments(4)
    for part in x.split([1, 30, 19]):  # type: ignore[no-untyped-call]
        moments = Moments(4)
        for batch in part.split(7):
            moments.add(batch)
        whole.merge(moments.cpu())
    assert whole.count == 50
    np.testing.assert_allclose(whole.mean.numpy(), x.numpy().mean(0), rtol=1e-13)
    np.testing.assert_allclose(whole.covariance().numpy(), np.cov(x.numpy().T), rtol=1e-12)


def test_a_small_variance_beside_a_large_mean_keeps_its_digits() -> None:
    # Of sums of squares, 1e16 times 3000, float64 has no digits left for a variance of 1.
    x = normal(3000, 2, seed=0).double() + 1e8
    moments = Moments(2)
    for batch in x.split(64):  # type: ignore[no-untyped-call]
        moments.add(batch)
    np.testing.assert_allclose(moments.covariance().numpy(), np.cov(x.numpy().T), rtol=1e-6, atol=1e-7)


def test_float32_features_are_summed_in_float64() -> None:
    x = normal(3000, 2, seed=0) + 100
    moments = Moments(2)
    for batch in x.split(64):  # type: ignore[no-untyped-call]
        moments.add(batch)
    np.testing.assert_allclose(moments.covariance().numpy(), np.cov(x.double().numpy().T), rtol=1e-11, atol=1e-12)


def test_one_image_has_no_covariance() -> None:
    moments = Moments(2)
    moments.add(torch.ones(1, 2))
    with pytest.raises(ValueError, match="at least 2 images, got 1"):
        moments.covariance()


@pytest.mark.parametrize(("reals", "fakes", "k"), [(20, 20, 1), (23, 12, 1), (7, 35, 5)])
@pytest.mark.usefixtures("small_blocks")
def test_pairs_by_block_agree_with_the_formulas(reals: int, fakes: int, k: int) -> None:
    real, fake = normal(reals, 3, seed=1), normal(fakes, 3, seed=2) + 1.2
    got, wanted = compare(real, fake, k=k), by_formulas(real, fake, k)
    assert got.kernel_distance == pytest.approx(wanted.kernel_distance, rel=1e-12)
    assert (got.precision, got.recall) == (wanted.precision, wanted.recall)
    assert 0 < got.precision < 1
    assert got.precision != got.recall


@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_largest_values_are_found_in_groups_and_in_what_is_left_over(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks of 41 columns: ten or more groups of 3 and a rest of 2; the last block is smaller than a group's bound.
    monkeypatch.setattr(pairs, "BLOCK", 41)
    monkeypatch.setattr(pairs, "GROUP", 3)
    real, fake = normal(100, 4, seed=1), normal(90, 4, seed=2) + 0.8
    got, wanted = compare(real, fake, k=k), by_formulas(real, fake, k)
    assert got.kernel_distance == pytest.approx(wanted.kernel_distance, rel=1e-12)
    assert (got.precision, got.recall) == (wanted.precision, wanted.recall)
    assert 0 < got.recall < 1


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_points_at_the_same_distance_are_within_reach(k: int) -> None:
    # On a lattice most distances are equal to others.
    points = torch.randint(0, 6, (60, 4), generator=torch.Generator().manual_seed(0)).float()
    got, wanted = compare(points[:40], points[15:], k=k), by_formulas(points[:40], points[15:], k)
    assert (got.precision, got.recall) == (wanted.precision, wanted.recall)
    assert 0 < got.recall < 1


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("k", [1, 2])
def test_a_point_that_is_there_several_times_reaches_itself_and_nothing_else(k: int) -> None:
    # ||x||^2 - 2 x . x + ||x||^2 is not 0 in floating point, but the distance is.
    three, others = 3 + normal(10, 33, seed=0), 3 + normal(10, 33, seed=1)
    got = compare(three.repeat(3, 1), torch.cat([three[:4], others]), k=k)
    assert got.precision == 4 / 14


def test_equal_distances_are_equal_whatever_their_rounding() -> None:
    # Multiples of 2^-23 between 1 and 2, exact in float32; their squares in 300 dimensions are not in float64. The same
    # differences in another order: each fake is as far from a real one as that one's nearest neighbour.
    generator = torch.Generator().manual_seed(0)
    centre = 2**23 + 2**21 + torch.randint(0, 2**22, (20, 300), generator=generator)
    shift = torch.randint(-(2**12), 2**12, (20, 300), generator=generator)
    real = torch.cat([centre, centre + shift]).float() / 2**23
    fake = torch.cat([centre + shift.flip(1), centre - shift.flip(1)]).float() / 2**23
    assert by_formulas(real, fake, 1).precision == compare(real, fake, k=1).precision == 1


def test_black_images_are_within_reach_of_black_images() -> None:
    # All distances are exactly 0, and so is the slack for rounding: 0 <= 0 (Kynkaanniemi et al. 2019, equation 1).
    black = torch.zeros(4, 2)
    assert compare(black, black, k=1) == Compared(kernel_distance=0.0, precision=1.0, recall=1.0)


def test_digits_that_are_in_both_sets_are_within_reach() -> None:
    images = digits().train.pixels[:300].reshape(300, -1) / 127.5 - 1
    real, fake = images[:200].float(), torch.cat([images[150:], images[190:200]]).float()
    got, wanted = compare(real, fake, k=3), by_formulas(real, fake, 3)
    assert (got.precision, got.recall) == (wanted.precision, wanted.recall)
    assert got.kernel_distance == pytest.approx(wanted.kernel_distance, rel=1e-10)


def test_pairs_are_those_of_independent_packages() -> None:
    real, fake = normal(200, 16, seed=3), normal(200, 16, seed=4) * 1.1 + 0.2
    got = compare(real, fake, k=4)
    with contextlib.redirect_stdout(io.StringIO()):
        peer = prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=4)
    assert (got.precision, got.recall) == (peer["precision"], peer["recall"])

    class AsTheyAre(nn.Module):
        num_features = 16

        def forward(self, x: Tensor) -> Tensor:
            return x

    # Torchmetrics warns that it keeps all. One subset of all images, in whatever order: all pairs at once.
    with warnings.catch_warnings(action="ignore"):
        kid = KernelInceptionDistance(feature=AsTheyAre(), subsets=1, subset_size=200)
    kid.set_dtype(torch.float64)
    kid.update(real.double(), real=True)
    kid.update(fake.double(), real=False)
    assert got.kernel_distance == pytest.approx(float(kid.compute()[0]), rel=1e-9)


@pytest.mark.usefixtures("small_blocks")
def test_progress_counts_every_pair_once() -> None:
    seen: list[int] = []
    compare(normal(20, 3, seed=0), normal(13, 3, seed=1), k=2, progress=seen.append)
    assert sum(seen) == pairs.pairs(20, 13) == 210 + 91 + 260
    assert max(seen) == 7 * 7


@pytest.mark.parametrize(
    ("reals", "fakes", "who"), [(3, 9, "images of the reference"), (9, 3, "images of the samples")]
)
def test_too_few_neighbours_are_refused(reals: int, fakes: int, who: str) -> None:
    with pytest.raises(ValueError, match=f"{who}.* k = 3"):
        compare(normal(reals, 2, seed=0), normal(fakes, 2, seed=1), k=3)
