"""Submission of work as a SLURM job: the option --slurm of commands."""

import contextlib
import io
import os
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from ict_ref.slurm.follow import follow_job, job_state
from ict_ref.slurm.worker import SlurmTask, Task
from ict_ref.utils.printable import printable, printable_lines

# A job queues itself again at every time limit; submitit requires a maximum.
AS_OFTEN_AS_IT_TAKES = 100_000


def submit(work: SlurmTask, *, wait: bool) -> int:
    """Submit the work and return the exit status of the submission, or with `wait` that of the work.

    Raises:
        ValueError: SLURM is not available or rejects the job, or a job of the same work is in the queue.
        OSError: The folder cannot be written.
    """
    refuse_a_second_job(work.folder)
    job = _submitted(work)
    log = job.paths.folder / f"{job.job_id}_0_log.out"
    nodes, processes = (_number(n, word) for n, word in ((work.job.nodes, "node"), (work.job.processes, "process")))
    print(f"job {job.job_id} submitted: {nodes}, {processes}")
    print(printable_lines(f"{work.kind:<10} {work.folder}\nlog        {log}"))
    print(
        printable(f"follow it  tail -F {log}   (or squeue -j {job.job_id}; end it with scancel {job.job_id})"),
        flush=True,
    )
    return follow_job(job, work) if wait else 0


def refuse_a_second_job(folder: Path) -> None:
    """Reject work in a folder in which a job in the queue works already.

    Raises:
        ValueError: A job of the same folder is in the queue.
    """
    for place in sorted((folder / "slurm").glob("*")):
        job = place.name
        if job.isdecimal() and (state := job_state(job)) not in (None, "UNKNOWN"):
            raise ValueError(
                f"--slurm: expected no job of {folder} in the queue, got job {job} ({state}). "
                f"Follow it with squeue -j {job}, or end it with scancel {job} first."
            )


def job_folder(work: SlurmTask) -> Path:
    """Return the folder of submitit's logs and results; %j is the job's number."""
    return work.folder / "slurm" / "%j"


class Executor(submitit.SlurmExecutor):
    """submitit's executor, which here writes the sbatch file on a machine without SLURM too."""

    @classmethod
    def affinity(cls) -> int:
        """Return a positive number: whether SLURM is there is checked before a submission."""
        return 1

    def text(self) -> str:
        """Return the content of the file for sbatch."""
        text: str = self._make_submission_file_text(self._submitit_command_str, "")
        return text


def executor(work: SlurmTask) -> Executor:
    """Return the executor of the work, with the parameters of its job."""
    job = work.job
    more: dict[str, Any] = {"requeue": True}
    for option in job.sbatch:
        name, _, value = option.lstrip("-").partition("=")
        more[name] = value or True
    typed = job.gpus_per_node > 0 and job.gpu_type
    if typed:
        more["gpus-per-node"] = f"{job.gpu_type}:{job.gpus_per_node}"
    wanted = {
        "partition": job.partition, "account": job.account, "qos": job.qos,
        "constraint": job.constraint, "gpus_per_node": 0 if typed else job.gpus_per_node,
    }  # fmt: skip
    made = Executor(job_folder(work), max_num_timeout=AS_OFTEN_AS_IT_TAKES)
    made.update_parameters(
        job_name=work.folder.name,
        nodes=job.nodes,
        ntasks_per_node=job.tasks,
        cpus_per_task=job.cpus_per_process,
        mem=f"{job.memory_gb}GB",
        time=job.minutes,
        stderr_to_stdout=True,
        signal_delay_s=job.signal_seconds,
        # The end of one process ends the others, which would otherwise wait for it.
        srun_args=["--kill-on-bad-exit=1", f"--cpus-per-task={job.cpus_per_process}"],
        setup=["export PYTHONSAFEPATH=1", "set -e", *job.setup],
        additional_parameters=more,
        wckey=None,  # clusters that account by it reject submitit's own
        **{name: value for name, value in wanted.items() if value},
    )
    return made


def _submitted(work: SlurmTask) -> submitit.Job[int]:
    before = set(work.folder.glob("slurm/*"))
    cluster = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    try:
        # A submission from within a job must not inherit its environment. submitit prints sbatch's errors again.
        with contextlib.redirect_stderr(io.StringIO()), submitit.helpers.clean_env():
            os.environ |= cluster
            job = executor(work).submit(Task(work.action))
    except (FailedJobError, FailedSubmissionError) as error:
        _remove_new_files(work.folder, before)
        raise ValueError(f"sbatch rejects the job: {_errors_of_sbatch(str(error))}") from None
    for link in (work.folder / "slurm").glob(".submission_file_*"):
        link.unlink()  # submitit's link to the file that is in the job's folder
    return job


def _remove_new_files(folder: Path, before: set[Path]) -> None:
    """Remove what a rejected submission has left in a run folder, and the folder if it is new."""
    for left in set(folder.glob("slurm/*")) - before:
        left.unlink()
    for place in (folder / "slurm", folder):
        with contextlib.suppress(OSError):  # the folder has other files
            place.rmdir()


OPTIONS_OF_ERRORS = {
    "partition": "--job.partition", "feature": "--job.constraint", "account": "--job.account", "qos": "--job.qos",
    "unrecognized option": "--job.sbatch", "invalid option": "--job.sbatch", "time limit": "--job.minutes",
    "memory": "--job.memory-gb", "gres": "--job.gpu-type and --job.gpus-per-node",
    "node configuration": "--job.nodes, --job.gpus-per-node and --job.cpus-per-process",
}  # fmt: skip
"""Options of a job by words in the errors of sbatch."""


def _errors_of_sbatch(text: str) -> str:
    """Return the errors of sbatch on one line, with the options that they concern, if their words are known."""
    lines = [line.split("error:", 1)[-1].strip() for line in text.splitlines() if "error:" in line]
    said = "; ".join(dict.fromkeys(lines)) or " ".join(text.split())
    if any(words in said for words in ("Unable to contact", "DNS SRV", "stat file")):
        return f"SLURM's controller does not answer; check SLURM_CONF and that this machine is in the cluster ({said})"
    options = [option for words, option in OPTIONS_OF_ERRORS.items() if words in said.lower()]
    return f"{said}. Change {options[0]}." if options else said


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}{'es' if word.endswith('s') else 's'}"
