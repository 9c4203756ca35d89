"""Commands in forked processes: slow modules are imported once, and a process may die, hang or take all memory."""

import importlib
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tools.faults.library import FOLDER, Fault, Log, arm, fault, read_log

MEMORY = 6 << 30
"""Address space of a command in bytes; the machine is shared."""
HANG_S = 10.0
"""Time in seconds after which a command that has nothing to do counts as a hang."""
ERASED = re.compile(r"\r +\r")
"""End of a progress bar that is erased; what follows stands alone on its line."""
WARNINGS = ("ict_ref: warning: ", "ict_ref: note: ")
"""Beginnings of lines that a command prints while it works."""
COUNTING = fault("kill -9", 0)
"""A fault that never happens: calls are only counted."""
QUIET = {
    "ICT_REF_PROFILE": "none",
    "OMP_NUM_THREADS": "1",
    "HYPOTHESIS_STORAGE_DIRECTORY": str(FOLDER / "hypothesis"),
    "MPLCONFIGDIR": str(FOLDER / "matplotlib"),
}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    """Exit status, or minus the number of the signal."""
    out: str
    err: str
    hung: bool
    log: Log
    seconds: float

    @property
    def traceback(self) -> bool:
        """Return whether the command printed a traceback."""
        return "Traceback (most recent call last)" in self.err

    @property
    def last_line(self) -> str:
        """Return the last line of standard error."""
        return self.err.rstrip("\n").rpartition("\n")[2]

    @property
    def one_line(self) -> bool:
        """Return whether standard error has one line and no control characters, except progress and warnings before it.

        A command that has begun its work may warn, and then fail.
        """
        shown = (ERASED.split(line)[-1] for line in self.err.split("\n"))
        said = [line for line in shown if line and "\r" not in line]
        warned = [line for line in said[:-1] if line.startswith(WARNINGS)]
        return bool(said) and len(said) == len(warned) + 1 and all(line.isprintable() for line in said)


@dataclass
class Server:
    """Starts commands in forked processes, with a folder for their output."""

    scratch: Path
    imported: set[str] = field(default_factory=set)

    def start(
        self,
        command: str,
        arguments: Sequence[str],
        folder: Path,
        *,
        chosen: Fault = COUNTING,
        variables: Mapping[str, str] | None = None,
        name: str = "command",
    ) -> int:
        """Start a command in a folder and return its process; its output is in files called `name`."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        for kind in ("out", "err", "log", "modules"):
            (self.scratch / f"{name}.{kind}").unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            environment = QUIET | dict(variables or {})
            _become(command, arguments, folder, chosen, environment, self.scratch / name)
        return process

    def wait(self, process: int, folder: Path, seconds: float, name: str = "command") -> Ended:
        """Return how a command ended; it is killed after some seconds."""
        begun, hung = time.monotonic(), False
        while True:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                break
            if time.monotonic() - begun > seconds and not hung:
                hung = True
                os.killpg(process, signal.SIGKILL)
            time.sleep(0.003)
        with_group(process)
        files = {kind: self.scratch / f"{name}.{kind}" for kind in ("out", "err", "log")}
        # As bytes, because read_text would make a line of every carriage return of a progress bar.
        out, err = (files[kind].read_bytes().decode(errors="backslashreplace") for kind in ("out", "err"))
        log = read_log(files["log"], folder)
        code = os.waitstatus_to_exitcode(status)
        return Ended(code, out, err, hung, log, time.monotonic() - begun)

    def wait_for_pause(self, process: int, seconds: float) -> bool:
        """Return whether a command pauses before it ends; its end is left to `wait`."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            found = os.waitid(os.P_PID, process, os.WSTOPPED | os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is not None:
                return found.si_code == os.CLD_STOPPED
            time.sleep(0.003)
        return False

    def run(
        self,
        command: str,
        arguments: Sequence[str],
        folder: Path,
        *,
        chosen: Fault = COUNTING,
        variables: Mapping[str, str] | None = None,
        seconds: float = 60.0,
    ) -> Ended:
        """Run a command in a folder and return how it ended; what it imported is imported for the next one."""
        process = self.start(command, arguments, folder, chosen=chosen, variables=variables)
        ended = self.wait(process, folder, seconds)
        self._learn()
        return ended

    def call(self, action: Callable[[], object]) -> None:
        """Run a function in a forked process, so that this one stays without threads.

        Raises:
            RuntimeError: The function failed.
        """
        process = os.fork()
        if process == 0:
            try:
                action()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if os.waitpid(process, 0)[1] != 0:
            raise RuntimeError(f"{action} failed in its process")

    def _learn(self) -> None:
        """Import the modules that the last command imported, so that the next process has them."""
        file = self.scratch / "command.modules"
        names = file.read_text().split("\n") if file.is_file() else []
        for name in names:
            if name and name not in sys.modules and name not in self.imported:
                self.imported.add(name)
                try:
                    importlib.import_module(name)
                except Exception:  # noqa: S112 (a module that cannot be imported twice is imported by each command)
                    continue


def with_group(process: int) -> None:
    """Kill the processes that a command has left in its group."""
    try:
        os.killpg(process, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _become(
    command: str, arguments: Sequence[str], folder: Path, chosen: Fault, variables: Mapping[str, str], scratch: Path
) -> NoReturn:
    """Run the command in this process and end it."""
    status = 1
    try:
        os.setsid()
        _redirect(scratch)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ.update(variables)
        os.chdir(folder)
        sys.argv = [command, *arguments]
        main = importlib.import_module(_module(command)).main
        arm(folder, scratch.with_name(f"{scratch.name}.log"), chosen)
        status = _status(lambda: main(list(arguments)))
        sys.stdout.flush()
        sys.stderr.flush()
        scratch.with_name(f"{scratch.name}.modules").write_text("\n".join(list(sys.modules)))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(status & 255)


def _module(command: str) -> str:
    """Return the module whose `main` runs a command, as `python -m` finds it."""
    package = importlib.import_module(command)
    return f"{command}.__main__" if hasattr(package, "__path__") else command


def _redirect(scratch: Path) -> None:
    for number, file in ((0, Path(os.devnull)), (1, scratch.with_name(f"{scratch.name}.out")),
                         (2, scratch.with_name(f"{scratch.name}.err"))):  # fmt: skip
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
        opened = os.open(file, flags, 0o600)
        os.dup2(opened, number)
        os.close(opened)


def _status(main: Callable[[], int]) -> int:
    try:
        return main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
