"""Starts the processes of a run on this machine, passes signals on, and says which of them failed."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from ict_ref.utils.signals import LOST, RENDEZVOUS, STOPS

# Seconds after one has failed: until then the others may end by themselves, are asked to, and are killed.
ASK, KILL = 2.0, 20.0


def visible_gpus(device: str) -> int:
    """Return how many GPUs there are to run on; `device` is auto, cpu or cuda."""
    if device == "cpu" or not Path("/proc/driver/nvidia").exists():
        return 0  # without importing torch, which takes seconds
    import torch

    return torch.cuda.device_count()


def supervise(command: Sequence[str], count: int, *, name: str = "ict_ref.launch") -> int:
    """Run the command in so many processes that find each other, and return the exit status of the run.

    The first one has this terminal. If one fails the others are ended, and of it, if it is not the first, the last line
    is printed, after `name`. A signal that asks to stop is passed on to all.
    """
    with tempfile.TemporaryDirectory(prefix="ict_ref-") as place:
        outputs = [Path(place) / f"process-{rank}.log" for rank in range(count)]
        processes: list[subprocess.Popen[bytes]] = []
        with _passed_on(processes):
            for rank, output in enumerate(outputs):
                with output.open("wb") as file:
                    stream = None if rank == 0 else file
                    environment = _environment(rank, count, Path(place) / "rendezvous")
                    # In a session of its own: Ctrl-C comes by way of this process, once.
                    process = subprocess.Popen(  # noqa: S603 (our own command)
                        command, env=environment, stdout=stream, stderr=stream, start_new_session=True
                    )
                    processes.append(process)
            failed = _first_to_fail(processes)
        if failed is None:
            return max(process.returncode for process in processes)
        return _told(name, failed, processes, outputs[failed])


def _environment(rank: int, count: int, rendezvous: Path) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
    environment = {**os.environ, **{name: str(number) for name, number in numbers.items()}}
    # By a file, not by a port that somebody else may take meanwhile.
    environment[RENDEZVOUS] = f"file://{rendezvous}"
    if sys.platform == "linux":
        # All are on this machine, whose name need not have an address.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


@contextlib.contextmanager
def _passed_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass signals that ask to stop on to the processes."""

    def receive(number: int, _frame: FrameType | None) -> None:
        _send(processes, number)

    before = {number: signal.signal(number, receive) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_to_fail(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait for all, and return the one that failed, if one did; the others are ended then.

    Who stops because it was asked to does not fail, and who lost another process is an innocent unless all are.
    """
    fine = {0, *(128 + number for number in STOPS)}
    culprit: int | None = None
    since: float | None = None
    asked = False
    while None in (statuses := [process.poll() for process in processes]):
        failed = {k: status for k, status in enumerate(statuses) if status is not None and status not in fine}
        if failed and since is None:
            since = time.monotonic()
        if since is not None:
            if not asked:
                culprit = _culprit(failed)
            waited = time.monotonic() - since
            if waited > ASK and not asked:
                _send(processes, signal.SIGTERM)  # once: at the second one they would not finish what they write
                asked = True
            if waited > KILL:
                _send(processes, signal.SIGKILL)
        time.sleep(0.02)
    if asked:
        return culprit
    return _culprit({k: status for k, status in enumerate(statuses) if status is not None and status not in fine})


def _culprit(failed: Mapping[int, int]) -> int | None:
    """Return which of these processes failed for reasons of its own: first of all who was killed."""
    ranks = sorted(failed, key=lambda rank: (failed[rank] == LOST, failed[rank] >= 0, rank))
    return ranks[0] if ranks else None


def _send(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _told(name: str, rank: int, processes: Sequence[subprocess.Popen[bytes]], output: Path) -> int:
    """Say which process failed, unless it was the first, which has said so itself; return the exit status."""
    status = processes[rank].returncode
    if rank == 0 and status >= 0:
        return status
    words = output.read_text(errors="replace").splitlines() if rank > 0 else []
    last = next((line.strip() for line in reversed(words) if line.strip()), "")
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    said = f"; its last words: {last}" if last else ""
    print(f"{name}: process {rank} of {len(processes)} {how}{said}", file=sys.stderr)
    return status if status >= 0 else 128 - status
