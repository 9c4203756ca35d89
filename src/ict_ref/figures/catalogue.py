"""The catalogue of figures and their modules, without an import of torch, so that help and errors appear at once.

A module of figures has MAKERS, a `Maker` for each number. It is imported when one of its figures is made.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ict_ref.utils.panel import Figure

Tick = Callable[[], object]
"""Function that is called after every training update to advance the progress bar."""


@runtime_checkable
class Maker(Protocol):
    """A maker of one figure."""

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""

    def make(self, tick: Tick, /) -> Figure:
        """Make the figure."""


@dataclass(frozen=True)
class Entry:
    """An entry of the catalogue."""

    what: str
    """Short description."""
    module: str
    """Name of the module whose MAKERS contain the figure."""
    seconds: float
    """Approximate time on one CPU thread in seconds."""

    @property
    def analytic(self) -> bool:
        """Return whether the figure is made from formulas alone."""
        return self.module == ANALYTIC


@dataclass(frozen=True)
class AtOnce:
    """A maker of a figure without training or progress."""

    figure: Callable[[], Figure]
    updates: int = 0

    def make(self, _tick: Tick, /) -> Figure:
        """Make the figure."""
        return self.figure()


ANALYTIC, ABLATIONS = "ict_ref.figures.analytic", "ict_ref.figures.ablations"
# The order is that in which figures are made.
FIGURES: dict[str, Entry] = {
    "1a": Entry("sensitivity of noise embeddings", ANALYTIC, 0.2),
    "3b": Entry("curricula N(k)", ANALYTIC, 0.1),
    "4a": Entry("densities of log sigma", ANALYTIC, 0.1),
    "6a": Entry("shapes of distances", ANALYTIC, 0.1),
    "1b": Entry("continuous-time CT and the noise embedding", ABLATIONS, 60.0),
    "1c": Entry("weighting, noise embedding, dropout", ABLATIONS, 60.0),
    "2a": Entry("the teacher's EMA", ABLATIONS, 30.0),
    "2b": Entry("distances, few noise levels", ABLATIONS, 70.0),
    "2c": Entry("distances, many noise levels", ABLATIONS, 85.0),
    "3a": Entry("error by the number of noise levels", ABLATIONS, 55.0),
    "3c": Entry("curricula compared", ABLATIONS, 85.0),
    "4b": Entry("noise schedules compared", ABLATIONS, 70.0),
    "6b": Entry("how norms of updates vary", ABLATIONS, 30.0),
}


def maker_of(number: str) -> Maker:
    """Return the maker of the figure with this number."""
    maker: Maker = importlib.import_module(FIGURES[number].module).MAKERS[number]
    return maker
