"""The project's own optimizer, EMA and curriculum as a training loop, for `python -m ict_ref.verify audit training`."""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ict_ref.config import digits
from ict_ref.networks.model import ConsistencyModel
from ict_ref.training.discretization import discretization
from ict_ref.training.ema import update_ema
from ict_ref.training.loss import training_loss
from ict_ref.training.radam import RAdam
from ict_ref.training.sampled_noise import SampledNoise, sample_intervals_and_noise
from ict_ref.training.state import TrainingState


class Loop:
    def __init__(self, network: nn.Module, total_steps: int, batch: int = 16) -> None:
        train = dataclasses.replace(digits().train, steps=total_steps, batch_size=batch, noise_shards=1)
        self.config = dataclasses.replace(digits(), train=dataclasses.replace(train, ema_decay=0.99993))
        self.student = ConsistencyModel(network, sigma_min=0.002, sigma_data=0.5)  # type: ignore[arg-type] # not ADM
        self.average = copy.deepcopy(self.student).requires_grad_(False)
        self.optimizer = RAdam(self.student.parameters(), lr=1e-4)
        self.state = TrainingState(self.student, {"average": self.average}, None, self.optimizer)
        self.online, self.step = network, 0

    @property
    def ema(self) -> Mapping[str, Tensor]:
        return dict(self.average.named_parameters())  # the project's networks have constant buffers only

    def update(self, x: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        index, z = sample_intervals_and_noise(self.step, [0], self.config, event=tuple(x.shape[1:]))
        levels, noise = discretization(self.step, self.config), SampledNoise(index, z, ())
        loss = training_loss(self.student, x, None, noise, levels, self.config.method).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        update_ema(self.average, self.student, decay=self.config.train.ema_decays[0])
        self.step += 1
        return loss.detach()

    def save(self, path: Path) -> None:
        torch.save((self.step, self.state.tensors()), path)

    def load(self, path: Path) -> None:
        self.step, tensors = torch.load(path)
        self.state.load(tensors, updates=self.step)

    def run(self, batches: Iterator[Tensor]) -> None:
        while self.step < self.config.train.steps:
            self.update(next(batches))


def make(network: nn.Module, *, total_steps: int) -> Loop:
    return Loop(network, total_steps)
