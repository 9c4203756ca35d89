"""Submit one run of ict_ref as a job of one process: `python slurm/submit.py --partition cpu -- --config digits`.

What follows `--` are the arguments of `python -m ict_ref.launch`. The job goes on from the run's last checkpoint when
SLURM starts it again: requeued by hand, preempted, or at its time limit, where it requeues itself.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import submitit

from ict_ref.launch import main
from ict_ref.options import parse
from ict_ref.run_folder import open_run
from ict_ref.step import refuse_bad_numbers


class Run:
    """A run of the launcher, as a job; requeued, it is the same run."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.arguments = list(arguments)

    def __call__(self) -> int:
        """Train, sample and score, and return the launcher's exit status."""
        return main(self.arguments)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what to submit at the time limit. Nothing is saved here: the run saves itself every few steps."""
        return submitit.helpers.DelayedSubmission(self)


def submit(arguments: Sequence[str]) -> int:
    """Submit the job, say where to look, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python slurm/submit.py", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--cluster", choices=["slurm", "local"], default="slurm", help="local: a process of this machine"
    )
    parser.add_argument("--partition", help="SLURM partition (default: the cluster's own)")
    parser.add_argument("--account", help="SLURM account (default: yours)")
    parser.add_argument("--minutes", type=positive, default=60, help="time limit of one start (default: %(default)s)")
    parser.add_argument("--memory-gb", type=positive, default=4, help="memory of the job (default: %(default)s)")
    parser.add_argument("--wait", action="store_true", help="wait for the end and return the run's exit status")
    parser.add_argument("launch", nargs="+", metavar="-- ARGUMENT", help="arguments of python -m ict_ref.launch")
    options = parser.parse_args(arguments)
    try:
        launch = parse(options.launch)
        refuse_bad_numbers(launch.config)  # here, not hours later in the queue
        folder = launch.folder()
        with open_run(folder, launch.config):
            pass
        if options.cluster == "slurm" and shutil.which("sbatch") is None:
            raise ValueError("this machine has no sbatch; submit where SLURM is, or use --cluster local")
        executor = submitit.AutoExecutor(folder=Path("logs") / "%j", cluster=options.cluster)
        executor.update_parameters(
            name=folder.name,
            timeout_min=options.minutes,
            mem_gb=options.memory_gb,
            stderr_to_stdout=True,
            slurm_partition=options.partition,
            slurm_account=options.account,
            slurm_additional_parameters={"requeue": True},
        )
        job = executor.submit(Run(options.launch))
    except (ValueError, OSError, submitit.core.utils.FailedJobError) as error:
        return say(2, str(error))
    print(f"job {job.job_id}, log {job.paths.stdout}, run folder {folder}")
    try:
        return int(job.result()) if options.wait else 0
    except submitit.core.utils.UncompletedJobError:
        return say(1, f"job {job.job_id} ended without a result; see {job.paths.stdout}")


def say(status: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    print(f"slurm/submit.py: {' '.join(message.split())}", file=sys.stderr)
    return status


def positive(text: str) -> int:
    """Return the number, which must be at least 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


if __name__ == "__main__":
    sys.exit(submit(sys.argv[1:]))
