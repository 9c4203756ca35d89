"""Figure 6b: variation of norms between steps under two distances, from the experiment `huber`."""

from dataclasses import dataclass

from jaxtyping import Float64
from torch import Tensor

from ict_ref.config import minimal
from ict_ref.data.dataset import load
from ict_ref.experiments.huber import DISTANCES, norms, on_digits, variation
from ict_ref.experiments.runs import Tick
from ict_ref.figures.comparison import LEVEL
from ict_ref.utils.panel import Figure, Panel, Points

LEGEND = {"pseudo_huber": "pseudo-Huber", "squared_l2": "squared l2"}


@dataclass(frozen=True)
class Updates:
    """Runs with two distances and the same examples, noise levels, noise, masks and initial parameters."""

    seeds: tuple[int, ...] = (0, 1)
    steps: int = 300
    intervals: int = 1280
    number: str = "6b"

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""
        return len(DISTANCES) * len(self.seeds) * self.steps

    def make(self, tick: Tick) -> Figure:
        """Return a figure of the norms of the first seed's gradients and updates, divided by their mean.

        It shows the second half of the run, because RAdam warms up in the first half.
        """
        images, half = load(minimal().data).train, self.steps // 2
        found = {
            distance: [
                norms(on_digits(distance, self.steps, seed, self.intervals), images, tick)[:, half:]
                for seed in self.seeds
            ]
            for distance in DISTANCES
        }
        panels, ratios = [], []
        for kind, title in enumerate(("gradients", "parameter updates of RAdam")):
            curves = {LEGEND[distance]: _rescaled(runs[0][kind], half) for distance, runs in found.items()}
            panels.append(Panel(title, "training step", "l2 norm / its mean", curves))
            huber, l2 = ([variation(run[kind]) for run in found[distance]] for distance in DISTANCES)
            ratios.append([b / a for a, b in zip(huber, l2, strict=True)])
        gradient, update = (f"{_compared(found)} ({', '.join(f'{ratio:.2f}' for ratio in found)})" for found in ratios)
        caption = (
            "Norms, rescaled to the same mean. In the paper, updates vary less under pseudo-Huber than squared l2."
            " Variation is the standard deviation of the log of a norm's change from one step to the next; in brackets"
            f" is that of squared l2 divided by that of pseudo-Huber, for seeds {', '.join(map(str, self.seeds))}."
            f" Under pseudo-Huber gradients vary {gradient}, RAdam's updates {update}. Here:"
            f" scikit-learn's 8x8 digits, steps {half + 1} to {self.steps} of {self.steps} updates of"
            f" {minimal().train.batch_size} examples, N = {self.intervals + 1}. The paper: CIFAR-10."
        )
        return Figure(self.number, caption, tuple(panels))


def _compared(ratios: list[float]) -> str:
    """Return whether gradients or updates vary less under pseudo-Huber, from variation ratios to squared l2."""
    if min(ratios) > LEVEL:
        return "less, as in the paper"
    return "more, the reverse of the paper" if max(ratios) < 1 / LEVEL else "about as much, not as in the paper"


def _rescaled(norm: Float64[Tensor, " steps"], before: int) -> Points:
    """Return the norms divided by their mean, by step."""
    return tuple((float(before + k), value) for k, value in enumerate((norm / norm.mean()).tolist(), start=1))
