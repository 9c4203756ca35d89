"""Progress of a submitted job until it ends, and the process that failed."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import submitit
from tqdm import tqdm

from ict_ref.slurm.worker import RunFailedError, SlurmTask, ending
from ict_ref.utils.command_line import say
from ict_ref.utils.json_file import entry, read_json
from ict_ref.utils.printable import printable
from ict_ref.utils.progress import bar
from ict_ref.utils.regular_file import read_regular
from ict_ref.utils.signals import LOST

# Seconds between two reads of the queue and the metrics.
PAUSE = 2.0
# Seconds to wait for the result file of a process that has ended.
LATE = 10.0
LAST_LINES = 12
# Exit status of a cancelled job, which ends by SIGTERM.
CANCELLED = 128 + signal.SIGTERM


def follow_job(job: "submitit.Job[int]", work: SlurmTask) -> int:
    """Show the progress of the work until its job leaves SLURM's queue, and return its exit status.

    SLURM restarts the job after a node failure, a preemption or a time limit, and following continues. Ctrl-C stops
    following, not the job.
    """
    try:
        with job_bar(job.job_id, work) as shown:
            while (state := job_state(job.job_id)) is not None:
                show(shown, state, work)
                time.sleep(PAUSE)
            show(shown, "ended", work)
    except KeyboardInterrupt:
        return say(work.name, 130, f"job {job.job_id} continues; end it with scancel {job.job_id}")
    return _verdict(job, work)


def job_state(job_id: str) -> str | None:
    """Return the job's state, or None if the job has ended; UNKNOWN means that the controller did not answer."""
    state = _last_state(job_id)
    return None if state in ENDED else state


def _last_state(job_id: str) -> str:
    """Return the job's current or final state; COMPLETED for a job that SLURM has forgotten."""
    command = ["squeue", "-h", "-j", job_id, "-t", "all", "-o", "%T %r"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own command)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return "UNKNOWN"
    state, _, reason = (asked.stdout.splitlines() or ["COMPLETED"])[0].partition(" ")
    # The reason is shown because some reasons never end without the user.
    return f"PENDING ({reason})" if state == "PENDING" and reason not in ("", "None") else state


ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT")


def job_bar(job_id: str, work: SlurmTask) -> "tqdm[Any]":
    """Return a progress bar for the work, which an earlier job may have begun."""
    done, _ = work.progress()
    return bar(work.total, f"job {job_id}", work.unit, initial=done, run=True)


def show(shown: "tqdm[Any]", state: str, work: SlurmTask) -> None:
    """Show the state of the job and the progress of its work, with the time that the rest needs at this job's speed."""
    done, words = work.progress()
    if state.startswith("PENDING") or done < shown.n:  # restarted work resumes from its last checkpoint
        shown.initial, shown.start_t = done, time.time()
    shown.n = shown.last_print_n = done  # for tqdm nothing is new, so that it uses the average speed since start_t
    shown.set_postfix_str(", ".join(filter(None, (state, words))), refresh=False)
    shown.update(0)


def _verdict(job: "submitit.Job[int]", work: SlurmTask) -> int:
    """Return the exit status of the work; after a failure, print the end of the log of the process that failed."""
    if _last_state(job.job_id) == "CANCELLED":
        cancelled = f"job {job.job_id} was cancelled; the same command resumes from the last checkpoint"
        return say(work.name, CANCELLED, cancelled)
    until = time.monotonic() + LATE
    ends = [_end(job.paths.folder, job.job_id, rank, until) for rank in range(work.job.processes)]
    outcomes = [None if end is None else _outcome(end) for end in ends]
    if all(outcome == "" for outcome in outcomes):
        print(printable(f"job {job.job_id} has ended; see {work.folder}"))
        return 0
    rank = _first_failed_rank(outcomes, _log(job, 0))
    tail = "\n".join(_relevant_lines(_log(job, rank))[-LAST_LINES:])
    said = outcomes[rank] or "left no result"
    print(
        f"{tail}\n{work.name}: job {job.job_id} has failed in process {rank} of {len(outcomes)}: {said}; "
        f"its log is {_log_file(job, rank)}",
        file=sys.stderr,
    )
    end = ends[rank]
    return 1 if end is None else int(end["status"]) or 1


def _relevant_lines(log: str) -> list[str]:
    """Return the lines of a log, without the traceback of a RunFailedError, whose reason is already in the log."""
    lines = log.splitlines()
    if f"{RunFailedError.__name__}: " in log:
        first = next((k for k, line in enumerate(lines) if line.startswith("Traceback ")), len(lines))
        lines = [line for line in lines[:first] if not line.startswith("submitit ERROR")]
    return lines


def _end(folder: Path, job_id: str, rank: int, until: float) -> dict[str, Any] | None:
    """Return the content of a process's result file, or None if it does not appear in time."""
    file = ending(folder, job_id, rank)
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.2)
    if not file.exists():
        return None
    end = read_json(file, "Submit the job again.")
    entry(end, "status", int, f"{file}: ")
    return end


def _outcome(end: dict[str, Any]) -> str:
    """Return "" for a process that succeeded, else its error or exit status."""
    return str(end.get("error", f"exit status {end['status']}")) if end["status"] else ""


def _first_failed_rank(outcomes: list[str | None], log: str) -> int:
    """Return the rank that failed first: the first with an error in its result file, else one without a result.

    Among several ranks without a result it is the one that srun names first in the log of rank 0. Ranks that ended only
    because another process was lost are not considered.
    """
    failed = [rank for rank, outcome in enumerate(outcomes) if outcome not in ("", f"exit status {LOST}")]
    with_error = [rank for rank in failed if outcomes[rank] is not None]
    named = [rank for rank in _ranks_named_by_srun(log) if rank in failed]
    return next(iter(with_error or named or failed), 0)


def _ranks_named_by_srun(log: str) -> list[int]:
    """Return the ranks in srun's messages, such as "srun: error: node1: task 3: Killed", in their order."""
    errors = [line for line in log.splitlines() if line.startswith("srun: error:")]
    ranks = [line.partition(": task ")[2].partition(":")[0] for line in errors]
    return [int(rank) for rank in ranks if rank.isdigit()]


def _log(job: "submitit.Job[int]", rank: int) -> str:
    path = _log_file(job, rank)
    return read_regular(path).decode(errors="replace") if path.exists() else ""


def _log_file(job: "submitit.Job[int]", rank: int) -> Path:
    return job.paths.folder / f"{job.job_id}_{rank}_log.out"
