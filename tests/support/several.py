"""Trains a few configurations in several real processes: `python -m tests.support.several SIZE FOLDER NAME...`.

The first process writes each one's losses and last state. The processes are forked, so that torch is imported once.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import sklearn.datasets  # noqa: F401 (imported here, once)
import torch
import torch._dynamo  # by every optimizer

from ict_ref.checkpoint.training_state import save_checkpoint
from ict_ref.config import Config, Method, minimal
from ict_ref.data.dataset import load
from ict_ref.distributed.process_group import joined
from ict_ref.training.trainer import Trainer

STEPS = 8


def configurations() -> dict[str, Config]:
    """Return what is trained, in float64, by name."""
    plain = dataclasses.replace(
        minimal(), train=dataclasses.replace(minimal().train, steps=STEPS, dtype="float64", noise_shards=8)
    )
    ct = Method(mu0=0.9, distance="squared_l2", curriculum="sqrt", s0=2, s1=150, weighting="uniform")
    continuous = Method(objective="continuous", distance="squared_l2", curriculum="constant")
    parts = dataclasses.replace(plain, machine=dataclasses.replace(plain.machine, accumulate=2))
    clipped = dataclasses.replace(plain, train=dataclasses.replace(plain.train, clip_gradient=1.0))
    methods = {"ct": ct, "continuous": continuous}
    return {
        "ict": plain,
        "ict in parts": parts,
        "ict clipped": clipped,
        **{name: dataclasses.replace(plain, method=method) for name, method in methods.items()},
    }


def train(size: int, folder: Path, names: Iterable[str]) -> None:
    """Train configurations of these names as one of the processes that the environment describes."""
    for name in names:
        config = configurations()[name]
        os.environ["ICT_REF_RENDEZVOUS"] = f"file://{folder / name}.rendezvous"
        with joined(config.machine) as group:
            assert group.size == size
            trainer = Trainer(config, load(config.data).train, group)
            trainer.share()
            losses = []
            for _ in range(STEPS):
                trainer.update()
                losses.append(float(trainer.loss))
            if group.first:
                (folder / name).mkdir()
                save_checkpoint(folder / name, trainer.checkpoint())
                (folder / name / "losses.json").write_text(json.dumps(losses))


def main() -> None:
    """Fork the processes and wait for them."""
    size, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))  # loads what forward mode needs, once
    os.environ |= {"WORLD_SIZE": str(size), "GLOO_SOCKET_IFNAME": "lo"}
    children = []
    for rank in range(size):
        if (child := os.fork()) == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            train(size, folder, sys.argv[3:])
            os._exit(0)
        children.append(child)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if __name__ == "__main__":
    main()
