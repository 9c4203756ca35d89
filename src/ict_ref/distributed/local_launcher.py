"""The launcher that starts the processes of a run on this machine, forwards signals and reports a failure.

It is not torch.distributed.run, which works as well, because that command hides how a run was stopped. With torch 2.13,
two CPU processes and one signal to the command:

| signal | torch.distributed.run | this launcher |
|---|---|---|
| SIGTERM | all ranks save; traceback, status 1 | all ranks save; status 143 |
| SIGINT (Ctrl-C) | all ranks save, once; traceback, status 1 | all ranks save; status 130 |
| SIGUSR2 | by default the command is killed, and the ranks train on without it | all ranks save; status 140 |
| later | by default kills ranks that still save after 30 s | waits for them |

A job script needs the status to know whether a run is to be resumed.
"""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from ict_ref.utils.command_line import expect
from ict_ref.utils.environment import group_numbers, shows_gpus
from ict_ref.utils.printable import printable
from ict_ref.utils.scratch import scratch_folder
from ict_ref.utils.signals import HANGUP, LOST, RENDEZVOUS, STOPS, heeded, leave_closed_terminal

# Seconds from a failure to SIGTERM, and to SIGKILL, for the other processes.
TERMINATE_S, KILL_S = 2.0, 20.0
# Seconds between two checks of the processes.
POLL_S = 0.02
# Exit statuses of a process that finished, or stopped on request.
SUCCESSES = (0, *(128 + number for number in STOPS))


# Files that exist where a GPU may be: of NVIDIA's driver, WSL 2, containers, Jetson boards and AMD's driver.
GPU_FILES = (
    "/proc/driver/nvidia",
    "/dev/dxg",
    "/dev/nvidiactl",
    "/dev/nvidia0",
    "/dev/nvhost-gpu",
    "/dev/nvmap",
    "/dev/kfd",
)


def visible_gpus(device: str) -> int:
    """Return the number of visible GPUs, 0 for `device` cpu; `device` is auto, cpu or cuda.

    Raises:
        ValueError: $CUDA_VISIBLE_DEVICES is not a list of GPUs.
    """
    if device == "cpu" or shows_gpus() is False:
        return 0
    if device == "auto" and sys.platform != "win32" and not _may_have_gpu():
        return 0  # importing torch takes seconds
    import torch

    return torch.cuda.device_count()


def processes_to_start(asked: int, device: str) -> int:
    """Return the number of processes that a command starts; 1 if this process does the work itself.

    `asked` is --processes, with 0 for one per visible GPU. A process that a launcher started as one of a group starts
    none.

    Raises:
        ValueError: The environment describes another number of processes than `asked`, or has a value of another kind.
    """
    group = group_numbers()
    if not group.is_member:
        return asked or max(1, visible_gpus(device))
    advice = "Leave --processes out, or unset WORLD_SIZE, RANK and LOCAL_RANK."
    expect(asked in (0, group.size), "--processes", f"{group.size}, as $WORLD_SIZE says", asked, advice)
    return 1


def _may_have_gpu() -> bool:
    """Return whether a file or a variable of a container suggests that this machine has a GPU."""
    asked = shows_gpus() or bool(os.environ.get("NVIDIA_VISIBLE_DEVICES"))
    return asked or any(Path(file).exists() for file in GPU_FILES)


def supervise(command: Sequence[str], count: int, *, name: str = "ict_ref.launch") -> int:
    """Run the command in `count` processes that form one process group, and return the exit status of the run.

    Only the first process writes to this terminal. If one process fails, the others are stopped. The message about the
    failed process begins with `name` and ends with the last line of its output. Signals that request a stop are
    forwarded to all processes.
    """
    with scratch_folder() as place:
        outputs = [place / f"process-{rank}.log" for rank in range(count)]
        processes: list[subprocess.Popen[bytes]] = []
        with _forwarded(processes):
            for rank, output in enumerate(outputs):
                with output.open("wb") as file:
                    stream = None if rank == 0 else file
                    environment = _environment(rank, count, place / "rendezvous")
                    # With its own session, the process gets Ctrl-C once, from this process.
                    process = subprocess.Popen(  # noqa: S603 (our own command)
                        command, env=environment, stdout=stream, stderr=stream, start_new_session=True
                    )
                    processes.append(process)
            failed = _first_to_fail(processes)
        if failed is None:
            return max(process.returncode for process in processes)
        return _report_failure(name, failed, processes, outputs[failed])


def _safe_path(before: str) -> dict[str, str]:
    """Return the variables with which Python does not import modules from the working directory.

    `python -m` looks there first, so that a file such as torch.py would be run. A package that itself lies in the
    working directory stays importable, after all others. `before` is the value of PYTHONPATH.
    """
    root = Path(__file__).parents[2]
    paths = [part for part in before.split(os.pathsep) if part] + ([str(root)] if root == Path.cwd() else [])
    return {"PYTHONSAFEPATH": "1"} | ({"PYTHONPATH": os.pathsep.join(paths)} if paths else {})


def _environment(rank: int, count: int, rendezvous: Path) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count}
    environment = {**os.environ, **{name: str(number) for name, number in numbers.items()}}
    # A file, because another program could take a port in the meantime.
    environment |= _safe_path(environment.get("PYTHONPATH", ""))
    environment[RENDEZVOUS] = f"file://{rendezvous}"
    if sys.platform == "linux":
        # All processes are on this machine, whose name may lack an address.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


@contextlib.contextmanager
def _forwarded(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Forward signals that request a stop to the processes."""

    def receive(number: int, _frame: FrameType | None) -> None:
        if number in HANGUP:
            leave_closed_terminal()
        _send(processes, number)

    before = {number: signal.signal(number, receive) for number in heeded()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_to_fail(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait for all processes and return the rank of the one that failed, or None.

    After a failure the others are stopped. A process that stops on request does not fail. A process that only lost
    another one counts as failed if all others did too.
    """
    while _running(processes) and _failed_rank(processes) is None:
        time.sleep(POLL_S)
    failure = time.monotonic()
    _wait(processes, until=failure + TERMINATE_S)
    failed = _failed_rank(processes)  # before SIGTERM, because some processes then exit with an error
    _send(processes, signal.SIGTERM)  # once: a second one would interrupt their last writes
    _wait(processes, until=failure + KILL_S)
    _send(processes, signal.SIGKILL)
    _wait(processes)
    return failed


def _running(processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    return any(process.poll() is None for process in processes)


def _wait(processes: Sequence[subprocess.Popen[bytes]], until: float = math.inf) -> None:
    """Wait until all processes have ended, or until this time of the monotonic clock."""
    while _running(processes) and time.monotonic() <= until:
        time.sleep(POLL_S)


def _failed_rank(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Return the rank that failed for its own reasons: a killed process first, a process that lost another one last."""
    statuses = {rank: process.poll() for rank, process in enumerate(processes)}
    failed = {rank: status for rank, status in statuses.items() if status is not None and status not in SUCCESSES}
    return min(failed, key=lambda rank: (failed[rank] == LOST, failed[rank] >= 0, rank), default=None)


def _send(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)


def _report_failure(name: str, rank: int, processes: Sequence[subprocess.Popen[bytes]], output: Path) -> int:
    """Report the failed process, unless it is the first, which reported itself; return the exit status."""
    status = processes[rank].returncode
    if rank == 0 and status >= 0:
        return status
    lines = output.read_text(errors="replace").splitlines() if rank > 0 else []
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    detail = f"; its last line: {printable(last[:1000])}" if last else ""
    print(f"{name}: process {rank} of {len(processes)} {how}{detail}", file=sys.stderr)
    return status if status >= 0 else 128 - status
