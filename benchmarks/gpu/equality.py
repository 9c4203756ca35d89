"""The same run on the CPU and on the device: pixels, losses and parameters of ten updates."""

import dataclasses
from typing import Literal

import torch

from benchmarks.gpu.device import device
from benchmarks.gpu.notes import Notes
from ict_ref.config import Machine, minimal
from ict_ref.data.dataset import load, to_float
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.training.trainer import Trainer

STEPS = 10


def measure(notes: Notes, *, tiny: bool) -> None:  # noqa: ARG001 (it is tiny in any case)
    """Note how many floats of pixels differ, and the largest differences of losses and parameters."""
    pixels = torch.arange(256, dtype=torch.uint8)
    differing = (to_float(pixels) != to_float(pixels.to(device())).cpu()).sum()
    notes.add("pixels", differing=int(differing))
    precisions: tuple[Literal["float64", "float32"], ...] = ("float64", "float32")
    for precision in precisions:
        notes.add("updates", precision=precision, steps=STEPS, **differences(precision))


def differences(precision: Literal["float64", "float32"]) -> dict[str, float]:
    """Return the largest relative difference of a loss, and the largest difference of a parameter after all updates."""
    here, there = (trainer(precision, where) for where in (torch.device("cpu"), device()))
    losses = []
    for _ in range(STEPS):
        here.update()
        there.update()
        losses.append(abs(float(there.loss) / float(here.loss) - 1))
    pairs = zip(here.student.parameters(), there.student.parameters(), strict=True)
    return {"loss": max(losses), "parameter": max(float((a - b.cpu()).detach().abs().max()) for a, b in pairs)}


def trainer(precision: Literal["float64", "float32"], where: torch.device) -> Trainer:
    """Return a trainer of the preset minimal on a device."""
    preset = minimal()
    train = dataclasses.replace(preset.train, precision=precision)
    config = dataclasses.replace(preset, train=train, machine=Machine(device=where.type))  # type: ignore[arg-type]
    return Trainer(config, load(config.data).train, ProcessGroup(device=where))
