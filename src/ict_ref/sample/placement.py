"""Options of commands that sample from a model: device, processes and SLURM job. This module does not import torch."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ict_ref.config.cluster import cluster_options
from ict_ref.config.old_names import with_current_names
from ict_ref.distributed.local_launcher import processes_to_start, supervise
from ict_ref.slurm.cluster_file import job_of, read_cluster_file
from ict_ref.slurm.options import Job, Placement
from ict_ref.utils.command_line import MOST_PROCESSES, expect_count
from ict_ref.utils.option_parser import Given


@dataclass(frozen=True, kw_only=True)
class ModelPlacement(Placement):
    """Device, processes and SLURM job of a command that samples from a model."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of all computations; auto: every visible GPU, else the CPU."""
    threads: int = 0
    """CPU threads per process; 0: torch's default."""

    def refuse_placement(self) -> None:
        """Reject negative numbers, and options of jobs without --slurm.

        Raises:
            ValueError: A value is not allowed, or an option contradicts another.
        """
        expect_count(self.threads, "--threads", 0, MOST_PROCESSES)
        self.refuse_contradictions("dry_run", "profile")


def job_of_command(given: Given) -> Job:
    """Return the job of a command with the options `given`: that of the cluster file, with the options of the job.

    Raises:
        ValueError: The cluster file or an option of the job cannot be used.
        OSError: The cluster file cannot be read.
    """
    file = read_cluster_file(given.get(("profile",)), cluster_options(), with_current_names)
    return job_of(Job(), file, given, gpus=given.get(("device",)) != "cpu")


def dispatched(
    name: str, given: Sequence[str], options: ModelPlacement, here: Callable[[], int], submit: Callable[[], int]
) -> int:
    """Run the command `name` in this process, in several or as a SLURM job, and return the exit status.

    `here` runs it in this process, and `submit` submits its job. Several processes get the same arguments `given`.
    """
    if options.slurm:
        return submit()
    if (count := processes_to_start(options.processes, options.device)) > 1:
        return supervise([sys.executable, "-m", name, *given], count, name=name)
    return here()
