"""Trains a few configurations in several real processes: `python -m tests.support.several SIZE FOLDER NAME...`.

The first process writes each one's losses and last state. The processes are forked, so that torch is imported once.

With --resumed each configuration is trained in float32, and new trainers resume a copy of its checkpoint in the middle.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from functools import partialmethod
from pathlib import Path
from unittest.mock import patch

import sklearn.datasets  # noqa: F401 (imported here, once)
import torch
import torch._dynamo  # by every optimizer
from tests.support.runs import never

from ict_ref.checkpoint.training_state import checkpoint_file, save_checkpoint
from ict_ref.config import Config, Method, Record, minimal
from ict_ref.data.dataset import load
from ict_ref.distributed.process_group import joined
from ict_ref.training.loop import fit, resume
from ict_ref.training.trainer import Trainer
from ict_ref.utils.signals import RENDEZVOUS

STEPS = 8


def configurations() -> dict[str, Config]:
    """Return what is trained, in float64, by name."""
    plain = dataclasses.replace(
        minimal(), train=dataclasses.replace(minimal().train, steps=STEPS, precision="float64", noise_shards=8)
    )
    ct = Method(mu0=0.9, distance="squared_l2", curriculum="sqrt", s0=2, s1=150, weighting="uniform")
    continuous = Method(objective="continuous", distance="squared_l2", curriculum="constant")
    parts = dataclasses.replace(plain, machine=dataclasses.replace(plain.machine, accumulate=2))
    compiled = dataclasses.replace(plain, machine=dataclasses.replace(plain.machine, compile=True))
    clipped = dataclasses.replace(plain, train=dataclasses.replace(plain.train, clip_gradient=1.0))
    methods = {"ct": ct, "continuous": continuous}
    return {
        "ict": plain,
        "ict in parts": parts,
        "ict clipped": clipped,
        **{name: dataclasses.replace(plain, method=method) for name, method in methods.items()},
        "ict compiled": compiled,
    }


def train(size: int, folder: Path, names: Iterable[str]) -> None:
    """Train configurations of these names as one of the processes that the environment describes."""
    for name in names:
        with trainer_of(configurations()[name], folder / name, size) as trainer:
            losses = []
            for _ in range(STEPS):
                trainer.update()
                losses.append(float(trainer.loss))
            if trainer.group.first:
                (folder / name / "losses.json").write_text(json.dumps(losses))
                save_checkpoint(folder / name, trainer.checkpoint())


def train_and_resume(size: int, folder: Path, names: Iterable[str]) -> None:
    """Train each configuration to the end; resume a copy of its checkpoint in the middle with new trainers."""
    for name in names:
        config = configurations()[name]
        train = dataclasses.replace(config.train, precision="float32")
        config = dataclasses.replace(config, train=train, record=Record(save_every=STEPS // 2))
        whole, resumed = folder / name / "whole", folder / name / "resumed"
        with trainer_of(config, whole, size) as trainer:
            fit(trainer, whole, never)
        if os.environ["RANK"] == "0":
            resumed.mkdir()
            shutil.copy(checkpoint_file(whole, STEPS // 2), resumed)
        with trainer_of(config, resumed, size) as trainer:
            assert trainer.step == STEPS // 2
            fit(trainer, resumed, never)


@contextlib.contextmanager
def trainer_of(config: Config, folder: Path, size: int) -> Iterator[Trainer]:
    """Connect the processes and yield a trainer, resumed from the last checkpoint of the folder."""
    folder.parent.mkdir(exist_ok=True)
    with patch.dict(os.environ, {RENDEZVOUS: f"file://{folder}.rendezvous"}), joined(config.machine) as group:
        assert group.size == size
        if group.first:
            folder.mkdir(exist_ok=True)
        trainer = Trainer(config, load(config.data).train, group)
        resume(trainer, folder)
        yield trainer


def main() -> None:
    """Fork the processes and wait for them."""
    size, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    # Inductor would take minutes; this backend also compiles forward and backward pass as one function each.
    torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend="aot_eager")  # type: ignore[method-assign, assignment]
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))  # loads what forward mode needs, once
    os.environ |= {"WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    children = []
    for rank in range(size):
        if (child := os.fork()) == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            if sys.argv[3] == "--resumed":
                train_and_resume(size, folder, sys.argv[4:])
            else:
                train(size, folder, sys.argv[3:])
            os._exit(0)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if __name__ == "__main__":
    main()
