"""Comparisons of small versions of the paper's runs by their error during training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ict_ref.config import Config, Data, Machine, Train
from ict_ref.experiments.runs import Tick
from ict_ref.figures.datasets import FigureDataset
from ict_ref.training.trainer import Trainer
from ict_ref.utils.panel import Figure, Panel, Points

# Number of values of a CIFAR-10 image, to which the paper's c refers (iCT, Section 3.3: c grows as its square root).
CIFAR10_VALUES = 3072
# Factor on dropout for small networks.
DROPOUT = 1 / 3
# Errors with a smaller ratio than this count as level.
LEVEL = 1.05


@dataclass(frozen=True)
class Comparison:
    """A comparison of small versions of the paper's runs with the same examples, noise and initial parameters."""

    number: str
    """Number of the figure in the paper."""
    claim: str
    """Finding of the paper's figure."""
    expected: tuple[tuple[str, str], ...]
    """The finding as pairs of runs, of which the first ends with the smaller error. The caption checks each pair."""
    runs: dict[str, Config]
    """Runs of the paper by name in the legend."""
    subject: FigureDataset
    """Data of the small runs."""
    method: dict[str, Any] = field(default_factory=dict)
    """Fields of the method that all small runs change."""
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 3e-3
    ema_decay: float = 0.98
    seeds: tuple[int, ...] = (0,)
    checks: int = 10
    """Number of error measurements per run, evenly spaced up to its end."""
    note: str = ""
    """Remark for the caption."""

    def __post_init__(self) -> None:
        if self.steps % self.checks != 0:
            raise ValueError(f"checks: expected a divisor of {self.steps} steps, got {self.checks}")

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""
        return len(self.runs) * len(self.seeds) * self.steps

    def make(self, tick: Tick) -> Figure:
        """Return a figure of the error of each run's EMA weights by training step, averaged over the seeds.

        A curve ends at the first non-finite loss or gradient of any of its seeds.
        """
        curves = {name: self._curve(paper, tick) for name, paper in self.runs.items()}
        panel = Panel(
            self.subject.name, "training step", self.subject.measure, curves, y_scale="log", marks=tuple(curves)
        )
        caption = " ".join(filter(None, (self.claim, verdict(curves, self.expected), self.note, self.scale())))
        return Figure(self.number, caption, (panel,))

    def small(self, paper: Config, seed: int = 0) -> Config:
        """Return a small version of a run of the paper; only sizes and the settings that depend on them change."""
        network = replace(
            self.subject.network,
            embedding=paper.network.embedding,
            fourier_scale=paper.network.fourier_scale,
            dropout=DROPOUT * paper.network.dropout,
        )
        method = replace(paper.method, **self.method)
        if method.huber_c is not None:
            method = replace(
                method, huber_c=method.huber_c * math.sqrt(math.prod(self.subject.examples.event) / CIFAR10_VALUES)
            )
        train = Train(
            steps=self.steps, batch_size=self.batch_size, learning_rate=self.learning_rate, ema_decay=self.ema_decay,
            seed=seed,
        )  # fmt: skip
        return Config(
            data=Data(labels=False), network=network, method=method, train=train, machine=Machine(device="cpu")
        )

    def scale(self) -> str:
        """Return a sentence on the size of these runs and of the paper's."""
        papers = list(self.runs.values())
        paper, values = papers[0].train, math.prod(self.subject.examples.event)
        small = "".join(f", {name} = {value:g}" for name, value in self.method.items())
        if any(run.method.huber_c is not None for run in papers):
            small += f", c times sqrt({values}/{CIFAR10_VALUES}) as it grows with the number of values"
        if any(run.network.dropout > 0 for run in papers):
            small += ", a third of the dropout"
        seeds = f"the mean of seeds {', '.join(map(str, self.seeds))}" if len(self.seeds) > 1 else "one seed"
        return (
            f"Here: {self.subject.name}, {self.steps} updates of {self.batch_size} examples{small}; {seeds};"
            f" {self.subject.measure}, lower is better. The paper: CIFAR-10, {paper.steps // 1000} 000 updates of"
            f" {paper.batch_size} images, FID."
        )

    def _curve(self, paper: Config, tick: Tick) -> Points:
        found = [self._errors(self.small(paper, seed), tick) for seed in self.seeds]
        # A run that diverges has fewer measurements.
        means = [float(np.mean(errors)) for errors in zip(*found, strict=False)]
        return tuple((float(check * self.steps // self.checks), mean) for check, mean in enumerate(means, start=1))

    def _errors(self, config: Config, tick: Tick) -> list[float]:
        trainer, found, diverged = Trainer(config, self.subject.examples), [], False
        for step in range(1, self.steps + 1):
            diverged = diverged or not _updates(trainer)
            if not diverged and step % (self.steps // self.checks) == 0:
                found.append(self.subject.error(trainer.ema))
            tick()
        return found


def verdict(curves: Mapping[str, Points], expected: Sequence[tuple[str, str]]) -> str:
    """Return a sentence on whether each pair of curves ends in the expected order, the first one lower.

    Two ends within a factor of LEVEL are level. A curve that ends earlier than the others has diverged.
    """
    last = max(points[-1][0] for points in curves.values() if points)

    def end(name: str) -> float:
        points = curves[name]
        return points[-1][1] if points and points[-1][0] == last else math.inf

    def shown(name: str) -> str:
        return f"{name} ends at {end(name):.3g}" if math.isfinite(end(name)) else f"{name} diverges"

    sentences = []
    for better, worse in expected:
        low, high = end(better), end(worse)
        if low < high / LEVEL:
            agrees = "as in the paper"
        elif low <= high * LEVEL:
            agrees = "level, not as in the paper"
        else:
            agrees = "the reverse of the paper"
        sentences.append(f"{shown(better)}, {shown(worse)}: {agrees}")
    return f"Here {'; '.join(sentences)}."


def _updates(trainer: Trainer) -> bool:
    """Make one update and return whether loss and gradient were finite."""
    try:
        trainer.update()
    except FloatingPointError:
        return False
    return True
