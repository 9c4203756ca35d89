"""Laws of sampling in one step and in several."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

from ict_ref.formulas import multistep_sample, one_step_sample, renoise, search_intermediate_sigma
from properties.law_of import law_of
from properties.strategies import grids, tensor_lists

sigma_min = 0.002
descending = st.lists(st.floats(sigma_min, 79.0), max_size=5, unique=True).map(
    lambda inner: torch.tensor([80.0, *sorted(inner, reverse=True)], dtype=torch.float64)
)


class Gaussian:
    """f*(x, sigma) = m + sqrt((s^2 + sigma_min^2) / (s^2 + sigma^2)) (x - m); linear in x, and it counts its calls."""

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.variance, self.calls = mean, deviation**2, 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return f*(x, sigma)."""
        self.calls += 1
        gain = ((self.variance + sigma_min**2) / (self.variance + sigma**2)).sqrt()
        return self.mean + gain.reshape(-1, *(1 for _ in x.shape[1:])) * (x - self.mean)


@law_of("one_step_sample")
@given(tensor_lists(1), st.floats(1.0, 1e3))
def test_one_step_sample_is_multistep_of_one_level(noises: list[Tensor], sigma_max: float) -> None:
    """One level is one step."""
    f = Gaussian(0.3, 0.5)
    level = torch.tensor([sigma_max], dtype=torch.float64)
    assert torch.equal(one_step_sample(f, noises[0], sigma_max=sigma_max), multistep_sample(f, noises[0][None], level))


@law_of("one_step_sample", "multistep_sample")
@given(descending, st.sampled_from([0.0, 0.001, -1.0, float("nan"), float("inf")]))
def test_samplers_refuse_levels_outside_their_domain(levels: Tensor, bad: float) -> None:
    """Levels descend from sigma_max and stay at or above sigma_min."""
    f = Gaussian(0.0, 1.0)
    spoiled = torch.cat([levels, torch.tensor([bad], dtype=torch.float64)])
    with pytest.raises(ValueError, match="sigma"):
        multistep_sample(f, torch.zeros(len(spoiled), 2), spoiled)
    with pytest.raises(ValueError, match="descend"):
        multistep_sample(f, torch.zeros(len(levels) + 1, 2), torch.cat([levels, levels[-1:]]))
    if not bad > 0.001:
        with pytest.raises(ValueError, match="sigma"):
            one_step_sample(f, torch.zeros(2), sigma_max=bad if bad != 0.001 else -bad)


@law_of("renoise")
@given(tensor_lists(2), st.floats(0.002, 100.0), st.floats(0.1, 10.0))
def test_renoise_scales_with_the_units(pair: list[Tensor], sigma: float, a: float) -> None:
    """renoise(a x, z; a sigma, a sigma_min) = a renoise(x, z; sigma, sigma_min)."""
    x, z = pair
    torch.testing.assert_close(
        renoise(a * x, z, sigma=a * sigma, sigma_min=a * sigma_min),
        a * renoise(x, z, sigma=sigma, sigma_min=sigma_min),
        rtol=1e-6,
        atol=1e-6 * sigma * a,
    )


@law_of("renoise")
@given(st.floats(0.0020001, 0.01), st.sampled_from([torch.float32, torch.bfloat16]))
def test_renoise_looks_levels_up_in_float64(sigma: float, dtype: torch.dtype) -> None:
    """Near sigma_min the deviation is right to the last digit of the dtype: sigma is not rounded before the root."""
    one = torch.ones(1, dtype=dtype)
    expected = math.sqrt(sigma - sigma_min) * math.sqrt(sigma + sigma_min)
    assert float(renoise(0 * one, one, sigma=sigma)) == pytest.approx(expected, rel=2 * torch.finfo(dtype).eps)


@law_of("renoise")
@given(tensor_lists(2), st.floats(0.01, 100.0), st.sampled_from([0.0, 0.001, -1.0, float("nan"), float("inf")]))
def test_renoise_refuses_levels_below_sigma_min(pair: list[Tensor], sigma: float, bad: float) -> None:
    """Needs 0 < sigma_min <= sigma < infinity: for less noise the root is not real."""
    with pytest.raises(ValueError, match="sigma = "):
        renoise(*pair, sigma=bad)
    if bad != 0.001:
        with pytest.raises(ValueError, match="sigma_min"):
            renoise(*pair, sigma=sigma, sigma_min=bad)


class Valley:
    """A score that falls down to one level and rises from it, as steeply as it likes; it remembers what it scored."""

    def __init__(self, bottom: float, left: float, right: float, position: int = 0) -> None:
        self.bottom, self.left, self.right, self.position = bottom, left, right, position
        self.seen: list[list[float]] = []

    def __call__(self, levels: Tensor) -> float:
        """Return the score of these levels."""
        self.seen.append(levels.tolist())
        away = math.log(float(levels[self.position]) / self.bottom)
        return self.left * -away if away < 0 else self.right * away


steepness = st.floats(0.01, 100.0)


@law_of("search_intermediate_sigma")
@given(grids(), st.data())
def test_search_intermediate_sigma_stays_between_its_neighbours(grid: Tensor, data: st.DataObject) -> None:
    """Every list that is scored descends through before, a node strictly between, and after."""
    assume(len(grid) >= 3)
    nodes = grid.tolist()
    low = data.draw(st.integers(0, len(grid) - 3))
    high = data.draw(st.integers(low + 2, len(grid) - 1))
    before, after = (2 * nodes[-1], nodes[high]), (nodes[low],)
    valley = Valley(data.draw(st.sampled_from(nodes)), 1.0, 1.0, position=2)
    found = search_intermediate_sigma(valley, grid, before=before, after=after)
    assert found == min(nodes[low + 1 : high], key=lambda sigma: abs(math.log(sigma / valley.bottom)))
    for levels in valley.seen:
        assert levels == sorted(levels, reverse=True)
        assert (levels[0], levels[1], levels[3]) == (*before, *after)
        assert levels[2] in nodes


@law_of("search_intermediate_sigma")
@given(grids(), st.data())
def test_search_intermediate_sigma_takes_scores_as_they_are(grid: Tensor, data: st.DataObject) -> None:
    """Differences of the last digit of float64, infinite scores, and a score that keeps the lists that it was given."""
    bottom, kept = float(grid[data.draw(st.integers(0, len(grid) - 1))]), []

    def score(levels: Tensor) -> float:
        kept.append(levels)
        away = abs(grid.tolist().index(float(levels[0])) - grid.tolist().index(bottom))
        return 1 + 1e-14 * away if away < 100 else math.inf

    assume(len(grid) < 100)
    assert search_intermediate_sigma(score, grid) == bottom
    assert len({float(levels[0]) for levels in kept}) == len(kept)


@law_of("search_intermediate_sigma")
@pytest.mark.parametrize("bottom", range(4))
def test_search_intermediate_sigma_scores_three_levels_of_four(bottom: int) -> None:
    """The inner two, and the end on the lower one's side."""
    nodes = [0.1, 0.2, 0.4, 0.8]
    valley = Valley(nodes[bottom], 1.0, 1.0)
    assert search_intermediate_sigma(valley, torch.tensor(nodes, dtype=torch.float64)) == nodes[bottom]
    assert [levels[0] for levels in valley.seen] == [0.2, 0.4, 0.1 if bottom < 2 else 0.8]


@law_of("search_intermediate_sigma")
@given(grids(), st.sampled_from([(1.0, 2.0), (float("nan"),), (-1.0,), (0.0,), (1e-9,), (5.0, 5.0)]))
def test_search_intermediate_sigma_refuses_what_leaves_no_level(grid: Tensor, bad: tuple[float, ...]) -> None:
    """before and after descend, are positive, and leave a node between them; a score is a number."""
    with pytest.raises(ValueError, match="before"):
        search_intermediate_sigma(Valley(1.0, 1.0, 1.0), grid, before=bad)
    if bad != (1e-9,):
        with pytest.raises(ValueError, match="after"):
            search_intermediate_sigma(Valley(1.0, 1.0, 1.0), grid, after=bad)
    with pytest.raises(ValueError, match="NaN"):
        search_intermediate_sigma(lambda _: float("nan"), grid)
