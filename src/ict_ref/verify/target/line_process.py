"""A command that answers each line of its standard input by a line of its standard output.

The command is not trusted: every wait and every output has a limit. At the end the command and its children are killed,
except children that have left its process group.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO, NoReturn, cast

from ict_ref.verify.errors import VerifyError

# The longest value of a vector has 1 MB.
LONGEST_LINE = 4 * 2**20
ERRORS_KEPT = 4000
# The time in seconds that a command has to end after the end of its input, and the interval of polling.
GRACE = 0.5
TICK = 0.05


class ExternalTargetError(VerifyError):
    """A command did not return a valid result. This never counts as a rejection of arguments, even where one is
    expected.
    """


class LineProcess:
    """A process that is started for the first line, and again for the first line after `stop`."""

    def __init__(self, words: Sequence[str], seconds: float) -> None:
        self.words, self.seconds = words, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._received, self._errors = b"", b""

    def exchange(self, request: bytes) -> bytes:
        """Send a request and return the next line that the command writes.

        Raises:
            ExternalTargetError: The command cannot be started, ends, or does not write a line in time.
        """
        process = self._process or self.start()
        deadline = time.monotonic() + self.seconds
        left_to_send = memoryview(request)  # slices of it do not copy a long request
        with selectors.DefaultSelector() as selector:
            for pipe, event in zip(_pipes(process), (selectors.EVENT_WRITE, *[selectors.EVENT_READ] * 2), strict=True):
                selector.register(pipe, event)
            while b"\n" not in self._received:
                left = self._seconds_left(deadline)
                ready = [cast(IO[bytes], key.fileobj) for key, _ in selector.select(min(left, TICK))]
                # All output from before its end has been read, because nothing is ready. Its children may hold the
                # pipe open.
                if not ready and process.poll() is not None:
                    self._has_ended(process)
                left_to_send = self._transferred(process, ready, left_to_send, selector)
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _seconds_left(self, deadline: float) -> float:
        """Return the time left for the answer. Raises ExternalTargetError for a late or an endless one."""
        if len(self._received) > LONGEST_LINE:
            raise ExternalTargetError(f"the command wrote more than {LONGEST_LINE >> 20} MiB without an end of line")
        left = deadline - time.monotonic()
        if left <= 0:
            raise ExternalTargetError(
                f"the command did not answer within {self.seconds:g} s{self._last_error()}; "
                "check that it flushes its output after each line"
            )
        return left

    def _transferred(
        self,
        process: subprocess.Popen[bytes],
        ready: Sequence[IO[bytes]],
        request: memoryview,
        selector: selectors.BaseSelector,
    ) -> memoryview:
        """Read and write what is ready, and return the rest of the request; pipes that are done are not selected."""
        stdin, stdout, stderr = _pipes(process)
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
        return request

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
        return f"; its last line of errors: {excerpt(lines[-1])}" if lines else ""

    def start(self) -> subprocess.Popen[bytes]:
        """Start the command.

        Raises:
            ExternalTargetError: It cannot be started.
        """
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

    def stop(self, grace: float = 0.0) -> None:
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


def _written(stdin: IO[bytes], request: memoryview) -> memoryview:
    """Write a part of a request and return the rest."""
    try:
        return request[os.write(stdin.fileno(), request[:65536]) :]
    except BlockingIOError:
        return request
    except BrokenPipeError:
        # The command does not read. The wait for its output finds out whether it has ended or hangs.
        return request[:0]


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    pipes = process.stdin, process.stdout, process.stderr
    return cast(tuple[IO[bytes], IO[bytes], IO[bytes]], pipes)  # Popen opened all three


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def excerpt(said: object) -> str:
    """Return the beginning of a command's output in printable characters."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said if isinstance(said, str) else repr(said)
    text = " ".join(text[:1000].split())
    # Other than printable characters could change the terminal's state.
    text = "".join(c if c.isprintable() else "?" for c in text)
    return repr(text) if len(text) <= 80 else repr(text[:80]) + "..."
