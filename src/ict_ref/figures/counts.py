"""Figure 3a: error by the number of noise levels, from the experiment `levels`."""

from dataclasses import dataclass, field

from ict_ref.experiments.levels import STD, Levels, power
from ict_ref.experiments.runs import Tick
from ict_ref.utils.panel import Figure, Panel, Points


@dataclass(frozen=True)
class Counts:
    """Runs with different numbers of noise levels, and the known minimiser of the loss for each number."""

    levels: Levels = field(default_factory=Levels)
    number: str = "3a"

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""
        return self.levels.updates

    def make(self, tick: Tick) -> Figure:
        """Return a figure of both errors at sigma_max = 80 by N, with the slopes of their power laws in the caption."""
        found, _ = self.levels.run(tick)
        n, trained, minimiser = (found.column(name) for name in ("N", "trained", "minimiser at N"))
        half = (len(n) + 1) // 2
        early, late = power(n[:half], trained[:half]), power(n[half - 1 :], trained[half - 1 :])
        curves = {"trained at N": _points(n, trained), "minimiser of the loss at N": _points(n, minimiser)}
        panel = Panel(
            f"N(0, {STD}^2)", "N", "rms error of f(x, 80)", curves, x_scale="log", y_scale="log", marks=tuple(curves)
        )
        caption = (
            "In the paper, quality improves with N by a power law until it saturates. Here the slope of the error in"
            f" N - 1 is {early:.2f} up to N = {n[half - 1]:g} and {late:.2f} from there on; that of the minimiser"
            f" is {power(n, minimiser):.2f}. Here: N(0, {STD}^2) on the line, one run of"
            f" {self.levels.steps} updates of {self.levels.batch_size} examples at each constant N, lognormal p(i) with"
            " P_mean = 1, c = 0.3, one seed. The paper: CIFAR-10, 400 000 updates of 512 images, FID of a run in which"
            " N grows from 11 to 1281, uniform p(i)."
        )
        return Figure(self.number, caption, (panel,))


def _points(x: list[float], y: list[float]) -> Points:
    return tuple(zip(x, y, strict=True))
