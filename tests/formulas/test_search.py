"""CM's greedy ternary search for one more noise level.

Oracle: brute force over every candidate, with the evaluations counted.
Ingredients: sigma_grid.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from ict_ref.formulas import search_intermediate_sigma, sigma_grid


def levels(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


class Recorder:
    """An objective that looks up its value by the candidate level and records every list of levels that it gets."""

    def __init__(self, values: dict[float, float], position: int = 0) -> None:
        self.values, self.position, self.calls = values, position, list[Tensor]()

    def __call__(self, given: Tensor) -> float:
        self.calls.append(given.clone())
        return self.values[float(given[self.position])]

    @property
    def candidates(self) -> list[float]:
        return [float(given[self.position]) for given in self.calls]


def most_evaluations(candidates: int) -> int:
    """Two per step that keeps two thirds, and at most three at the end; never more than there are candidates."""
    return min(candidates, 2 * math.ceil(math.log(candidates, 1.5)) + 4) if candidates > 1 else 1


def valley(rng: np.random.Generator, size: int, lowest: int) -> list[float]:
    """Random heights, strictly falling to `lowest` and strictly rising after it, steep or flat."""
    scale = 10.0 ** rng.uniform(-6, 6, size=2)
    left = np.cumsum((rng.exponential(size=lowest) ** rng.uniform(0.5, 4.0) + 1e-3) * scale[0])[::-1]
    right = np.cumsum((rng.exponential(size=size - 1 - lowest) ** rng.uniform(0.5, 4.0) + 1e-3) * scale[1])
    return [float(v) for v in [*left, 0.0, *right]]


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 7, 8, 9, 13, 28])
def test_every_place_of_the_valley_is_found_on_small_grids(size: int) -> None:
    rng = np.random.default_rng(size)
    grid = np.sort(rng.uniform(0.002, 80.0, size=size))
    for lowest in range(size):
        for _ in range(6):
            heights = valley(rng, size, lowest)
            score = Recorder(dict(zip(grid.tolist(), heights, strict=True)))
            found = search_intermediate_sigma(score, levels(grid))
            assert found == grid[lowest]
            assert len(score.calls) <= most_evaluations(size)
            assert len(set(score.candidates)) == len(score.calls)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_every_place_of_the_valley_is_found_among_few_candidates_of_a_long_grid(count: int) -> None:
    rng = np.random.default_rng(100 + count)
    nodes = [float(s) for s in sigma_grid(41)]
    for first in range(1, 40 - count):
        inside = nodes[first : first + count]
        before, after = (80.0, nodes[first + count]), (nodes[first - 1],)
        for lowest in range(count):
            score = Recorder(dict(zip(inside, valley(rng, count, lowest), strict=True)), 2)
            assert search_intermediate_sigma(score, levels(nodes), before=before, after=after) == inside[lowest]
            assert len(set(score.candidates)) == len(score.calls) <= count


def test_random_valleys_on_random_grids_are_found_with_few_evaluations_and_none_twice() -> None:
    rng = np.random.default_rng(0)
    for trial in range(150):
        size = int(rng.integers(30, 1500))
        grid = np.cumsum(rng.exponential(size=size) + 1e-6)
        lowest = [0, size - 1, int(rng.integers(size))][trial % 3] if trial < 45 else int(rng.integers(size))
        heights = valley(rng, size, lowest)
        score = Recorder(dict(zip(grid.tolist(), heights, strict=True)))
        found = search_intermediate_sigma(score, levels(grid))
        assert isinstance(found, float)
        assert found == grid[int(np.argmin(heights))]
        assert len(score.calls) <= most_evaluations(size)
        assert len(set(score.candidates)) == len(score.calls)


@pytest.mark.parametrize("before_count", [0, 1, 2])
@pytest.mark.parametrize("after_count", [0, 1, 2])
def test_candidates_lie_strictly_between_the_levels_before_and_after(before_count: int, after_count: int) -> None:
    rng = np.random.default_rng(10 * before_count + after_count)
    for trial in range(36):
        grid = np.cumsum(rng.exponential(size=int(rng.integers(20, 120))) + 1e-3)
        on_grid = trial % 2 == 0
        places = np.sort(rng.choice(np.arange(1, len(grid) - 1), size=before_count + after_count + 2, replace=False))
        shift = 0.0 if on_grid else float(np.diff(grid).min()) / 2
        fixed = [float(grid[k]) + shift for k in places[::-1]]
        before = tuple(fixed[:before_count])
        after = tuple(fixed[len(fixed) - after_count :])
        inside = [s for s in grid.tolist() if (not before or s < before[-1]) and (not after or s > after[0])]
        lowest = [0, len(inside) - 1, int(rng.integers(len(inside)))][trial % 3]
        score = Recorder(dict(zip(inside, valley(rng, len(inside), lowest), strict=True)), before_count)
        found = search_intermediate_sigma(score, levels(grid), before=before, after=after)
        assert found == inside[lowest]
        assert len(score.calls) <= most_evaluations(len(inside))
        assert len(set(score.candidates)) == len(score.calls)


def test_score_gets_the_whole_descending_list_as_float64_with_a_node_of_the_grid_in_its_place() -> None:
    grid = sigma_grid(101)
    before, after = (80.0, 24.0), (0.9, 0.05, 0.002)
    seen: list[Tensor] = []

    def score(given: Tensor) -> float:
        seen.append(given.clone())
        return abs(math.log(float(given[2]) / 3.0))

    found = search_intermediate_sigma(score, grid, before=before, after=after)
    assert found in grid.tolist()
    assert seen
    for given in seen:
        assert given.dtype == torch.float64
        assert given.shape == (6,)
        assert given[:2].tolist() == list(before)
        assert given[3:].tolist() == list(after)
        assert bool((given[1:] < given[:-1]).all())
        assert float(given[2]) in grid.tolist()


@pytest.mark.parametrize(("level", "node"), [(0.821, 493), (1.526, 572), (0.661, 467), (0.973, 514)])
def test_the_papers_two_step_levels_are_nodes_of_its_grid_of_1281_levels(level: float, node: int) -> None:
    grid = sigma_grid(1281)
    nodes = grid.tolist()
    calls: list[float] = []

    def score(given: Tensor) -> float:
        calls.append(float(given[1]))
        return 2.46 + (math.log(float(given[1])) - math.log(level)) ** 2

    found = search_intermediate_sigma(score, grid, before=(80.0,))
    assert found == nodes[node - 1] == min(nodes[:-1], key=lambda s: abs(math.log(s / level)))
    assert round(found, 3) == level
    assert len(calls) == len(set(calls)) <= 42
    assert max(calls) < 80.0


@pytest.mark.parametrize(
    "shape",
    [
        lambda u: u**2,
        abs,
        lambda u: math.exp(5 * u) - 5 * u,
        lambda u: math.log1p(1e6 * abs(u)),
        lambda u: u,
        lambda u: -u,
    ],
    ids=["parabola", "kink", "lopsided", "needle", "rising", "falling"],
)
def test_valleys_of_many_shapes_agree_with_brute_force_on_the_papers_grid(shape: Callable[[float], float]) -> None:
    grid = sigma_grid(1281)
    for centre in (0.003, 0.02, 0.8213, 7.0, 79.0):

        def score(given: Tensor, centre: float = centre) -> float:
            return float(shape(math.log(float(given[0]) / centre)))

        brute = min(score(s.reshape(1)) for s in grid)
        found = search_intermediate_sigma(score, grid)
        assert found in grid.tolist()
        assert score(levels([found])) == brute


def test_levels_added_greedily_one_after_the_other_stay_in_order() -> None:
    grid = sigma_grid(321)
    chosen: tuple[float, ...] = (80.0,)
    for aim in (9.0, 1.1, 0.2):

        def score(given: Tensor, aim: float = aim) -> float:
            return (math.log(float(given[-1])) - math.log(aim)) ** 2

        found = search_intermediate_sigma(score, grid, before=chosen)
        inside = [s for s in grid.tolist() if s < chosen[-1]]
        misses = [(math.log(s) - math.log(aim)) ** 2 for s in inside]
        assert found == inside[misses.index(min(misses))]
        chosen = (*chosen, found)
    assert list(chosen) == sorted(chosen, reverse=True)


def test_two_equal_lowest_neighbours_give_one_of_the_two() -> None:
    grid = levels(np.arange(1.0, 41.0))
    for left in range(1, 40):

        def score(given: Tensor, left: int = left) -> float:
            return abs(float(given[0]) - left - 0.5)

        found = search_intermediate_sigma(score, grid)
        assert found in (left, left + 1)


# ------------------------------------------------------------------ outside the domain


def height(given: Tensor) -> float:
    return float(given.sum())


@pytest.mark.parametrize(
    "grid", [[1.0, 3.0, 2.0], [3.0, 2.0, 1.0], [1.0, 2.0, 2.0], [1.0, float("nan"), 3.0], []],
    ids=["unordered", "descending", "repeated", "NaN", "empty"],
)  # fmt: skip
def test_a_grid_that_does_not_ascend_is_rejected(grid: list[float]) -> None:
    with pytest.raises(ValueError, match=r"grid|candidate|sigma"):
        search_intermediate_sigma(height, levels(grid))


@pytest.mark.parametrize("wrong", [(2.0, 3.0), (3.0, 3.0)])
def test_levels_before_or_after_that_do_not_descend_are_rejected(wrong: tuple[float, ...]) -> None:
    grid = levels(np.linspace(0.5, 10.0, 20))
    with pytest.raises(ValueError, match="before"):
        search_intermediate_sigma(height, grid, before=wrong)
    with pytest.raises(ValueError, match="after"):
        search_intermediate_sigma(height, grid, after=wrong)


@pytest.mark.parametrize(
    ("before", "after"),
    [((1.0,), ()), ((), (4.0,)), ((2.5,), (2.0,)), ((3.0,), (2.0,)), ((2.0,), (3.0,)), ((0.1,), ())],
)
def test_an_empty_gap_between_before_and_after_is_rejected(before: tuple[float, ...], after: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"candidate|before|after|grid"):
        search_intermediate_sigma(height, levels([1.0, 2.0, 3.0, 4.0]), before=before, after=after)


@pytest.mark.parametrize("size", [2, 3, 50])
def test_a_score_that_is_nan_is_rejected(size: int) -> None:
    with pytest.raises(ValueError, match="objective"):
        search_intermediate_sigma(lambda given: math.nan, levels(np.arange(1.0, size + 1.0)))


@pytest.mark.parametrize("broken", [1.0, 2.0])
def test_a_score_that_is_nan_at_one_of_two_candidates_is_rejected(broken: float) -> None:
    with pytest.raises(ValueError, match="objective"):
        search_intermediate_sigma(lambda given: math.nan if float(given[0]) == broken else 1.0, levels([1.0, 2.0]))
