"""The process group of a run: its size, the rank of this process, and the collective operations.

Each process takes an equal number of the batch's noise shards. Random numbers belong to shards, so 1, 2 or 4 processes
sample the same ones.

The launcher, torchrun or SLURM starts the processes. They read the environment variables RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT.
"""

import atexit
import contextlib
import ctypes
import hashlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor

from ict_ref.config import Machine
from ict_ref.utils.command_line import expect
from ict_ref.utils.environment import group_numbers, whole_number
from ict_ref.utils.signals import RENDEZVOUS, LostProcessError, started_by_launcher

T = TypeVar("T")
CPU = torch.device("cpu")
# Time to wait for another process, which may be sampling, writing a checkpoint or compiling.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of a run, seen from one of them; by default one process on the CPU."""

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    stop: Callable[[], int | None] = field(default=lambda: None, compare=False)
    """Function that returns the signal that has requested a stop of this process, or None."""

    @property
    def first(self) -> bool:
        """Return whether this process writes files and messages."""
        return self.rank == 0

    def microbatches(self, noise_shards: int, accumulate: int) -> list[range]:
        """Return the noise shards of this process, one range for each of its `accumulate` microbatches.

        Raises:
            ValueError: the shards cannot be divided evenly.
        """
        if noise_shards % (self.size * accumulate):
            processes = "1 process" if self.size == 1 else f"{self.size} processes"
            raise ValueError(
                f"--train.noise-shards: expected a multiple of {self.size * accumulate} ({processes} with {accumulate} "
                f"microbatch{'es' if accumulate > 1 else ''} each, --machine.accumulate), got {noise_shards}. "
                "Change the number of processes or GPUs; another number of noise shards is another run."
            )
        count = noise_shards // (self.size * accumulate)
        starts = range(self.rank * count * accumulate, (self.rank + 1) * count * accumulate, count)
        return [range(start, start + count) for start in starts]

    def mean_(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Replace the tensor by its mean over all processes, and return it. The host does not wait for the result."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in any process, without synchronising with a GPU."""
        if self.size == 1:
            return flag
        flags = torch.tensor([float(flag)])
        dist.all_reduce(flags)
        return float(flags[0]) > 0

    def stop_if_requested(self) -> None:
        """End the work of all processes if a signal has requested a stop of one of them.

        Raises:
            KeyboardInterrupt: A stop was requested. Its argument is the signal, SIGTERM in a process without one.
        """
        number = self.stop()
        if self.any(number is not None):
            raise KeyboardInterrupt(number or signal.SIGTERM)

    def gathered(self, value: T) -> list[T]:
        """Return the values of all processes in the order of their ranks; an empty list in all but the first process.

        Values are pickled and travel between hosts, not between GPUs.
        """
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(value, values)
        return values or []

    def least(self, value: int) -> int:
        """Return the smallest value of all processes."""
        if self.size == 1:
            return value
        values = torch.tensor([value])
        dist.all_reduce(values, dist.ReduceOp.MIN)
        return int(values[0])

    def share_(self, tensors: Iterable[Shaped[Tensor, "..."]]) -> None:
        """Copy the tensors of the first process into those of all others."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


@contextlib.contextmanager
def joined(machine: Machine, *, option: str = "--machine.device") -> Iterator[ProcessGroup]:
    """Join the process group that the environment describes, and leave it when the block ends.

    After an error in the block this process ends without waiting for others, and cannot join another group.

    `option` is the option of the device in a message.

    Raises:
        ValueError: the requested device does not exist.
        LostProcessError: another process ended early.
    """
    if machine.deterministic:
        use_deterministic_operations()
    numbers = group_numbers()
    rank, size = numbers.rank, numbers.size
    device = _device(machine, numbers.local_rank, option)
    if machine.deterministic and device.type == "cuda":
        use_plain_attention()
    if size == 1:
        yield ProcessGroup(0, 1, device)
        return
    _stop_with_parent()
    # One group with two backends: gradients move between devices, flags between hosts.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _lost_processes_named():
        _connect(backend, rank, size)
        try:
            if device.type == "cuda":
                refuse_shared_gpus(_gathered(_gpu_key(device), size), option)
            yield ProcessGroup(rank, size, device)
        except BaseException:
            _exit_without_peers()
            raise
        dist.destroy_process_group()


def _exit_without_peers() -> None:
    """Let this process end at once when its caller has reported an error.

    Both `destroy_process_group` and torch's threads at a normal exit wait for collective operations that have begun.
    Other processes would complete them only after their own next steps, or never.
    """
    atexit.register(os._exit, 1)  # after the traceback; `leave` exits with another status before


def _connect(backend: str, rank: int, size: int) -> None:
    """Connect to the other processes, by the file of our launcher or by MASTER_ADDR and MASTER_PORT.

    Raises:
        ValueError: A variable is missing or has another form, the host is not found, or the port cannot be used.
    """
    method = os.environ.get(RENDEZVOUS)
    if method is None:
        _refuse_unknown_host()
    try:
        dist.init_process_group(backend, init_method=method or "env://", rank=rank, world_size=size, timeout=TIMEOUT)
    except dist.DistNetworkError as error:
        found = CANNOT_LISTEN.search(str(error))
        if found is None:
            raise
        host, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
        expected = f"a port that the first process can open on {host}"
        raise ValueError(
            f"$MASTER_PORT: expected {expected}, got {port} ({found[0].lower()}). Choose another MASTER_PORT."
        ) from None


CANNOT_LISTEN = re.compile("address already in use|permission denied|cannot assign requested address", re.IGNORECASE)
"""Reasons of the operating system why the first process cannot listen."""
RESOLVE_S = 10.0
"""Seconds to wait for the name of the first process's host, which a cluster may register with a delay."""


def _refuse_unknown_host() -> None:
    """Reject a MASTER_ADDR that has no address, and a MASTER_PORT that is not a port.

    Raises:
        ValueError: A variable is missing, or cannot be used. The message names it.
    """
    port = whole_number("MASTER_PORT", None, 1, 65535)
    host = os.environ.get("MASTER_ADDR", "")
    until = time.monotonic() + RESOLVE_S
    while True:
        try:
            expect(bool(host), "$MASTER_ADDR", "the host of the first process", "nothing", "Set it, or use torchrun.")
            socket.getaddrinfo(host, port)
            return
        except (socket.gaierror, UnicodeError) as error:
            if time.monotonic() > until or isinstance(error, UnicodeError):
                reason = getattr(error, "strerror", None) or error
                raise ValueError(
                    f"$MASTER_ADDR: expected a host that can be found, got {host} ({reason}). Correct it."
                ) from None
            time.sleep(0.5)


@contextlib.contextmanager
def _lost_processes_named() -> Iterator[None]:
    """Raise LostProcessError for an error of the communication with other processes."""
    try:
        yield
    except RuntimeError as error:
        # gloo raises a bare RuntimeError, also in hooks of the backward pass: only its words distinguish it from other
        # errors.
        of_gloo = any(word in str(error).lower() for word in ("gloo", "connection"))
        if not (of_gloo or isinstance(error, dist.DistError)):
            raise
        raise LostProcessError(str(error)) from error


CUBLAS = (":4096:8", ":16:8")
"""Workspaces with which cuBLAS is deterministic."""


def use_deterministic_operations() -> None:
    """Let torch use only operations that it calls deterministic, and raise an error for others.

    Source: "Reproducibility" in PyTorch's notes. cuBLAS reads the variable at its first product.
    """
    chosen = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", CUBLAS[0])
    expect(chosen in CUBLAS, "$CUBLAS_WORKSPACE_CONFIG", " or ".join(CUBLAS), chosen, "Correct or unset it.")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False


def use_plain_attention() -> None:
    """Let torch compute attention by matrix products: its faster forms on GPUs may add with atomic operations."""
    torch.backends.cuda.enable_math_sdp(True)
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_mem_efficient_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def _device(machine: Machine, local: int, option: str) -> torch.device:
    """Return the device of the process with this local rank.

    A process that sees one GPU takes it: SLURM and containers may show each process its own. That no two processes
    take the same one is checked once they are connected.

    Raises:
        ValueError: several GPUs are visible, but fewer than the processes of this machine.
    """
    visible = torch.cuda.device_count()
    if machine.device == "cpu" or (machine.device == "auto" and visible == 0):
        return torch.device("cpu")
    number = 0 if visible == 1 else local
    if number >= visible:
        raise ValueError(
            f"{option}: expected a GPU for each process of a machine, got {visible} for {local + 1} or more "
            f"processes. Start fewer processes, or give {option} cpu."
        )
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    return device


def refuse_shared_gpus(keys: Sequence[int], option: str) -> None:
    """Reject processes that take the same GPU. `keys` identify the GPU of each rank.

    Raises:
        ValueError: two processes have the same key.
    """
    for rank, key in enumerate(keys):
        if (first := keys.index(key)) < rank:
            raise ValueError(
                f"{option}: expected a GPU for each process, got the same one for processes {first} and {rank}. "
                "Start fewer processes, or show each process its own GPU."
            )


def _gpu_key(device: torch.device) -> int:
    """Return 63 bits that identify a GPU among those of all machines."""
    identity = f"{socket.gethostname()} {torch.cuda.get_device_properties(device).uuid}"
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") >> 1


def _gathered(key: int, size: int) -> list[int]:
    """Return the keys of all processes, in the order of their ranks."""
    keys = [torch.zeros((), dtype=torch.int64) for _ in range(size)]
    dist.all_gather(keys, torch.tensor(key))
    return [int(one) for one in keys]


def _stop_with_parent() -> None:
    """Let the kernel send SIGTERM to this process when its parent process ends."""
    if sys.platform == "linux" and started_by_launcher():
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
