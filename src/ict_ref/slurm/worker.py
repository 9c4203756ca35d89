"""Resumable work as a SLURM job, and the function that submitit calls in each process of the job."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import submitit

from ict_ref.slurm.options import Job
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.command_line import FAILED
from ict_ref.utils.environment import whole_number
from ict_ref.utils.regular_file import read_regular

# Exit statuses of work that has saved after a signal of SLURM. Its process then waits until SLURM ends it.
STOPPED_BY_SLURM = (128 + signal.SIGTERM, 128 + signal.SIGUSR2)

# Seconds to wait until the other nodes see a file of the first process.
PATIENCE = 300.0
# Largest file of a port in bytes.
LARGEST_PORT = 16


class RunFailedError(Exception):
    """An exit status other than 0 whose reason the process has already printed."""


@dataclass(frozen=True)
class SlurmTask:
    """A resumable unit of work that a command runs as a SLURM job."""

    name: str
    """Name of the command in its messages."""
    folder: Path
    """Folder that all nodes share; its subfolder slurm holds the logs."""
    kind: str
    """Description of the folder, such as "run folder"."""
    job: Job
    action: Callable[[], int]
    """Function that each process calls, which returns an exit status. The nodes import it by name."""
    total: int
    """Number of units that `progress` counts."""
    progress: Callable[[], tuple[int, str]]
    """Function that returns the number of finished units and a short description."""
    unit: str = "steps"


class Task:
    """A callable for submitit that runs an action and queues its job again at the time limit.

    On SIGUSR2, at the time limit, all processes save at the end of the step, and the first one queues the job again.
    On SIGTERM (requeued, preempted or cancelled) they save and queue nothing, because SLURM decides on a restart.
    """

    def __init__(self, action: Callable[[], int]) -> None:
        self.action = action

    def __call__(self) -> int:
        """Run the action in this process and return the exit status 0.

        Raises:
            RunFailedError: The action returned another exit status.
        """
        # This handler of submitit calls `checkpoint` and queues the job again.
        queue_again = signal.getsignal(signal.SIGUSR2)
        here = submitit.JobEnvironment()
        end = ending(here.paths.folder, here.job_id, here.global_rank)
        end.unlink(missing_ok=True)  # the result of an earlier start
        submitit.helpers.TorchDistributedEnvironment().export(overwrite=True, set_cuda_visible_devices=False)
        start = whole_number("SLURM_RESTART_COUNT", 0, 0)
        os.environ["MASTER_PORT"] = agreed_port(
            here.paths.folder / f"{here.job_id}_port_{start}", first=here.global_rank == 0
        )
        try:
            status = self.action()
        except BaseException as error:
            write_atomically(end, json.dumps({"status": FAILED, "error": f"{type(error).__name__}: {error}"}).encode())
            raise
        if status in STOPPED_BY_SLURM:
            if status == 128 + signal.SIGUSR2 and callable(queue_again):
                queue_again(signal.SIGUSR2, None)
            sys.stdout.flush()
            while True:
                time.sleep(60)
        write_atomically(end, json.dumps({"status": status}).encode())
        if status:
            raise RunFailedError(f"exit status {status}")
        return status

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return the submission that is queued again; the action has already saved its state."""
        return submitit.helpers.DelayedSubmission(self)


def agreed_port(file: Path, *, first: bool) -> str:
    """Return a free port on the node of the first process, which writes it to `file` for the others.

    submitit derives its port from the job's number, so that port may be in use.

    Raises:
        TimeoutError: The file does not appear in time.
    """
    if first:
        with socket.socket() as some:
            some.bind(("", 0))
            write_atomically(file, str(some.getsockname()[1]).encode())
    until = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{file} does not appear on this node. Use a run folder that all nodes share.")
        time.sleep(0.1)
    return read_regular(file, LARGEST_PORT).decode()


def ending(folder: Path, job_id: str, rank: int) -> Path:
    """Return the path of a process's result file, which is JSON, so that reading it executes no code."""
    return folder / f"{job_id}_{rank}_ended.json"
