"""Follows a submitted job to its end: how far it is, and who failed if it did."""

import json
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
from ict_ref.utils.progress import bar
from ict_ref.utils.signals import LOST

# Seconds between looks at the queue and at the metrics.
PAUSE = 2.0
# How long to wait for the file in which a process that has ended says how.
LATE = 10.0
LAST_LINES = 12
# The exit status of what is cancelled: that of SIGTERM, by which it ends.
CANCELLED = 128 + signal.SIGTERM


def follow_job(job: "submitit.Job[int]", work: SlurmTask) -> int:
    """Show the work's progress until SLURM has the job no more, and return its exit status.

    A node that fails, a preemption or a time limit is no end: SLURM starts the job again. Ctrl-C stops following, not
    the job.
    """
    try:
        with bar(work.total, f"job {job.job_id}", work.unit, run=True) as shown:
            while (state := job_state(job.job_id)) is not None:
                _show(shown, state, work)
                time.sleep(PAUSE)
            _show(shown, "ended", work)
    except KeyboardInterrupt:
        return say(work.name, 130, f"job {job.job_id} goes on; scancel {job.job_id} ends it")
    return _verdict(job, work)


def job_state(job_id: str) -> str | None:
    """Return what SLURM does with the job, None if it has ended. A controller that does not answer is asked again."""
    state = _last_state(job_id)
    return None if state in ENDED else state


def _last_state(job_id: str) -> str:
    """Return the job's state, also one that it ended in; COMPLETED if SLURM knows no more of it."""
    command = ["squeue", "-h", "-j", job_id, "-t", "all", "-o", "%T %r"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own command)
    if asked.returncode and "Invalid job id" not in asked.stderr:
        return "UNKNOWN"
    state, _, reason = (asked.stdout.splitlines() or ["COMPLETED"])[0].partition(" ")
    # Why it waits: some reasons will never be gone by themselves.
    return f"PENDING ({reason})" if state == "PENDING" and reason not in ("", "None") else state


ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "OUT_OF_MEMORY", "TIMEOUT")


def _show(shown: "tqdm[Any]", state: str, work: SlurmTask) -> None:
    # Work that was started again begins where it was saved: the bar goes back with it.
    shown.n, words = work.progress()
    shown.set_postfix_str(", ".join(filter(None, (state, words))), refresh=False)
    shown.update(0)


def _verdict(job: "submitit.Job[int]", work: SlurmTask) -> int:
    """Return the exit status of the work, and of a failed one name the process and show the end of its log."""
    if _last_state(job.job_id) == "CANCELLED":
        return say(work.name, CANCELLED, f"job {job.job_id} was cancelled; the same command goes on from what is saved")
    until = time.monotonic() + LATE
    ends = [_end(job.paths.folder, job.job_id, rank, until) for rank in range(work.job.processes)]
    outcomes = [None if end is None else _outcome(end) for end in ends]
    if all(outcome == "" for outcome in outcomes):
        print(f"job {job.job_id} has ended; see {work.folder}")
        return 0
    rank = _culprit(outcomes, _log(job, 0))
    tail = "\n".join(_told(_log(job, rank))[-LAST_LINES:])
    said = outcomes[rank] or "left no result"
    print(
        f"{tail}\n{work.name}: job {job.job_id} has failed in process {rank} of {len(outcomes)}: {said}; "
        f"its log is {_log_file(job, rank)}",
        file=sys.stderr,
    )
    end = ends[rank]
    return 1 if end is None else int(end["status"]) or 1


def _told(log: str) -> list[str]:
    """Return the lines of a log, without the traceback of an exit status of which the process has said why."""
    lines = log.splitlines()
    if f"{RunFailedError.__name__}: " in log:
        first = next((k for k, line in enumerate(lines) if line.startswith("Traceback ")), len(lines))
        lines = [line for line in lines[:first] if not line.startswith("submitit ERROR")]
    return lines


def _end(folder: Path, job_id: str, rank: int, until: float) -> dict[str, Any] | None:
    """Return what a process that has ended noted of it, None if it did not."""
    file = ending(folder, job_id, rank)
    while not file.exists() and time.monotonic() < until:
        time.sleep(0.2)
    if not file.exists():
        return None
    end: dict[str, Any] = json.loads(file.read_text())
    return end


def _outcome(end: dict[str, Any]) -> str:
    """Return "" for a process that ended well, else what went wrong."""
    return str(end.get("error", f"exit status {end['status']}")) if end["status"] else ""


def _culprit(outcomes: list[str | None], log: str) -> int:
    """Return which process failed for reasons of its own: one that says so, else one that left no word.

    Of several without a word it is the one that srun, which speaks in the first one's log, names first. Who only lost
    another one is innocent.
    """
    guilty = [rank for rank, outcome in enumerate(outcomes) if outcome not in ("", f"exit status {LOST}")]
    said = [rank for rank in guilty if outcomes[rank] is not None]
    if said:
        return said[0]
    lines = [
        line.split(": task ", 1)[1]
        for line in log.splitlines()
        if line.startswith("srun: error:") and ": task " in line
    ]
    named = [int(line.split(":")[0]) for line in lines if line.split(":")[0].isdigit()]
    return next((rank for rank in [*named, *guilty] if rank in guilty), 0)


def _log(job: "submitit.Job[int]", rank: int) -> str:
    path = _log_file(job, rank)
    return path.read_text(errors="replace") if path.exists() else ""


def _log_file(job: "submitit.Job[int]", rank: int) -> Path:
    return job.paths.folder / f"{job.job_id}_{rank}_log.out"
