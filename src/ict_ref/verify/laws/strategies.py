"""The inputs of the laws, as Hypothesis strategies; laws name them as `some.images`, `some.grids`.

Values are few and simple where possible, so that a shrunk counterexample is readable. Numbers near 0 are 0 or not below
a millionth: relative tolerances mean nothing for subnormal numbers. Inputs that belong together (the images of one
example and its levels, a grid and the intervals on it) are drawn from a shared shape, grid or length.
"""

import math
from typing import Any

import hypothesis.strategies as st
import torch
from hypothesis.strategies import SearchStrategy
from torch import Tensor

from ict_ref.formulas import sigma_grid


def decimals(low: float, high: float, digits: int = 6) -> SearchStrategy[float]:
    """Return numbers of few decimal digits between two numbers of few decimal digits."""
    return st.floats(low, high, allow_subnormal=False).map(lambda value: round(value, digits) + 0.0)


def _vector(values: Any) -> Tensor:  # Any: a run-time type checker would sample a list at random while Hypothesis draws
    return torch.tensor(values, dtype=torch.float64)


def vectors(elements: SearchStrategy[float], most: int) -> SearchStrategy[Tensor]:
    """Return vectors of one to `most` elements."""
    return st.lists(elements, min_size=1, max_size=most).map(_vector)


# numbers
seeds = st.integers(0, 2**32 - 1)
small_integers = st.integers(1, 7)
neighbours = st.integers(1, 3)
positions = st.integers(0, 1000)
dimensions = st.integers(1, 10**9)
factors = st.floats(0.01, 100.0)
fractions = decimals(0.0, 1.0)
huber_constants = st.floats(1e-3, 10.0)
decays = decimals(0.0, 0.999)
points = decimals(-3.0, 3.0)
means = decimals(-2.0, 2.0)
stds = st.floats(0.1, 2.0)
angles = st.floats(1e-3, 3.0)
patches = st.integers(2, 3)
sigma_datas = st.floats(0.05, 5.0)

# the grid, its probabilities and its densities
sigma_mins = st.floats(1e-4, 0.1)
sigma_maxs = st.floats(1.0, 1e3)
rhos = st.floats(0.5, 12.0)
rhos_from_1 = st.floats(1.0, 12.0)
# The paper's last grids show the limits of floating point.
level_counts = st.one_of(st.integers(2, 30), st.sampled_from([321, 1281]))
level_counts_from_3 = st.one_of(st.integers(3, 30), st.sampled_from([321, 1281]))


def _grids(counts: SearchStrategy[int]) -> SearchStrategy[Tensor]:
    rho = st.sampled_from([7.0, 1.0, 3.5])
    return st.builds(sigma_grid, counts, sigma_min=sigma_mins, sigma_max=sigma_maxs, rho=rho)


grids = st.shared(_grids(level_counts), key="grid")
grids_of_3_or_more = _grids(st.one_of(st.integers(3, 30), st.sampled_from([321, 1281])))
p_means = decimals(-2.0, 2.0)
p_stds = st.floats(0.5, 4.0)
offsets = vectors(st.floats(0.01, 0.5), 8).map(lambda gaps: gaps.cumsum(0))
log_sigmas = vectors(decimals(-12.0, 9.0), 8)
inner_log_sigmas = vectors(decimals(-6.0, 4.0), 8)
log_offsets = vectors(decimals(0.0, 4.0), 8)
# 0 and 1 are the ends of a range, at which rounding decides.
positions_about_a_range = vectors(st.one_of(decimals(0.001, 0.999), decimals(-1.0, -0.001), decimals(1.001, 2.0)), 8)
uniforms = vectors(st.integers(0, 2**20 - 1).map(lambda k: k / 2**20), 12)  # all of them are numbers of float32


def _normalised(parts: Any) -> Tensor:
    values = _vector(parts)
    return values / values.sum()


def _with_one(parts: Any, position: int) -> Any:
    """Return the parts with a 1 at one position."""
    return [max(part, int(j == position % len(parts))) for j, part in enumerate(parts)]


def _with_two(parts: Any, position: int, distance: int) -> Any:
    """Return two parts or more, two of them not 0, so that one ends between 0 and 1."""
    other = position + 1 + distance % (len(parts) - 1)
    return _with_one(_with_one(parts, position), other)


def _parts(least: int) -> SearchStrategy[Any]:
    return st.lists(st.integers(0, 5), min_size=least, max_size=12)


pmfs = st.builds(_with_one, _parts(1), positions).map(_normalised)
pmfs_with_inner_ends = st.builds(_with_two, _parts(2), positions, positions).map(_normalised)

# curricula: from s0 levels (or intervals) to s1 + 1 in K steps, enough for an exponential curriculum
first_numbers = st.shared(st.integers(2, 40), key="s0")  # one level is not a grid
last_numbers = st.shared(first_numbers.flatmap(lambda s0: st.integers(s0, s0 + 500)), key="s1")


def _least_steps(s0: int, s1: int, more: int) -> int:
    return math.ceil(math.log2(s1 // s0) + 1) + more


lengths = st.shared(st.builds(_least_steps, first_numbers, last_numbers, st.integers(0, 100)), key="K")
steps = lengths.flatmap(lambda total_steps: st.integers(0, total_steps))
s0s = st.integers(1, 40)
doublings = st.integers(0, 10)
k_primes = st.integers(1, 100)
steps_beyond = st.integers(1, 50)
mu0s = st.floats(1e-3, 0.999)

# images and their noise levels
# Only vectors test examples without axes: an implementation that rejects them should not break every law.
shapes = st.shared(st.sampled_from([(1, 2), (2, 3), (2, 1), (2, 2, 2), (1, 3, 2, 2)]), key="shape")
scales = st.shared(st.sampled_from([1.0, 1e-3, 100.0]), key="scale")
# One byte for each value: a list of floats takes Hypothesis ten times as long. Hypothesis reduces bytes towards 0, so
# the first values are the simplest.
_SIMPLE = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5, 0.001, -0.001, 0.999, 1.001, -0.999)
_VALUES = torch.tensor([*_SIMPLE, *(round(-3 + 6 * k / 241, 3) for k in range(242))], dtype=torch.float64)


def _images(of: Any) -> SearchStrategy[Tensor]:
    shape, scale = of
    count = math.prod(shape)

    def image(drawn: bytes) -> Tensor:
        values: Tensor = scale * _VALUES[list(drawn)].reshape(shape)
        return values

    return st.binary(min_size=count, max_size=count).map(image)


images = st.tuples(shapes, scales).flatmap(_images)


def per_example(elements: SearchStrategy[float]) -> SearchStrategy[Tensor]:
    """Return a vector with one element for each example of the images."""
    return shapes.flatmap(lambda shape: st.lists(elements, min_size=shape[0], max_size=shape[0]).map(_vector))


noise_levels = per_example(st.one_of(st.floats(0.002, 80.0), st.sampled_from([0.002, 80.0])))
upper_levels = per_example(st.floats(0.01, 80.0))


def _intervals(of: Any) -> SearchStrategy[Tensor]:
    grid, shape = of
    values = st.lists(st.integers(0, len(grid) - 2), min_size=shape[0], max_size=shape[0])
    return values.map(lambda drawn: torch.tensor(drawn))


intervals = st.tuples(grids, shapes).flatmap(_intervals)
descending_levels = st.lists(decimals(0.002, 79.0, 3), max_size=4, unique=True).map(
    lambda inner: _vector([80.0, *sorted(inner, reverse=True)])
)

# embeddings
c_noises = vectors(decimals(-5.0, 5.0), 4)
frequencies = vectors(decimals(-40.0, 40.0), 6)
max_periods = st.floats(2.0, 1e5)
half_widths = st.integers(1, 16)

# sets of features, and classifications
feature_counts = st.shared(st.integers(1, 4), key="features")


def _features(count: int, features: int, seed: int) -> Tensor:
    """Return distinct examples."""
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


feature_sets = st.builds(_features, st.integers(5, 9), feature_counts, seeds)


@st.composite
def _class_probabilities(draw: Any) -> Any:
    classes = draw(st.integers(1, 4))
    parts = draw(st.lists(st.integers(0, 5), min_size=classes, max_size=6 * classes))
    rows = _vector(parts[: len(parts) // classes * classes]).reshape(-1, classes)
    rows[:, 0] += rows.sum(1) == 0
    return rows / rows.sum(1, keepdim=True)


class_probabilities = _class_probabilities()
