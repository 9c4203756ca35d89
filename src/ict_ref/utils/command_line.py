"""Functions of all commands: expected errors as one line and an exit status, and checks of output paths."""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

from ict_ref.utils.packages import how_to_install
from ict_ref.utils.printable import printable
from ict_ref.utils.regular_file import real_path
from ict_ref.utils.signals import LOST, LostProcessError, started_by_launcher
from ict_ref.utils.system import has_locks_and_signals, needs_linux_or_macos

FAILED, REFUSED = 1, 2


def guarded(
    name: str,
    action: Callable[[], int],
    *,
    everywhere: bool = False,
    refused: tuple[type[Exception], ...] = (ValueError,),
    stopped: str = "stopped",
    files: str = "a file or standard output",
    after_repair: str = "",
) -> int:
    """Run `action` and return its exit status. Convert expected errors and signals to one line and a status.

    Unless the command works `everywhere`, it is rejected on systems other than Linux and macOS.
    `refused` lists exceptions whose message is already written for the user. `stopped` is the message after Ctrl-C.
    `files` replaces a missing file name in an OSError, and `after_repair` is appended to that line.
    """
    _escape_what_cannot_be_printed()
    if not (everywhere or has_locks_and_signals()):
        return say(name, REFUSED, needs_linux_or_macos())
    try:
        status = action()
        return _flushed(name, status)
    except BrokenPipeError:
        _discard_the_rest(sys.stdout)
        return 141  # 128 + SIGPIPE, which Windows does not have
    except refused as error:
        return say(name, REFUSED, str(error))
    except ModuleNotFoundError as error:
        if (line := how_to_install(error)) is None:
            raise
        return say(name, REFUSED, line)
    except MemoryError as error:
        return say(name, REFUSED, f"not enough memory on this machine: {error}")
    except OSError as error:
        return say(name, REFUSED, f"cannot use {error.filename or files}: {error.strerror or error}{after_repair}")
    except FloatingPointError as error:
        return say(name, FAILED, str(error))
    except LostProcessError as error:
        # The launcher of the processes reports which of them failed; this one did not.
        return LOST if started_by_launcher() else say(name, LOST, f"another process was lost ({error})")
    except RuntimeError as error:
        if is_of_compiler(error):
            return say(name, REFUSED, f"torch.compile failed ({_first_line(error)}). Run without compilation.")
        if not is_of_memory(error):
            raise
        return say(name, REFUSED, f"not enough memory: {_first_line(error)}")
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        return say(name, 128 + number, stopped)


def _flushed(name: str, status: int) -> int:
    """Write what is left for standard output, and return the status.

    Raises:
        BrokenPipeError: Standard output is a closed pipe.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard_the_rest(sys.stdout)
        return say(name, REFUSED, f"cannot use standard output: {error.strerror}")
    return status


def _discard_the_rest(stream: TextIO) -> None:
    """Connect a stream that cannot be written to the null device, as Python writes the rest of its buffer at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _escape_what_cannot_be_printed() -> None:
    """Let the standard streams escape characters that they cannot encode, such as those of a file's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def is_of_memory(error: RuntimeError) -> bool:
    """Return whether torch failed to allocate host or GPU memory."""
    import torch

    # Any call may allocate, so single calls cannot be wrapped. The host's allocator raises a bare RuntimeError, and so
    # does a GPU driver outside torch's allocator. Only the text distinguishes these errors.
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def is_of_compiler(error: RuntimeError) -> bool:
    """Return whether torch.compile raised this error, such as for a compiler that fails."""
    return type(error).__module__.startswith(("torch._inductor", "torch._dynamo"))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def say(name: str, status: int, message: str) -> int:
    """Print one line to standard error, if it can be written, and return the status."""
    try:
        print(f"{name}: {printable(' '.join(message.split()))}", file=sys.stderr, flush=True)
    except OSError:
        _discard_the_rest(sys.stderr)
    return status


def leave(status: int) -> NoReturn:
    """End this process with the status, at once if it is one rank of several.

    During a normal exit torch's threads may abort the process although its work is done (pytorch/pytorch#190489).
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def expect(holds: bool, option: str, expected: str, got: object, advice: str = "") -> None:
    """Reject the value of an option, given as the user types it, unless a condition holds.

    Raises:
        ValueError: `holds` is false. The message is *option: expected X, got Y. What to do.*
    """
    if not holds:
        raise ValueError(f"{option}: expected {expected}, got {got}{'. ' if advice else ''}{advice}")


MOST = 2**31 - 1
"""Largest count that an option takes, unless a smaller one is stated."""
MOST_PROCESSES = 1024
"""Largest number of processes and of threads on one machine."""
LARGEST_SEED = 2**128 - 1
"""The largest seed of a random stream."""


def expect_count(value: int | None, option: str, least: int = 1, most: int = MOST) -> None:
    """Reject a whole number that is out of range, before anything is started for it; None is not checked.

    >>> expect_count(2**63, "--count")
    Traceback (most recent call last):
    ValueError: --count: expected an integer between 1 and 2147483647, got 9223372036854775808

    Raises:
        ValueError: the number is too small or too large.
    """
    if value is not None:
        expect(value >= least, option, f"an integer >= {least}", value)
        expect(value <= most, option, f"an integer between {least} and {most}", value)


def model_name(model: Path, step: int | None, ema: float | None = None, ema_sigma: float | None = None) -> str:
    """Return the start of the names of a model's results: the model, and the options that choose its EMA weights.

    >>> model_name(Path("runs/digits"), 1200)
    'digits-step-1200'
    >>> model_name(Path("runs/digits"), None, ema=0.999)
    'digits-ema-0.999'
    """
    chosen = {"step": step, "ema": ema, "ema-sigma": ema_sigma}
    words = [f"{name}-{value}" for name, value in chosen.items() if value is not None]
    return "-".join([real_path(model).name.removesuffix(".safetensors"), *words])


def refuse_place(path: Path, option: str = "--out") -> None:
    """Reject a path at which a new file or folder cannot be created.

    Raises:
        ValueError: The path exists, or the nearest existing folder above it is not writable.
    """
    if os.path.lexists(path):
        raise ValueError(
            f"{option}: expected a new path, got {path}. Existing files are not overwritten; choose another {option}."
        )
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"{option}: expected a path in a writable folder, got {path}. Choose another than {above}.")
