"""A whole training step, against the floor: what no code around the same network can do without, executed bare.

The floor is the student's forward and backward pass with torch's dropout, the teacher's forward pass, torch.optim.RAdam
(foreach) and the average by one foreach lerp; nothing is drawn, compared, logged or checked in it.
"""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ratio import Ratio, interleaved
from ict_ref.config import PRESETS, Config, Data, Machine, Train
from ict_ref.data.dataset import Images
from ict_ref.networks.model import build_model
from ict_ref.training.trainer import Trainer

BATCH = 16


def small(precision: str = "float32", threads: int = 0) -> Config:
    """Return NCSN++ as it trains on CIFAR-10, an eighth as wide and one block deep, on images of its size."""
    preset = PRESETS["cifar10"]()
    return dataclasses.replace(
        preset,
        data=Data(name="folder", labels=False, flip=True),
        network=dataclasses.replace(preset.network, width=32, blocks=1),
        train=Train(steps=400_000, batch_size=BATCH, ema_decay=0.99993, noise_shards=2, precision=precision),  # type: ignore[arg-type]
        machine=Machine(device="cpu", threads=threads),
    )


def images(config: Config) -> Images:
    """Return random images of CIFAR-10's size."""
    pixels = np.random.default_rng(0).integers(256, size=(1024, 3, 32, 32), dtype=np.uint8)
    return Images(pixels, torch.zeros(1024, dtype=torch.int64), 0, config.data.flip)


def ours(config: Config) -> Callable[[], object]:
    """Return our step, as a run makes it."""
    return Trainer(config, images(config)).update


def floor(config: Config) -> Callable[[], object]:
    """Return the floor for this configuration's network and batch, in float32."""
    model = build_model(config, event=(3, 32, 32), classes=0)
    average = copy.deepcopy(model).requires_grad_(False)
    parameters = list(model.parameters())
    averages: list[Tensor] = list(average.parameters())
    optimizer = torch.optim.RAdam(parameters, lr=1e-4, foreach=True)
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(config.train.batch_size, 3, 32, 32, generator=generator) for _ in range(2))
    sigma = torch.rand(config.train.batch_size, generator=generator) + 0.5
    nothing = tuple(torch.empty(0) for _ in model.network.dropout_sites())

    def step() -> None:
        with torch_dropout():
            student: Tensor = model(x + z, sigma, None, nothing)
            with torch.no_grad():
                teacher: Tensor = model(x + z, sigma, None, nothing)
        optimizer.zero_grad()
        torch.autograd.backward((student - teacher).square().sum())
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, list(parameters), 7e-5)

    return step


@contextmanager
def torch_dropout() -> Iterator[None]:
    """Let the networks drop values by torch's dropout, whatever masks they are given."""

    def drop(h: Tensor, _mask: Tensor, rate: float) -> Tensor:
        return F.dropout(h, rate, training=True)

    with mock.patch("ict_ref.networks.blocks.drop", drop):
        yield


def options(pairs: int) -> list[Ratio]:
    """Return what the options that save memory cost: a step with each over a plain one."""
    plain = small()
    chosen = {
        "accumulate 2": Machine(device="cpu", accumulate=2),
        "recompute": Machine(device="cpu", recompute=True),
        "channels last": Machine(device="cpu", channels_last=True),
    }
    step = ours(plain)
    return [
        interleaved(f"{name} / plain step", ours(dataclasses.replace(plain, machine=machine)), step, pairs=pairs)
        for name, machine in chosen.items()
    ]


def measure(pairs: int) -> list[Ratio]:
    """Return our step over the floor, in float32 and in bfloat16."""
    bare = floor(small())
    return [
        interleaved("step / floor, float32", ours(small()), bare, pairs=pairs, target=0.95),
        interleaved("step / floor, bfloat16", ours(small("bfloat16")), bare, pairs=pairs, target=0.88),
    ]
