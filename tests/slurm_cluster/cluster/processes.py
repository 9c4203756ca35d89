"""Which processes are a cluster's, read from /proc. Nothing is remembered, so nothing is ever out of date.

A daemon has a variable in its environment that names the cluster and itself. A slurmstepd overwrites its environment by
its title, but has its node's log open. A task has SLURM's own variables. What any of these started belongs to them.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

MARK = "ICT_TEST_CLUSTER"
# The daemons that this process started: who starts a process has to read its end.
STARTED: dict[int, "subprocess.Popen[bytes]"] = {}


def mark(base: Path, daemon: str) -> str:
    """Return what the variable `MARK` of a daemon says."""
    return f"{base} {daemon}"


def daemons(base: Path) -> dict[str, int]:
    """Return the number of each daemon's process that is there, by the daemon's name."""
    found = {}
    for pid in _all():
        entry = next((entry for entry in _environment(pid) if entry.startswith(f"{MARK}={base} ")), None)
        # slurmctld has a child with the same environment; the daemon is the first of its session.
        if entry is not None and (_stat(pid) or [])[3:4] == [str(pid)]:
            found[entry.removeprefix(f"{MARK}={base} ")] = pid
    return found


def of_cluster(base: Path, node: str | None = None) -> set[int]:
    """Return the cluster's processes, or one node's: daemons, steps, tasks, and all that these have started."""
    daemon = f"{MARK}={mark(base, '') if node is None else mark(base, f'slurmd.{node}')}"
    name = "SLURMD_NODENAME=" + (node or "")
    parents, ours = _all(), set[int]()
    for pid in parents:
        environment = _environment(pid)
        of_daemon = any(entry == daemon or (node is None and entry.startswith(daemon)) for entry in environment)
        of_task = f"SLURM_CONF={base}/slurm.conf" in environment and any(
            entry == name or (node is None and entry.startswith(name)) for entry in environment
        )
        if of_daemon or of_task or _logs_to(pid, base, node):
            ours.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return ours - {os.getpid()}


def step_is_there(base: Path, job_id: str) -> bool:
    """Return whether a step of the job still runs, or ends, on any node."""
    title = f"slurmstepd: [{job_id}."
    return any(_command(pid).startswith(title) and _logs_to(pid, base, None) for pid in _all())


def end(find: Callable[[], set[int]], patience: float = 10.0) -> list[int]:
    """Kill what is found until nothing is, and return what is still there when patience has ended."""
    until = time.monotonic() + patience
    while (left := find()) and time.monotonic() < until:
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(0.02)
        reap()
    reap()
    return sorted(left)


def send(pid: int, number: signal.Signals) -> None:
    """Send the signal, if the process is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def reap() -> None:
    """Read the ends of daemons that this process started, so that they leave no zombies."""
    for pid, process in list(STARTED.items()):
        if process.poll() is not None:
            del STARTED[pid]


def birth(pid: int) -> int | None:
    """Return when the process began, in the kernel's ticks; None if there is no such process.

    Together with its number this distinguishes it from all others until the machine starts again.
    """
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def _all() -> dict[int, int]:
    """Return the parent of each process that has not ended, by the process's number."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None:
                parents[int(entry.name)] = int(fields[1])
    return parents


def _stat(pid: int) -> list[str] | None:
    """Return what /proc says after the process's name (state, parent, group, session ...); None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields


def _environment(pid: int) -> list[str]:
    """Return the environment that the process began with; nothing if it is another user's or has ended."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _logs_to(pid: int, base: Path, node: str | None) -> bool:
    """Return whether this is a slurmstepd that has a log of the cluster's nodes, or of this one, open."""
    if "slurmstepd" not in _command(pid).split("\0")[0]:
        return False
    try:
        opened = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    start = f"{base}/log/slurmd." + (f"{node}.log" if node else "")
    return any(name.startswith(start) for name in opened)
