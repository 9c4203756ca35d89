"""The begin of a training run in this process, by a command or in Python."""

import contextlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ict_ref.config import Config, Machine
from ict_ref.data.dataset import Dataset, Images, load
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.launch.fitting import cost, probe_update, settled
from ict_ref.launch.results import refuse_results
from ict_ref.networks.own import OwnNetwork
from ict_ref.slurm.preset_jobs import is_of_the_paper
from ict_ref.training.loggers import refuse_without_tensorboard
from ict_ref.training.loop import begin
from ict_ref.training.speed import Cost
from ict_ref.training.trackers import refuse_missing_trackers
from ict_ref.training.trainer import Trainer
from ict_ref.utils.compiler import refuse_without_compiler


@dataclass(frozen=True)
class Own:
    """The parts of a run that are the user's own, instead of those that the configuration names."""

    images: Images | None = None
    network: OwnNetwork | None = None

    @property
    def is_predictable(self) -> bool:
        """Return whether the configuration describes memory and arithmetic of an update."""
        return self.images is None and self.network is None


@dataclass(frozen=True)
class Session:
    """A run that is ready to train."""

    trainer: Trainer
    dataset: Dataset
    choice: str
    """A line about microbatches that were chosen now; empty without a new choice."""
    damaged: list[str]
    """A line per damaged checkpoint, which was set aside."""
    cost: Cost | None
    """Arithmetic of an update, if it is known."""


def open_session(
    config: Config,
    preset: str,
    place: Path,
    group: ProcessGroup,
    held: contextlib.ExitStack,
    own: Own | None = None,
) -> Session:
    """Return a run in the folder `place`, resumed from its last checkpoint; `held` keeps the lock of the folder.

    `preset` is the name of the preset, or "" for another configuration.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the folder.
        ValueError: the configuration, the data, the network or the run folder cannot be used.
        OSError: a file cannot be read or written.
    """
    own = own or Own()
    refuse_without_gpu(preset, config.machine, group.device.type)
    refuse_uncompilable(config, group.device.type)
    if config.machine.threads > 0:
        torch.set_num_threads(config.machine.threads)
    if config.record.tensorboard:
        refuse_without_tensorboard()
    refuse_missing_trackers(config.record)
    dataset = load(config.data) if own.images is None else Dataset(own.images, own.images.evenly(0))
    choice = ""
    if own.is_predictable:
        probe = partial(probe_update, examples=dataset.train, group=group)
        config, choice = settled(config, place, group, probe)
    if group.first:
        refuse_results(place)
    trainer, damaged = begin(config, dataset.train, group, place, held, network=own.network)
    return Session(trainer, dataset, choice, damaged, cost(config, group) if own.is_predictable else None)


def refuse_without_gpu(preset: str, machine: Machine, device: str) -> None:
    """Reject a run of the paper on a CPU, unless --machine.device cpu allows it.

    Raises:
        ValueError: the preset needs GPUs, and none was found.
    """
    if device == "cpu" and machine.device == "auto" and preset and is_of_the_paper(preset):
        raise ValueError(
            f"--machine.device: expected a GPU for the preset {preset}, and torch found none. "
            "Give --machine.device cpu to train on the CPU all the same."
        )


def refuse_uncompilable(config: Config, device: str) -> None:
    """Reject a compiled run on a machine without a compiler.

    Raises:
        ValueError: the compiler is not found.
    """
    if config.machine.compiles(device, config.train.steps):
        refuse_without_compiler(device, "--machine.compile", "give --machine.no-compile")
