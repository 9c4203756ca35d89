"""Do updates vary less under the pseudo-Huber metric than under squared l2? (iCT, Section 3.3, Fig. 6b)"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from ict_ref.batches import Examples
from ict_ref.config import Config, Method, minimal
from ict_ref.data import load
from ict_ref.experiments.known import TWO_MODES
from ict_ref.experiments.runs import Table, Tick, configuration
from ict_ref.trainer import Trainer

Metric = Literal["pseudo_huber", "squared_l2"]
METRICS: tuple[Metric, Metric] = ("pseudo_huber", "squared_l2")
CELLS = 40


@dataclass(frozen=True)
class Huber:
    """Runs with either metric, from the same parameters, on the same examples, noise levels and noise."""

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 300
    mixture_seeds: tuple[int, ...] = (0, 1)
    mixture_steps: int = 300

    @property
    def updates(self) -> int:
        """Return how often `tick` will be called."""
        return len(METRICS) * (len(self.seeds) * self.steps + len(self.mixture_seeds) * self.mixture_steps)

    def run(self, tick: Tick) -> list[Table]:
        """Return how the norms vary in the second half of each run; in the first, RAdam warms up."""
        images = load(minimal().data).train
        digits = [row(seed, images, on_digits, self.steps, tick) for seed in self.seeds]
        mixture = [row(seed, TWO_MODES, on_mixture, self.mixture_steps, tick) for seed in self.mixture_seeds]
        columns = ("seed", "pseudo-Huber", "squared l2", "ratio")
        title = "standard deviation of the updates' norms, scaled to mean 1, over the second half of"
        return [
            Table(f"huber: {title} {self.steps} updates on digits", columns, tuple(digits)),
            Table(f"huber: {title} {self.mixture_steps} updates on the mixture", columns, tuple(mixture)),
        ]


def on_digits(metric: Metric, steps: int, seed: int) -> Config:
    """Return the minimal run without dropout, whose noise hides that of the metric."""
    start = minimal()
    return replace(
        start,
        network=replace(start.network, dropout=0.0),
        method=Method(distance=metric, curriculum="constant", s1=CELLS),
        train=replace(start.train, steps=steps, seed=seed),
    )


def on_mixture(metric: Metric, steps: int, seed: int) -> Config:
    """Return such a run on values of one dimension."""
    c = 0.03 if metric == "pseudo_huber" else None
    method = Method(distance=metric, huber_c=c, curriculum="constant", s1=CELLS)
    return configuration(method, steps=steps, batch_size=64, learning_rate=1e-3, ema_decay=0.99, seed=seed)


def row(
    seed: int, examples: Examples, configured: Callable[[Metric, int, int], Config], steps: int, tick: Tick
) -> tuple[float | int | str, ...]:
    """Return a row of the table."""
    found = []
    for metric in METRICS:
        settled = update_norms(configured(metric, steps, seed), examples, tick)[steps // 2 :]
        found.append(float(settled.std() / settled.mean()))
    huber, l2 = found
    return seed, huber, l2, l2 / huber


def update_norms(config: Config, examples: Examples, tick: Tick) -> Float64[Tensor, " steps"]:
    """Return ||theta_{k+1} - theta_k||_2 of every update of a run."""
    trainer = Trainer(config, examples)
    norms = []
    before = parameters(trainer)
    for _ in range(config.train.steps):
        trainer.update()
        after = parameters(trainer)
        norms.append(torch.linalg.vector_norm(after - before))
        before = after
        tick()
    return torch.stack(norms)


def parameters(trainer: Trainer) -> Float64[Tensor, " parameters"]:
    """Return all parameters of the student in one vector."""
    return torch.cat([parameter.detach().double().reshape(-1) for parameter in trainer.model.parameters()])
