"""How long one thing takes in units of another."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from tqdm import tqdm


@dataclass(frozen=True)
class Ratio:
    """The time of ours over that of theirs: the median of interleaved pairs, and their spread."""

    name: str
    value: float
    low: float
    high: float
    pairs: int
    target: float | None = None
    """Largest acceptable ratio, or the smallest one where `more` is better."""
    more: bool = False

    @property
    def met(self) -> bool | None:
        """Return whether the target is met, or None without a target."""
        if self.target is None:
            return None
        return self.value >= self.target if self.more else self.value <= self.target


def interleaved(
    name: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    pairs: int,
    target: float | None = None,
    synchronize: Callable[[], object] = lambda: None,
) -> Ratio:
    """Time both in turn and return the ratio; what else the machine does meets both alike. The first pair warms up."""
    ratios = []
    for _ in tqdm(range(pairs + 1), desc=name, leave=False):
        times = []
        for run in (ours, theirs):
            synchronize()
            begins = time.perf_counter()
            run()
            synchronize()
            times.append(time.perf_counter() - begins)
        ratios.append(times[0] / times[1])
    return of(name, ratios[1:], target=target)


def of(name: str, ratios: list[float], *, target: float | None = None, more: bool = False) -> Ratio:
    """Return what these ratios say: their median and quartiles, of fewer than four the least and the greatest."""
    few = min(ratios), statistics.median(ratios), max(ratios)
    low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) >= 4 else few
    return Ratio(name, median, low, high, len(ratios), target, more)
