"""Shared parts of the experiments: the small network, training runs, errors and tables."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.config import Config, Data, Machine, Method, Network, Train
from ict_ref.experiments.analytic_datasets import Mixture
from ict_ref.training.microbatches import Examples
from ict_ref.training.trainer import Trainer
from ict_ref.utils.rng import stream

Tick = Callable[[], object]
"""Function that is called after every update to advance the progress bar."""
Function = Callable[[Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]]

# On one pixel ADM is a residual network of dense layers. It has one group, because norms of few channels lose scale.
NETWORK = Network(
    width=16, multipliers=(1,), blocks=1, attention_resolutions=(), head_channels=16, groups=1, dropout=0.0
)
# Number of points for measuring errors, and the seed of their noise, which training runs do not use.
POINTS, EVALUATION_SEED = 4096, 2**64


@dataclass(frozen=True)
class Table:
    """The results of an experiment in named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[float | int | str, ...], ...]
    note: str = ""

    def column(self, name: str) -> list[float]:
        """Return the numbers of a column."""
        place = self.columns.index(name)
        return [float(row[place]) for row in self.rows]

    def text(self) -> str:
        """Return title, aligned columns and note."""
        cells = [self.columns, *(tuple(_shown(value) for value in row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells]
        return "\n".join([self.title, *lines, *([self.note] if self.note else [])])


@runtime_checkable
class Experiment(Protocol):
    """A set of runs with tables of results."""

    @property
    def updates(self) -> int:
        """Return the number of calls of `tick`."""

    def run(self, tick: Tick) -> list[Table]:
        """Run the experiment and return its tables."""


def configuration(
    method: Method, *, steps: int, batch_size: int, learning_rate: float, ema_decay: float, seed: int = 0
) -> Config:
    """Return the configuration of a run of the small network on data without labels."""
    train = Train(steps=steps, batch_size=batch_size, learning_rate=learning_rate, ema_decay=ema_decay, seed=seed)
    return Config(data=Data(labels=False), network=NETWORK, method=method, train=train, machine=Machine(device="cpu"))


def trained(config: Config, examples: Examples, tick: Tick) -> Trainer:
    """Train to the end and return the trainer."""
    trainer = Trainer(config, examples)
    for _ in range(config.train.steps):
        trainer.update()
        tick()
    return trainer


@torch.no_grad()
def answer(
    f: Function, x: Float[Tensor, " batch *event"], level: Float[Tensor, " batch"]
) -> Float[Tensor, " batch *event"]:
    """Return f(x, sigma) of a float32 model as float64."""
    return f(x.float(), level.float()).double()


def rms_error(f: Function, data: Mixture, sigma: float, *, sigma_min: float) -> float:
    """Return sqrt(E ||f(x, sigma) - f*(x, sigma)||_2^2) for x ~ p_sigma, over a fixed sample."""
    x, level = noisy(data, sigma)
    return rms(answer(f, x, level) - data.exact(x, sigma, sigma_min=sigma_min))


def noisy(data: Mixture, sigma: float) -> tuple[Float[Tensor, " batch *event"], Float[Tensor, " batch"]]:
    """Return the fixed sample of p_sigma and the noise level of each example, in float64."""
    generator = stream(EVALUATION_SEED, "data")
    x = data.draw(generator, POINTS)
    z = torch.from_numpy(generator.standard_normal(tuple(x.shape)))
    return x + sigma * z, x.new_full((POINTS,), sigma)


def rms(difference: Float[Tensor, " batch *event"]) -> float:
    """Return the square root of the mean squared length."""
    return float(difference.reshape(len(difference), -1).square().sum(1).mean().sqrt())


def _shown(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
