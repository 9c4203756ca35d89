"""Short runs on digits, and what they leave behind."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

from ict_ref.checkpoint.training_state import Checkpoint, newest_checkpoint
from ict_ref.config import Config, Method, minimal
from ict_ref.data.dataset import Images, load
from ict_ref.launch import __main__ as launch
from ict_ref.training.trainer import Trainer


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Leave out the checks of shapes and types, which cost small networks more than their own work."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        yield


def config(**train: object) -> Config:
    """Return the minimal preset with these training options."""
    return dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, **train))  # type: ignore[arg-type]


def recorded(**record: object) -> Config:
    """Return the minimal preset with these options of what a run leaves behind."""
    return dataclasses.replace(minimal(), record=dataclasses.replace(minimal().record, **record))  # type: ignore[arg-type]


def updated(trainer: Trainer) -> float:
    """Make one update and return the loss before it."""
    trainer.update()
    return float(trainer.loss)


def short_run(folder: Path, *options: str) -> Path:
    """Make a run of 30 steps, whose samples are still close to noise, and return its folder."""
    thresholds = [
        option for name in ("accuracy", "frechet-distance", "recall") for option in (f"--acceptance.{name}", "None")
    ]
    command = ["--config", "minimal", "--train.steps", "30", *thresholds, *options, "--out", str(folder)]
    with unchecked():
        assert launch.main(command) == 0
    return folder


def newest(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint of a run."""
    return newest_checkpoint(folder)[0]


def last(folder: Path) -> Checkpoint:
    """Return the newest checkpoint of a run that has one."""
    checkpoint = newest(folder)
    assert checkpoint is not None
    return checkpoint


def images() -> Images:
    """Return the digits to train on."""
    return load(minimal().data).train


def lines(folder: Path) -> list[dict[str, float]]:
    """Return the metrics of a run."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def same(a: Checkpoint, b: Checkpoint) -> bool:
    """Return whether two checkpoints are equal bit for bit."""
    return (
        (a.step, a.skipped) == (b.step, b.skipped)
        and a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    )


def copied(trainer: Trainer) -> Checkpoint:
    """Return the trainer's checkpoint, its tensors copied."""
    now = trainer.checkpoint()
    return dataclasses.replace(now, tensors={name: value.clone() for name, value in now.tensors.items()})


def reached(trainer: Trainer, limit: int) -> bool:
    """Return whether the trainer has come to this step."""
    return trainer.step >= limit


def never() -> bool:
    """Return False: a stop is not requested."""
    return False


CT = Method(mu0=0.9, distance="squared_l2", curriculum="sqrt", s0=2, s1=150, weighting="uniform")
