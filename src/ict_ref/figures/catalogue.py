"""Which figures there are, and who makes them. Nothing here imports torch: help and errors come at once.

A module that makes figures has MAKERS, a `Maker` for each number; it is imported when one of them is wanted.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ict_ref.utils.panel import Figure

Tick = Callable[[], object]
"""Called after every update of a training run: it moves the progress bar."""


@runtime_checkable
class Maker(Protocol):
    """What makes a figure."""

    @property
    def updates(self) -> int:
        """Return how often `tick` will be called."""

    def make(self, tick: Tick, /) -> Figure:
        """Make the figure."""


@dataclass(frozen=True)
class Entry:
    """A figure that can be made."""

    what: str
    """What it shows, in a few words."""
    module: str
    """Whose MAKERS have it."""
    seconds: float
    """About how long that takes on one CPU thread."""

    @property
    def analytic(self) -> bool:
        """Return whether it comes from formulas alone."""
        return self.module == ANALYTIC


@dataclass(frozen=True)
class AtOnce:
    """A figure that needs no training, and no bar."""

    figure: Callable[[], Figure]
    updates: int = 0

    def make(self, _tick: Tick, /) -> Figure:
        """Make the figure."""
        return self.figure()


ANALYTIC, ABLATIONS = "ict_ref.figures.analytic", "ict_ref.figures.ablations"
# In the order in which they are made.
FIGURES: dict[str, Entry] = {
    "1a": Entry("sensitivity of noise embeddings", ANALYTIC, 0.2),
    "3b": Entry("curricula N(k)", ANALYTIC, 0.1),
    "4a": Entry("densities of log sigma", ANALYTIC, 0.1),
    "6a": Entry("shapes of metrics", ANALYTIC, 0.1),
    "1b": Entry("continuous-time CT and the noise embedding", ABLATIONS, 60.0),
    "1c": Entry("weighting, noise embedding, dropout", ABLATIONS, 60.0),
    "2a": Entry("the teacher's EMA", ABLATIONS, 30.0),
    "2b": Entry("metrics, few noise levels", ABLATIONS, 70.0),
    "2c": Entry("metrics, many noise levels", ABLATIONS, 85.0),
    "3a": Entry("error by the number of noise levels", ABLATIONS, 55.0),
    "3c": Entry("curricula compared", ABLATIONS, 85.0),
    "4b": Entry("noise schedules compared", ABLATIONS, 70.0),
    "6b": Entry("how norms of updates vary", ABLATIONS, 30.0),
}


def maker_of(number: str) -> Maker:
    """Return what makes the figure of this number."""
    maker: Maker = importlib.import_module(FIGURES[number].module).MAKERS[number]
    return maker
