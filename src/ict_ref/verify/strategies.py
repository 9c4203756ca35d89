"""The values of each symbol in a law: the only module of `ict_ref.verify` that needs Hypothesis.

One symbol has one meaning in all laws. Values are few and simple where possible, so that a shrunk counterexample is
readable.
"""

import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import torch
from torch import Tensor

from ict_ref.formulas import sigma_grid


class Drawn:
    """The values of the symbols of one example, each drawn at its first use."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.draw = draw
        self._values: dict[str, Any] = {}

    def __getitem__(self, symbol: str) -> Any:
        if symbol not in self._values:
            chosen = SYMBOLS[symbol]
            self._values[symbol] = chosen(self) if callable(chosen) else self.draw(chosen)
        return self._values[symbol]


@st.composite
def inputs(draw: Callable[..., Any], symbols: Any) -> Any:
    """Return a dict with a value for each of these symbols."""
    # Any: a type checker at run time samples containers at random, which Hypothesis forbids while it draws.
    drawn = Drawn(draw)
    return {symbol: drawn[symbol] for symbol in symbols}


def _vector(elements: st.SearchStrategy[float], most: int) -> st.SearchStrategy[Tensor]:
    return st.lists(elements, min_size=1, max_size=most).map(lambda v: torch.tensor(v, dtype=torch.float64))


def _per_example(elements: st.SearchStrategy[float]) -> Callable[[Drawn], Tensor]:
    def drawn(known: Drawn) -> Tensor:
        batch = known["shape"][0]
        return torch.tensor(known.draw(st.lists(elements, min_size=batch, max_size=batch)), dtype=torch.float64)

    return drawn


def _images(known: Drawn) -> Tensor:
    """Return values of the common shape of all images of this example."""
    count = math.prod(known["shape"])
    values = known.draw(st.lists(_numbers, min_size=count, max_size=count))
    scale: float = known["size"]
    return scale * torch.tensor(values, dtype=torch.float64).reshape(known["shape"])


def _features(known: Drawn) -> Tensor:
    """Return five to nine distinct examples with the common number of features."""
    count, generator = known.draw(st.integers(5, 9)), torch.Generator().manual_seed(known.draw(_seeds))
    return torch.randn(count, known["features"], generator=generator, dtype=torch.float64)


def _probabilities(known: Drawn) -> Tensor:
    classes = known.draw(st.integers(1, 4))
    parts = known.draw(st.lists(st.integers(0, 5), min_size=classes, max_size=6 * classes))
    rows = torch.tensor(parts[: len(parts) // classes * classes], dtype=torch.float64).reshape(-1, classes)
    rows[:, 0] += rows.sum(1) == 0
    return rows / rows.sum(1, keepdim=True)


def _grid(known: Drawn) -> Tensor:
    return sigma_grid(
        known.draw(_numbers_of_levels),
        sigma_min=known.draw(SYMBOLS["sigma_min"]),
        sigma_max=known.draw(SYMBOLS["sigma_max"]),
        rho=known.draw(st.sampled_from([7.0, 1.0, 3.5])),
    )


def _total_steps(known: Drawn) -> int:
    """Return K, large enough for an exponential curriculum from s0 to s1."""
    least = math.ceil(math.log2(known["s1"] // known["s0"]) + 1)
    return least + int(known.draw(st.integers(0, 100)))


# The paper's last grids show the limits of floating point.
_numbers_of_levels = st.one_of(st.integers(2, 30), st.sampled_from([321, 1281]))
_seeds = st.integers(0, 2**32 - 1)
_numbers = st.floats(-3.0, 3.0, allow_subnormal=False).map(lambda v: round(v, 3))
_levels = st.one_of(st.floats(0.002, 80.0), st.sampled_from([0.002, 80.0]))

SYMBOLS: dict[str, Any] = {
    # the grid, its probabilities and weights
    "n": _numbers_of_levels,
    "sigma_min": st.floats(1e-4, 0.1),
    "sigma_max": st.floats(1.0, 1e3),
    "rho": st.floats(0.5, 12.0),
    "sigmas": _grid,
    "p_mean": st.floats(-2.0, 2.0),
    "p_std": st.floats(0.5, 4.0),
    "offsets": _vector(st.floats(0.01, 0.5), 8).map(lambda gaps: gaps.cumsum(0)),
    "u": _vector(st.floats(0.0, 1.0, exclude_max=True), 12),
    "pmf": st.lists(st.integers(0, 5), min_size=1, max_size=12)
    .filter(any)
    .map(lambda parts: torch.tensor(parts, dtype=torch.float64) / sum(parts)),
    "log_sigma": _vector(st.floats(-12.0, 9.0), 8),
    "interval": st.integers(0, 1000),
    # curricula
    "s0": st.integers(1, 40),
    "s1": lambda known: known["s0"] + known.draw(st.integers(0, 500)),
    "total_steps": _total_steps,
    "step": lambda known: known.draw(st.integers(0, known["total_steps"])),
    "doublings": st.integers(0, 10),
    "k_prime": st.integers(1, 100),
    "beyond": st.integers(1, 50),
    "mu0": st.floats(1e-3, 0.999),
    # numbers
    "a": st.floats(0.01, 100.0),
    "m": st.integers(1, 7),
    "k": st.integers(1, 3),
    "fraction": st.floats(0.0, 1.0),
    "seed": _seeds,
    "dim": st.integers(1, 10**9),
    "c": st.floats(1e-3, 10.0),
    "decay": st.floats(0.0, 0.999),
    "theta": st.floats(-3.0, 3.0),
    "xi": st.floats(-3.0, 3.0),
    "mean": st.floats(-2.0, 2.0),
    "std": st.floats(0.1, 2.0),
    "angle": st.floats(1e-3, 3.0),
    # noise levels, embeddings, images
    "sigma_data": st.floats(0.05, 5.0),
    # Only vectors test examples without axes: an implementation that rejects them should not break every law.
    "shape": st.sampled_from([(1, 2), (2, 3), (2, 1), (2, 2, 2), (1, 3, 2, 2)]),
    "size": st.sampled_from([1.0, 1e-3, 100.0]),
    "sigma": _per_example(_levels),
    "sigma_hi": _per_example(st.floats(0.01, 80.0)),
    "index": lambda known: torch.tensor(
        known.draw(
            st.lists(st.integers(0, len(known["sigmas"]) - 2), min_size=known["shape"][0], max_size=known["shape"][0])
        )
    ),
    "levels": st.lists(st.floats(0.002, 79.0), max_size=4, unique=True).map(
        lambda inner: torch.tensor([80.0, *sorted(inner, reverse=True)], dtype=torch.float64)
    ),
    "c_noise": _vector(st.floats(-5.0, 5.0), 4),
    "frequencies": _vector(st.floats(-40.0, 40.0), 6),
    "max_period": st.floats(2.0, 1e5),
    "half": st.integers(1, 16),
    "features": st.integers(1, 4),
    "real": _features,
    "fake": _features,
    "p": _probabilities,
    **dict.fromkeys(("x", "y", "z", "ema", "value"), _images),
}
