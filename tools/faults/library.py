"""The library that counts file-system calls: how it is built, loaded and armed, and what its log says."""

import ctypes
import errno
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("interpose.c")
FOLDER = ROOT / ".nox" / "faults"
"""Built library, results and working folders."""
NOTHING, KILL, TORN, FAIL_ONCE, FAIL_FOR_EVER, PAUSE = range(6)
SPACE, TREE, READ, LOCK, HARD_LINK = 1, 2, 4, 8, 16
"""Classes of calls: those that need space, those that remove names, reads, locks and hard links."""
CHANGES = SPACE | TREE
Kind = Literal[
    "kill -9", "kill -9 in a write", "no space once", "no space for ever", "I/O error once", "read error once",
    "no locks", "no hard links", "quota", "read-only", "pause",
]  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A fault of one kind at the call number `at`, counted from 1 in the classes `counted`."""

    kind: Kind
    at: int
    action: int = NOTHING
    number: int = 0
    """Value of errno."""
    counted: int = CHANGES
    failing: int = 0
    """Classes of calls that fail after the first fault."""


@dataclass(frozen=True)
class Call:
    """A counted call."""

    number: int
    operation: str
    path: str
    second: str
    """New path of a rename or link."""


@dataclass(frozen=True)
class Log:
    """The counted calls of a process."""

    calls: tuple[Call, ...]
    fired: bool
    """Whether the fault happened."""


def fault(kind: Kind, at: int = 1) -> Fault:
    """Return the fault of a kind at a call."""
    match kind:
        case "kill -9":
            return Fault(kind, at, KILL)
        case "kill -9 in a write":
            return Fault(kind, at, TORN)
        case "no space once":
            return Fault(kind, at, FAIL_ONCE, errno.ENOSPC)
        case "no space for ever":
            return Fault(kind, at, FAIL_FOR_EVER, errno.ENOSPC, failing=SPACE)
        case "I/O error once":
            return Fault(kind, at, FAIL_ONCE, errno.EIO)
        case "read error once":
            return Fault(kind, at, FAIL_ONCE, errno.EIO, counted=READ)
        case "pause":
            return Fault(kind, at, PAUSE)
        case "no locks":
            return Fault(kind, at, FAIL_FOR_EVER, errno.ENOSYS, counted=LOCK, failing=LOCK)
        case "no hard links":
            return Fault(kind, at, FAIL_FOR_EVER, errno.EPERM, counted=HARD_LINK, failing=HARD_LINK)
        case "quota":
            return Fault(kind, at, FAIL_FOR_EVER, errno.EDQUOT, failing=SPACE)
        case "read-only":
            return Fault(kind, at, FAIL_FOR_EVER, errno.EROFS, failing=CHANGES)


def built() -> Path:
    """Return the library, compiled if its source has changed.

    Raises:
        ValueError: This machine has no C compiler, or it fails.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    path = FOLDER / f"interpose-{digest}.so"
    if path.is_file():
        return path
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ValueError("PATH: expected a C compiler, got none. Install gcc or clang.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.so")
    made = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(aside), str(SOURCE), "-ldl"], capture_output=True, text=True
    )
    if made.returncode != 0:
        raise ValueError(f"{SOURCE}: expected a file that {compiler} compiles, got: {made.stderr.splitlines()[0]}")
    aside.replace(path)
    return path


def preload(arguments: Sequence[str]) -> None:
    """Replace this process by `python ARGUMENTS` with the library loaded, unless it is loaded already.

    Raises:
        ValueError: The library cannot be built.
    """
    library = str(built())
    if library in os.environ.get("LD_PRELOAD", "").split():
        return
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, "LD_PRELOAD": library})  # noqa: S606


def arm(folder: Path, log: Path, chosen: Fault) -> None:
    """Count the calls of this process below a folder, and cause the fault. The process cannot be disarmed."""
    library = ctypes.CDLL(None)  # everything that is loaded
    one = chosen
    library.fault_arm(
        os.fsencode(folder.resolve()), os.fsencode(log), one.action, ctypes.c_long(one.at), one.number, one.counted,
        one.failing,
    )  # fmt: skip


def read_log(log: Path, folder: Path) -> Log:
    """Return the calls of a log, their paths relative to the folder."""
    start, calls, fired = f"{folder.resolve()}/", [], False
    text = log.read_text(errors="surrogateescape") if log.is_file() else ""
    for line in text.splitlines():
        if line == "fault":
            fired = True
            continue
        number, operation, path, second = line.split("\t")
        calls.append(Call(int(number), operation, path.removeprefix(start), second.removeprefix(start)))
    return Log(tuple(calls), fired)


def unsynced(calls: Sequence[Call]) -> list[str]:
    """Return the renames of files that were written and not synced before: a power loss may leave them empty."""
    dirty: set[str] = set()
    found = []
    for call in calls:
        if call.operation == "write":
            dirty.add(call.path)
        elif call.operation == "fsync":
            dirty.discard(call.path)
        elif call.operation in ("rename", "link"):
            moved = {path for path in dirty if path == call.path or path.startswith(f"{call.path}/")}
            found += [f"{call.operation} {path} -> {call.second}" for path in sorted(moved)[:1]]
            dirty -= moved
            dirty |= {call.second + path.removeprefix(call.path) for path in moved}
    return found
