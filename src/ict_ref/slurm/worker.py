"""What is done as a SLURM job, and what each process of one does: submitit finds it on its node and calls it."""

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

# Asked to stop, a process has saved and then waits to be ended: whoever ends it, or starts it again, is in charge.
STOPPED_BY_SLURM = (128 + signal.SIGTERM, 128 + signal.SIGUSR2)

# Seconds until what the first process has written is seen on the other nodes.
PATIENCE = 300.0


class RunFailedError(Exception):
    """A process ended with this exit status; it has said why."""


@dataclass(frozen=True)
class SlurmTask:
    """What a command has done by a job; done again where it was stopped, it goes on."""

    name: str
    """What the command calls itself when it speaks."""
    folder: Path
    """Where its logs go, below slurm; all nodes see it."""
    kind: str
    """What that folder is called."""
    job: Job
    action: Callable[[], int]
    """What each process does; returns an exit status. Found by its name on the nodes."""
    total: int
    """Number of units that `progress` counts."""
    progress: Callable[[], tuple[int, str]]
    """Number of finished units, and a word on them."""
    unit: str = "steps"


class Task:
    """Work as a job; started again by SLURM, it is the same work.

    SIGUSR2, at the time limit, saves at the end of the step in all processes, and then the first one queues the job
    again. SIGTERM (requeued by hand, preempted, cancelled) saves likewise and queues nothing: SLURM knows whether the
    job shall run again.
    """

    def __init__(self, action: Callable[[], int]) -> None:
        self.action = action

    def __call__(self) -> int:
        """Run this process's share and return the exit status 0; raises RunFailedError for any other."""
        # submitit's own, which calls `checkpoint` and queues the job again.
        queue_again = signal.getsignal(signal.SIGUSR2)
        here = submitit.JobEnvironment()
        end = ending(here.paths.folder, here.job_id, here.global_rank)
        end.unlink(missing_ok=True)  # of the start before
        submitit.helpers.TorchDistributedEnvironment().export(overwrite=True, set_cuda_visible_devices=False)
        start = os.environ.get("SLURM_RESTART_COUNT", "0")
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
        """Return what is queued again. Nothing is saved here: the work has saved itself."""
        return submitit.helpers.DelayedSubmission(self)


def agreed_port(file: Path, *, first: bool) -> str:
    """Return a port that was free on the first process's node, which writes it for the others.

    submitit's is a function of the job's number, and may be somebody else's.
    """
    if first:
        with socket.socket() as some:
            some.bind(("", 0))
            write_atomically(file, str(some.getsockname()[1]).encode())
    until = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{file} is not there: is the run folder one that all nodes see?")
        time.sleep(0.1)
    return file.read_text()


def ending(folder: Path, job_id: str, rank: int) -> Path:
    """Return where a process of a job notes how it ended, in JSON; a file that is read here executes nothing."""
    return folder / f"{job_id}_{rank}_ended.json"
