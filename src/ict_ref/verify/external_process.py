"""An implementation in any language: a command that returns one JSON object per line.

It reads {"id": 7, "function": "c_in", "args": {"sigma": {"tensor": [0.1, 80.0], "dtype": "float64"}}} and writes {"id":
7, "value": [1.96, 0.0125]}. For arguments that it rejects it writes {"id": 7, "error": "why"}, and for a missing
function {"id": 7, "missing": true}.

Arguments are encoded as in the vectors (see values.py), and only those given are sent. A value is a number, nested
lists, or encoded as in the vectors; several values are {"tuple": [...]}. The command ends at the end of its input. It
writes all other output to its standard error.

The command is not trusted: every wait and every output has a limit. At the end the command and its children are killed,
except children that have left its process group.
"""

import contextlib
import json
import math
import os
import selectors
import shlex
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from types import TracebackType
from typing import IO, NoReturn, cast

import torch

from ict_ref.verify.values import Json, decoded, encoded, number
from ict_ref.verify.vectors import VERSION, functions, vectors

# The longest value of a vector has 100 kB.
LONGEST_LINE = 4 * 2**20
ERRORS_KEPT = 4000
# The number of failures after which a command is not started again: for one function, and in a row for all of them.
TRIES_OF_A_FUNCTION = 3
TRIES_IN_A_ROW = 6
# The time in seconds that a command has to end after the end of its input, and the interval of polling.
GRACE = 0.5
TICK = 0.05


class ExternalTargetError(Exception):
    """A command did not return a valid result. This never counts as a rejection of arguments, even where one is
    expected.
    """


class MissingError(Exception):
    """A command does not have a function."""


class RefusedError(ValueError):
    """A command rejected a call, as it should for arguments outside the function's domain."""


class ExternalTarget:
    """A command as an object with functions: `target.c_in(sigma=...)` calls it, within `seconds`.

    Use it as a context: at its end the command and all that it started are killed.
    """

    def __init__(self, command: str, *, seconds: float = 10.0, version: int = VERSION) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise ExternalTargetError(f"{command!r} is not a command: {error}") from error
        if not self.words:
            raise ExternalTargetError("needs a command; got an empty one; for example 'node peer.js'")
        if not 0 < seconds < math.inf:
            raise ExternalTargetError(f"needs 0 < seconds < infinity for a call; got {seconds}; give 10")
        self.seconds, self.version = seconds, version
        self._process: subprocess.Popen[bytes] | None = None
        self._calls = 0
        self._received, self._errors = b"", b""
        self._has: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._failures_in_a_row = 0
        self._on_broken_pipe: object = None

    @staticmethod
    def functions(version: int = VERSION) -> tuple[str, ...]:
        """Return the functions that a command can compute: their vectors neither contain nor return functions."""
        return _without_callbacks(version)

    def __enter__(self) -> "ExternalTarget":
        if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
            # A write to a command that has ended must raise an error; by default SIGPIPE ends this process.
            self._on_broken_pipe = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        try:
            self._start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        try:
            # An idle command may end by itself; after an interruption the command may be busy without end.
            self._stop(GRACE if _type is None else 0.0)
        finally:
            if callable(self._on_broken_pipe) or isinstance(self._on_broken_pipe, int):
                signal.signal(signal.SIGPIPE, self._on_broken_pipe)
                self._on_broken_pipe = None

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name.startswith("_") or name not in self.functions(self.version):
            raise AttributeError(f"needs one of ExternalTarget.functions(); got {name}")

        def call(**arguments: object) -> object:
            return self._call(name, arguments)

        return call

    def _call(self, name: str, arguments: dict[str, object]) -> object:
        if self._failures_in_a_row >= TRIES_IN_A_ROW:
            raise ExternalTargetError(f"not called: the command had failed {TRIES_IN_A_ROW} times in a row")
        if self._failures[name] >= TRIES_OF_A_FUNCTION:
            raise ExternalTargetError(f"not called: the command had failed for {name} {TRIES_OF_A_FUNCTION} times")
        try:
            answer = self._answer(name, arguments)
            if answer.get("missing") is True and name in self._has:
                raise ExternalTargetError(f"the command reports {name} as missing, which it had computed before")
            if isinstance(answer.get("error"), str):
                self._succeeded(name)
                raise RefusedError(answer["error"])
            if answer.get("missing") is True:
                self._failures_in_a_row = 0
                raise MissingError(f"no function {name}")
            if "value" not in answer:
                raise ExternalTargetError(
                    f"the command sent {_excerpt(answer)}, without value, error (a text) or missing"
                )
            value = received(answer["value"])
        except ExternalTargetError:
            self._failures[name] += 1
            self._failures_in_a_row += 1
            # Later output could belong to an earlier call: start a new process for the next one.
            self._stop()
            raise
        self._succeeded(name)
        return value

    def _succeeded(self, name: str) -> None:
        self._has.add(name)
        self._failures_in_a_row = 0

    def _answer(self, name: str, arguments: dict[str, object]) -> dict[str, Json]:
        """Return the object that the command sends for a call. Raises ExternalTargetError if it does not send one."""
        process = self._process or self._start()
        self._calls += 1
        request = {"id": self._calls, "function": name, "args": {key: encoded(arguments[key]) for key in arguments}}
        line = self._exchange(process, json.dumps(request, allow_nan=False).encode() + b"\n")
        try:
            answer = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise ExternalTargetError(f"the command sent {_excerpt(line)}, which is not JSON") from error
        if not isinstance(answer, dict):
            raise ExternalTargetError(f"the command sent {_excerpt(line)}, which is not a JSON object")
        if isinstance(answer.get("id"), bool) or answer.get("id") != self._calls:
            raise ExternalTargetError(
                f"the command sent {_excerpt(line)}, whose id is not {self._calls}; write one line for each call"
            )
        return answer

    def _exchange(self, process: subprocess.Popen[bytes], request: bytes) -> bytes:
        """Send a request and return the next line that the command writes."""
        stdin, stdout, stderr = _pipes(process)
        deadline = time.monotonic() + self.seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if len(self._received) > LONGEST_LINE:
                    raise ExternalTargetError(
                        f"the command wrote more than {LONGEST_LINE >> 20} MiB without an end of line"
                    )
                left = deadline - time.monotonic()
                if left <= 0:
                    raise ExternalTargetError(
                        f"the command did not answer within {self.seconds:g} s{self._last_error()}; "
                        "check that it flushes its output after each line"
                    )
                ready = [key.fileobj for key, _ in selector.select(min(left, TICK))]
                # All output from before its end has been read, because nothing is ready. Its children may hold the
                # pipe open.
                if not ready and process.poll() is not None:
                    self._has_ended(process)
                if stderr in ready and not self._listen(stderr):
                    selector.unregister(stderr)
                if stdout in ready:
                    received_bytes = os.read(stdout.fileno(), 65536)
                    self._received += received_bytes
                    if not received_bytes:
                        self._has_ended(process)
                if stdin in ready:
                    request = _written(stdin, request)
                    if not request:
                        selector.unregister(stdin)
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _listen(self, stderr: IO[bytes]) -> bool:
        """Keep the end of the command's error output; return False at its end."""
        received_bytes = os.read(stderr.fileno(), 65536)
        self._errors = (self._errors + received_bytes)[-ERRORS_KEPT:]
        return bool(received_bytes)

    def _has_ended(self, process: subprocess.Popen[bytes]) -> NoReturn:
        """Raise ExternalTargetError for a command that has ended or has closed its standard output."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # `returncode` shows it
            process.wait(GRACE)
        _, _, stderr = _pipes(process)
        with contextlib.suppress(BlockingIOError):  # all is read
            # Read at most the capacity of a pipe: a child of the command may write without end.
            for _ in range(16):
                if not self._listen(stderr):
                    break
        status = process.returncode
        if status is None:
            how = "closed its standard output"
        elif status < 0:
            how = f"was killed by {_signal(-status)}"
        else:
            how = f"ended with exit status {status}"
        raise ExternalTargetError(f"the command {how} and did not answer{self._last_error()}")

    def _last_error(self) -> str:
        lines = [line.strip() for line in self._errors.decode(errors="replace").splitlines()]
        lines = [line for line in lines if line]
        return f"; its last line of errors: {_excerpt(lines[-1])}" if lines else ""

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            # A new session is a process group that can be killed as one and that does not receive Ctrl-C.
            process = subprocess.Popen(  # noqa: S603
                self.words,  # the user's own command
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise ExternalTargetError(f"{self.words[0]} cannot be started: {why}") from error
        self._process = process
        self._received, self._errors = b"", b""
        for pipe in _pipes(process):
            os.set_blocking(pipe.fileno(), False)
        return process

    def _stop(self, grace: float = 0.0) -> None:
        """Kill the command and its children, `grace` seconds after the end of its input."""
        process, self._process = self._process, None
        if process is None:
            return
        stdin, stdout, stderr = _pipes(process)
        try:
            stdin.close()
            if grace:
                with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed
                    process.wait(grace)
        finally:
            # All processes have ended; macOS raises PermissionError then.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            stdout.close()
            stderr.close()


def received(value: Json) -> object:
    """Return the value that a command's JSON encodes. Raises ExternalTargetError if it does not encode one."""
    try:
        return _received(value)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        # RuntimeError: also raised for lists that are nested too deeply.
        raise ExternalTargetError(
            f"the command sent the value {_excerpt(value)}, which is not a number, nested lists of numbers "
            "or an encoding of ict_ref/verify/values.py"
        ) from error


def _received(value: Json) -> object:
    if isinstance(value, list):
        return torch.tensor(_numbers(value), dtype=_dtype(value))
    if not isinstance(value, dict):
        # JSON has one kind of number: a language with floats alone may write 1e20 as a whole number beyond int64.
        return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
    if value.keys() == {"tuple"} and isinstance(value["tuple"], list):
        return tuple(_received(part) for part in value["tuple"])
    if value.keys() in ({"tensor", "dtype"}, {"float"}):
        return decoded(value)
    raise ValueError("not an encoding of a value")


def _dtype(value: list[Json]) -> torch.dtype:
    """Return the dtype of nested lists: int64 for whole numbers, bool for truth values, else float64."""
    leaves = list(_leaves(value))
    if leaves and all(isinstance(leaf, bool) for leaf in leaves):
        return torch.bool
    if leaves and all(type(leaf) is int and -(2**63) <= leaf < 2**63 for leaf in leaves):
        return torch.int64
    return torch.float64


def _leaves(value: Json) -> Iterator[Json]:
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _numbers(value: Json) -> object:
    """Return nested lists with the words for NaN and infinity as numbers."""
    return [_numbers(part) for part in value] if isinstance(value, list) else number(value)


@cache
def _without_callbacks(version: int) -> tuple[str, ...]:
    return tuple(
        name
        for name in functions(version)
        if not any(vector.apply or _has_callback(vector.arguments) for vector in vectors(name, version))
    )


def _has_callback(value: Json) -> bool:
    if isinstance(value, dict):
        return "callback" in value or any(map(_has_callback, value.values()))
    return isinstance(value, list) and any(map(_has_callback, value))


def _written(stdin: IO[bytes], request: bytes) -> bytes:
    """Write a part of a request and return the rest."""
    try:
        return request[os.write(stdin.fileno(), request[:65536]) :]
    except BlockingIOError:
        return request
    except BrokenPipeError:
        # The command does not read. The wait for its output finds out whether it has ended or hangs.
        return b""


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    pipes = process.stdin, process.stdout, process.stderr
    return cast(tuple[IO[bytes], IO[bytes], IO[bytes]], pipes)  # Popen opened all three


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _excerpt(said: object) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said if isinstance(said, str) else repr(said)
    text = " ".join(text[:1000].split())
    # Other than printable characters could change the terminal's state.
    text = "".join(c if c.isprintable() else "?" for c in text)
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "..."
