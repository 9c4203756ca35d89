"""An implementation in any language: a command that answers one JSON object a line.

It reads {"id": 7, "function": "c_in", "args": {"sigma": {"tensor": [0.1, 80.0], "dtype": "float64"}}} and writes
{"id": 7, "value": [1.96, 0.0125]}, or {"id": 7, "error": "why"} for what it refuses, or {"id": 7, "missing": true} for
what it does not have. Arguments stand as in the vectors (see values.py), and only those given are sent. A value is a
number, nested lists, or stands as in the vectors; several values are {"tuple": [...]}. The command ends at the end of
its input. Whatever else it has to say goes to its standard error.

The command is not trusted: every wait has an end, everything that it may send has a limit, and it is killed with its
children, unless they have left its process group.
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

# No answer to a vector is longer than 100 kB.
LONGEST_LINE = 4 * 2**20
LAST_WORDS = 4000
# So often is a command that gave no answer started again: for one function, and in a row for all of them.
TRIES_OF_A_FUNCTION = 3
TRIES_IN_A_ROW = 6
# How long a command may take to end once its input has, and how often we look whether it has.
GRACE = 0.5
TICK = 0.05


class PeerError(Exception):
    """A peer gave no answer. That is never a refusal: it fails also where a call should be refused."""


class MissingError(Exception):
    """A peer does not have a function."""


class RefusedError(ValueError):
    """A peer refused a call, as it should where the arguments lie outside the function's domain."""


class Peer:
    """A command as an object with functions: `peer.c_in(sigma=...)` asks it, within `seconds`.

    Use it as a context: when that is left, whatever the command started is killed.
    """

    def __init__(self, command: str, *, seconds: float = 10.0, version: int = VERSION) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise PeerError(f"{command!r} is no command: {error}") from error
        if not self.words:
            raise PeerError("needs a command; got an empty one; for example 'node peer.js'")
        if not 0 < seconds < math.inf:
            raise PeerError(f"needs 0 < seconds < infinity for an answer; got {seconds}; 10 are plenty")
        self.seconds, self.version = seconds, version
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0
        self._heard, self._complaints = b"", b""
        self._has: set[str] = set()
        self._failures: Counter[str] = Counter()
        self._failures_in_a_row = 0
        self._on_broken_pipe: object = None

    @staticmethod
    def functions(version: int = VERSION) -> tuple[str, ...]:
        """Return the functions that a peer can be asked for: no vector hands them a function or takes one back."""
        return _without_callbacks(version)

    def __enter__(self) -> "Peer":
        if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
            # A write to a command that has ended must be an error to report; by default it ends us.
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
            # A command that is idle may end by itself; one that we were interrupted in may be busy for ever.
            self._stop(GRACE if _type is None else 0.0)
        finally:
            if callable(self._on_broken_pipe) or isinstance(self._on_broken_pipe, int):
                signal.signal(signal.SIGPIPE, self._on_broken_pipe)
                self._on_broken_pipe = None

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name.startswith("_") or name not in self.functions(self.version):
            raise AttributeError(f"needs one of Peer.functions(); got {name}")

        def call(**arguments: object) -> object:
            return self._call(name, arguments)

        return call

    def _call(self, name: str, arguments: dict[str, object]) -> object:
        if self._failures_in_a_row >= TRIES_IN_A_ROW:
            raise PeerError(f"not asked: the peer had given no answer {TRIES_IN_A_ROW} times in a row")
        if self._failures[name] >= TRIES_OF_A_FUNCTION:
            raise PeerError(f"not asked: the peer had given no answer for {name} {TRIES_OF_A_FUNCTION} times")
        try:
            answer = self._answer(name, arguments)
            if answer.get("missing") is True and name in self._has:
                raise PeerError(f"the peer says that it has no {name}, which it had answered before")
            if isinstance(answer.get("error"), str):
                self._succeeded(name)
                raise RefusedError(answer["error"])
            if answer.get("missing") is True:
                self._failures_in_a_row = 0
                raise MissingError(f"no function {name}")
            if "value" not in answer:
                raise PeerError(f"the peer answered {_excerpt(answer)}, which has no value, error (a text) or missing")
            value = received(answer["value"])
        except PeerError:
            self._failures[name] += 1
            self._failures_in_a_row += 1
            # What it says from now on may belong to any question: ask a new one the next.
            self._stop()
            raise
        self._succeeded(name)
        return value

    def _succeeded(self, name: str) -> None:
        self._has.add(name)
        self._failures_in_a_row = 0

    def _answer(self, name: str, arguments: dict[str, object]) -> dict[str, Json]:
        """Return the object that the peer answers, whatever it says, or raise PeerError."""
        process = self._process or self._start()
        self._asked += 1
        question = {"id": self._asked, "function": name, "args": {key: encoded(arguments[key]) for key in arguments}}
        line = self._exchange(process, json.dumps(question, allow_nan=False).encode() + b"\n")
        try:
            answer = json.loads(line.decode())
        except (ValueError, RecursionError) as error:
            raise PeerError(f"the peer answered {_excerpt(line)}, which is no JSON") from error
        if not isinstance(answer, dict):
            raise PeerError(f"the peer answered {_excerpt(line)}, which is no JSON object")
        if isinstance(answer.get("id"), bool) or answer.get("id") != self._asked:
            raise PeerError(
                f"the peer answered {_excerpt(line)}, which has not the id {self._asked} that was asked; "
                "one line for each question"
            )
        return answer

    def _exchange(self, process: subprocess.Popen[bytes], question: bytes) -> bytes:
        """Return the next line that the peer writes once it is asked."""
        stdin, stdout, stderr = _pipes(process)
        deadline = time.monotonic() + self.seconds
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ)
            selector.register(stderr, selectors.EVENT_READ)
            while b"\n" not in self._heard:
                if len(self._heard) > LONGEST_LINE:
                    raise PeerError(f"the peer wrote more than {LONGEST_LINE >> 20} MiB without an end of line")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PeerError(
                        f"the peer gave no answer within {self.seconds:g} s{self._last_words()}; "
                        "does it flush what it writes after each line?"
                    )
                ready = [key.fileobj for key, _ in selector.select(min(left, TICK))]
                # What it had to say before it ended was read first, as nothing is ready any more. Its children may
                # hold the pipe open.
                if not ready and process.poll() is not None:
                    self._has_ended(process)
                if stderr in ready and not self._listen(stderr):
                    selector.unregister(stderr)
                if stdout in ready:
                    said = os.read(stdout.fileno(), 65536)
                    self._heard += said
                    if not said:
                        self._has_ended(process)
                if stdin in ready:
                    question = _written(stdin, question)
                    if not question:
                        selector.unregister(stdin)
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def _listen(self, stderr: IO[bytes]) -> bool:
        """Keep the end of what the peer complains of; return False once it has closed its standard error."""
        said = os.read(stderr.fileno(), 65536)
        self._complaints = (self._complaints + said)[-LAST_WORDS:]
        return bool(said)

    def _has_ended(self, process: subprocess.Popen[bytes]) -> NoReturn:
        """Raise PeerError for a peer that has ended, or is about to: it has closed its standard output."""
        with contextlib.suppress(subprocess.TimeoutExpired):  # which `returncode` tells
            process.wait(GRACE)
        _, _, stderr = _pipes(process)
        with contextlib.suppress(BlockingIOError):  # all is read
            # As much as a pipe holds, and no more: a child of the peer may write for ever.
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
        raise PeerError(f"the peer {how} and gave no answer{self._last_words()}")

    def _last_words(self) -> str:
        lines = [line.strip() for line in self._complaints.decode(errors="replace").splitlines()]
        lines = [line for line in lines if line]
        return f"; its last line of errors: {_excerpt(lines[-1])}" if lines else ""

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            # A session of its own is a process group that can be killed as one, and that no Ctrl-C reaches but ours.
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
            raise PeerError(f"{self.words[0]} cannot be started: {why}") from error
        self._process = process
        self._heard, self._complaints = b"", b""
        for pipe in _pipes(process):
            os.set_blocking(pipe.fileno(), False)
        return process

    def _stop(self, grace: float = 0.0) -> None:
        """Kill the peer and its children; before that it has `grace` seconds to see that its input has ended."""
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
            # Nobody is left, or as macOS says it, nobody whom a signal could reach.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            stdout.close()
            stderr.close()


def received(value: Json) -> object:
    """Return the value that a peer's JSON stands for, or raise PeerError."""
    try:
        return _received(value)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        # RuntimeError: also too deep a nest, and what torch says of it.
        raise PeerError(
            f"the peer answered the value {_excerpt(value)}, which is no number, no nested lists of numbers "
            "and nothing that ict_ref/verify/values.py describes"
        ) from error


def _received(value: Json) -> object:
    if isinstance(value, list):
        return torch.tensor(_numbers(value), dtype=_dtype(value))
    if not isinstance(value, dict):
        # JSON has one kind of number: a whole one beyond int64 is how a language with floats alone may write 1e20.
        return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
    if value.keys() == {"tuple"} and isinstance(value["tuple"], list):
        return tuple(_received(part) for part in value["tuple"])
    if value.keys() in ({"tensor", "dtype"}, {"float"}):
        return decoded(value)
    raise ValueError("none of the encodings of a value")


def _dtype(value: list[Json]) -> torch.dtype:
    """Return the dtype of nested lists: whole numbers may be indices, and where they are not they compare as floats."""
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


def _written(stdin: IO[bytes], question: bytes) -> bytes:
    """Return what of a question is still to be written."""
    try:
        return question[os.write(stdin.fileno(), question[:65536]) :]
    except BlockingIOError:
        return question
    except BrokenPipeError:
        # It reads no more. Whether it has ended, or hangs, shows where its answer is waited for.
        return b""


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    pipes = process.stdin, process.stdout, process.stderr
    return cast(tuple[IO[bytes], IO[bytes], IO[bytes]], pipes)  # Popen was asked for all three


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _excerpt(said: object) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said if isinstance(said, str) else repr(said)
    text = " ".join(text[:1000].split())
    # What is no printable character could turn a terminal upside down.
    text = "".join(c if c.isprintable() else "?" for c in text)
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "..."
