"""The strategies of the laws: noise levels, grids, probabilities, tensors of every rank."""

import hypothesis.strategies as st
import torch
from torch import Tensor

from ict_ref.formulas import sigma_grid

seeds = st.integers(0, 2**32 - 1)
sigma_mins = st.floats(1e-4, 0.1)
sigma_maxs = st.floats(1.0, 1e3)
sigma_datas = st.floats(0.05, 5.0)
rhos = st.floats(0.5, 12.0)
counts = st.integers(2, 300)
dtypes = st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16])
# Zero event axes, one value, vectors and images; a batch of one.
event_shapes = st.sampled_from([(), (1,), (7,), (3, 4), (3, 4, 4)])
batch_sizes = st.integers(1, 5)


@st.composite
def grids(draw: st.DrawFn) -> Tensor:
    """Grids of the paper's form, for any ends, number and curvature."""
    return sigma_grid(draw(counts), sigma_min=draw(sigma_mins), sigma_max=draw(sigma_maxs), rho=draw(rhos))


@st.composite
def noise_levels(draw: st.DrawFn) -> Tensor:
    """A few noise levels in [0.002, 80], the ends among them, in float64."""
    inner = draw(st.lists(st.floats(0.002, 80.0), max_size=6))
    return torch.tensor([0.002, *inner, 80.0], dtype=torch.float64)


def levels_of(batch: int) -> st.SearchStrategy[Tensor]:
    """One noise level in [0.002, 80] for each example, in float64."""
    one = st.one_of(st.floats(0.002, 80.0), st.sampled_from([0.002, 80.0]))
    return st.lists(one, min_size=batch, max_size=batch).map(lambda s: torch.tensor(s, dtype=torch.float64))


@st.composite
def pmfs(draw: st.DrawFn) -> Tensor:
    """Probabilities of up to 20 intervals, some of them 0."""
    parts = draw(st.lists(st.integers(0, 5), min_size=1, max_size=20).filter(any))
    return torch.tensor(parts, dtype=torch.float64) / sum(parts)


@st.composite
def tensor_lists(draw: st.DrawFn, number: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """This many tensors of one shape [batch, *event], of magnitudes from a thousandth to a hundred."""
    shape = (draw(batch_sizes), *draw(event_shapes))
    generator = torch.Generator().manual_seed(draw(seeds))
    scale = draw(st.sampled_from([1e-3, 1.0, 100.0]))
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for _ in range(number)]


@st.composite
def feature_sets(draw: st.DrawFn, number: int) -> list[Tensor]:
    """This many sets of feature vectors of one dimension, sometimes fewer vectors than dimensions."""
    dimension = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(seeds))
    sizes = [draw(st.integers(5, 12)) for _ in range(number)]
    return [torch.randn(size, dimension, generator=generator, dtype=torch.float64) for size in sizes]


def rotation(dimension: int, seed: int) -> Tensor:
    """Return a random orthogonal matrix."""
    generator = torch.Generator().manual_seed(seed)
    q: Tensor = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64))[0]
    return q
