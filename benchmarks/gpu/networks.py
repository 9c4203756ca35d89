"""Trainers of the paper's networks on random images, of the real size or tiny."""

import contextlib
import dataclasses
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partialmethod
from typing import Literal, get_args
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.device import device, reset_peak
from ict_ref.config import PRESETS, Config, Machine, Network
from ict_ref.data.dataset import Images
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.plan.meta_step import image_shape
from ict_ref.training.trainer import Trainer

Policy = Literal["float32", "tf32", "bfloat16", "float16"]
Preset = Literal["cifar10", "imagenet64"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
IMAGES = 512


@dataclass(frozen=True)
class Case:
    """A configuration whose updates are measured."""

    preset: Preset
    precision: Policy
    batch: int
    compiled: bool = False

    def config(self, *, tiny: bool) -> Config:
        """Return the preset with this precision and batch, and with all its noise shards; tiny has little of all."""
        full = PRESETS[self.preset]()
        batch, shards = (4, 4) if tiny else (self.batch, full.train.noise_shards)
        return dataclasses.replace(
            full,
            network=narrow(full.network) if tiny else full.network,
            train=dataclasses.replace(full.train, batch_size=batch, noise_shards=shards, precision=self.precision),
            machine=Machine(
                device="cuda" if device().type == "cuda" else "cpu", compile=self.compiled, channels_last=self.compiled
            ),
        )


def narrow(network: Network) -> Network:
    """Return the options of a network of the same architecture with few channels and blocks."""
    return dataclasses.replace(
        network, width=8, multipliers=(1, 2), blocks=1, attention_resolutions=(16,), head_channels=8, groups=4
    )


@contextlib.contextmanager
def trainer_of(case: Case, *, tiny: bool) -> Iterator[Trainer]:
    """Yield a trainer whose shapes are compiled anew, after the memory of trainers before it is freed."""
    torch._dynamo.reset()
    gc.collect()
    reset_peak()
    config = case.config(tiny=tiny)
    event, classes = image_shape(config.data)
    pixels = np.random.default_rng(0).integers(256, size=(IMAGES, *event), dtype=np.uint8)
    images = Images(pixels, torch.arange(IMAGES) % max(1, classes), classes, flip=True)
    with quick_compilation() if device().type == "cpu" else contextlib.nullcontext():
        trainer = Trainer(config, images, ProcessGroup(device=device()))
        try:
            yield trainer
        finally:
            trainer.microbatches.close()


@contextlib.contextmanager
def quick_compilation() -> Iterator[None]:
    """Let torch.compile trace and differentiate as always, but leave out the generated code, which takes minutes."""
    with mock.patch.object(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager")):
        yield
