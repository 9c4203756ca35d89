"""The experiment huber: variation of gradients and updates under pseudo-Huber and squared l2 (iCT, Fig. 6b)."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from ict_ref.config import Config, Method, minimal
from ict_ref.data.dataset import load
from ict_ref.experiments.runs import Table, Tick
from ict_ref.training.microbatches import Examples
from ict_ref.training.trainer import Trainer

Distance = Literal["pseudo_huber", "squared_l2"]
DISTANCES: tuple[Distance, Distance] = ("pseudo_huber", "squared_l2")


@dataclass(frozen=True)
class Huber:
    """Runs with two distances and the same initial parameters, examples, noise levels, noise and masks."""

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 300
    intervals: int = 1280

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""
        return len(DISTANCES) * len(self.seeds) * self.steps

    def run(self, tick: Tick) -> list[Table]:
        """Return the variation of the norms in the second half of each run, after the warm-up of RAdam."""
        images = load(minimal().data).train
        rows = [self._row(seed, images, tick) for seed in self.seeds]
        columns = ("seed", "gradient, Huber", "l2", "ratio", "update, Huber", "l2", "ratio")
        title = f"huber: how norms change from one step to the next, over the second half of {self.steps} on digits"
        return [Table(title, columns, tuple(rows))]

    def _row(self, seed: int, images: Examples, tick: Tick) -> tuple[float | int | str, ...]:
        found = [norms(on_digits(distance, self.steps, seed, self.intervals), images, tick) for distance in DISTANCES]
        row: list[float] = []
        for kind in range(2):  # gradients, updates
            huber, l2 = (variation(both[kind][self.steps // 2 :]) for both in found)
            row += [huber, l2, l2 / huber]
        return seed, *row


def on_digits(distance: Distance, steps: int, seed: int, intervals: int) -> Config:
    """Return the preset minimal with this distance and a constant number of noise levels."""
    start = minimal()
    return replace(
        start,
        method=Method(distance=distance, curriculum="constant", s1=intervals),
        train=replace(start.train, steps=steps, seed=seed),
    )


def norms(config: Config, examples: Examples, tick: Tick) -> Float64[Tensor, "2 steps"]:
    """Return the norms of the gradient and of the update theta_{k+1} - theta_k at every step of a run."""
    trainer = Trainer(config, examples)
    found = []
    before = parameters(trainer)
    for _ in range(config.train.steps):
        trainer.update()
        after = parameters(trainer)
        found.append(torch.stack([trainer.norm.double(), torch.linalg.vector_norm(after - before)]))
        before = after
        tick()
    return torch.stack(found, dim=1)


def variation(norm: Float64[Tensor, " steps"]) -> float:
    """Return the standard deviation of log(norm_{k+1} / norm_k), which ignores scale and slow drift."""
    return float(norm.log().diff().std())


def parameters(trainer: Trainer) -> Float64[Tensor, " parameters"]:
    """Return all parameters of the student in one vector."""
    return torch.cat([parameter.detach().double().reshape(-1) for parameter in trainer.student.parameters()])
