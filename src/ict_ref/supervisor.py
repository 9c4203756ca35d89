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

# Of a process that only ended because another one had: an innocent.
LOST = 3
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
# How long the others have to end when one has failed.
GRACE = 10.0


def supervise(command: Sequence[str], count: int) -> int:
    """Run the command in so many processes that find each other, and return the exit status of the run.

    The first one has this terminal. If one fails the others are ended, and of it, if it is not the first, the last line
    is printed. A signal that asks to stop is passed on to all.
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
            _wait(processes)
        return _verdict([process.returncode for process in processes], outputs)


def _environment(rank: int, count: int, rendezvous: Path) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
    environment = {**os.environ, **{name: str(number) for name, number in numbers.items()}}
    # By a file, not by a port that somebody else may take meanwhile.
    environment["ICT_REF_RENDEZVOUS"] = f"file://{rendezvous}"
    if sys.platform == "linux":
        # All are on this machine, whose name need not have an address.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


@contextlib.contextmanager
def _passed_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass signals that ask to stop on to the processes."""

    def receive(number: int, _frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)

    before = {number: signal.signal(number, receive) for number in STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for all; when one has failed, end the others after a while."""
    deadline: float | None = None
    while any(process.poll() is None for process in processes):
        if deadline is None and any(process.returncode not in (None, 0) for process in processes):
            deadline = time.monotonic() + GRACE
        if deadline is not None and time.monotonic() > deadline - GRACE / 2:
            for process in processes:
                if process.poll() is None:
                    # First they may say what they know; then it is enough.
                    process.send_signal(signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL)
        time.sleep(0.05)


def _verdict(statuses: Sequence[int], outputs: Sequence[Path]) -> int:
    """Return the exit status of the run, and name who failed, unless it was the first and has said so itself."""
    culprits = [rank for rank, status in enumerate(statuses) if status not in (0, LOST)]
    if not culprits:
        return statuses[0]
    # Who was ended by a signal did not end because of another one.
    rank = next((rank for rank in culprits if statuses[rank] < 0), culprits[0])
    status = statuses[rank]
    if status >= 0 and rank == 0:
        return status
    words = outputs[rank].read_text(errors="replace").split("\n") if rank else []
    last = next((line.strip() for line in reversed(words) if line.strip()), "")
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    said = f"; its last words: {last}" if last else ""
    print(f"ict_ref.launch: process {rank} of {len(statuses)} {how}{said}", file=sys.stderr)
    return status if status >= 0 else 128 - status


def started_by_supervisor(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this is one of the processes that a supervisor started."""
    return "ICT_REF_RENDEZVOUS" in environment
