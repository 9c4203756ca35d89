"""One run in several processes: who of them does what, and what they tell each other.

Each takes an equal share of the batch's lanes. Random numbers belong to lanes, so that 1, 2 or 4 processes draw the
same ones; gradients are averaged by torch's DistributedDataParallel. Who starts the processes (`ict_ref.launch`,
torchrun, SLURM) tells them by the environment variables RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from ict_ref.config import Machine
from ict_ref.utils.signals import RENDEZVOUS, LostProcessError, started_by_launcher

CPU = torch.device("cpu")
# How long one waits for another, which may be sampling, writing a checkpoint or compiling.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of the run: by default it is alone, on the CPU."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def first(self) -> bool:
        """Return whether this is the process that writes files and speaks."""
        return self.rank == 0

    def parts(self, lanes: int, accumulate: int) -> list[range]:
        """Return the lanes of this process, in equal parts that are computed one after the other."""
        if lanes % (self.size * accumulate):
            processes = "one process" if self.size == 1 else f"{self.size} processes, each"
            raise ValueError(
                f"train.lanes needs a multiple of {self.size * accumulate} ({processes} with {accumulate} parts by "
                f"machine.accumulate); got {lanes}; another number of lanes is another run"
            )
        count = lanes // (self.size * accumulate)
        starts = range(self.rank * count * accumulate, (self.rank + 1) * count * accumulate, count)
        return [range(start, start + count) for start in starts]

    def mean_(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the mean over all processes, in the tensor's place. The host does not wait for it."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def any(self, flag: bool) -> bool:
        """Return whether it is true in any process. Goes by the hosts alone: no device is waited for."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)])
        dist.all_reduce(flags)
        return float(flags[0]) > 0

    def share_(self, tensors: Iterable[Shaped[Tensor, "..."]]) -> None:
        """Give the tensors of every process the values that the first one has."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


@contextlib.contextmanager
def joined(machine: Machine) -> Iterator[ProcessGroup]:
    """Join the processes of the run, and leave them when the block ends.

    Raises ValueError if the device does not exist, and LostProcessError if another process ends early.
    """
    rank, size, local = (int(os.environ.get(name, default)) for name, default in VARIABLES)
    device = _device(machine, local)
    if size == 1:
        yield ProcessGroup(0, 1, device)
        return
    _stop_with_parent()
    # One group for both: gradients go between devices, flags between hosts.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    method = os.environ.get(RENDEZVOUS, "env://")
    with _lost_processes_named():
        dist.init_process_group(backend, init_method=method, rank=rank, world_size=size, timeout=PATIENCE)
        try:
            yield ProcessGroup(rank, size, device)
        finally:
            dist.destroy_process_group()


VARIABLES = (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))


@contextlib.contextmanager
def _lost_processes_named() -> Iterator[None]:
    """Raise LostProcessError for an error of the communication with other processes."""
    try:
        yield
    except RuntimeError as error:
        # gloo raises a bare RuntimeError, also in the backward pass of DistributedDataParallel, where no call of ours
        # can be wrapped: only its words distinguish it from other errors.
        of_gloo = any(word in str(error).lower() for word in ("gloo", "connection"))
        if not (of_gloo or isinstance(error, dist.DistError)):
            raise
        raise LostProcessError(str(error)) from error


def _device(machine: Machine, local: int) -> torch.device:
    visible = torch.cuda.device_count()
    if machine.device == "cpu" or (machine.device == "auto" and visible == 0):
        return torch.device("cpu")
    if local >= visible:
        raise ValueError(
            f"machine.device cuda needs a GPU for each process of a machine; process {local} has none, of {visible}; "
            "start fewer, or give --machine.device cpu"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


def _stop_with_parent() -> None:
    """Have this process told to stop (SIGTERM) when the one that started it is gone, however it went."""
    if sys.platform == "linux" and started_by_launcher():
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
