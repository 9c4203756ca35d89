"""Functions of all commands: expected errors as one line and an exit status, and checks of output paths."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ict_ref.utils.signals import LOST, LostProcessError, started_by_launcher

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


def guarded(
    name: str,
    action: Callable[[], int],
    *,
    refused: tuple[type[Exception], ...] = (ValueError,),
    stopped: str = "stopped",
    files: str = "a file",
    after_repair: str = "",
) -> int:
    """Run `action` and return its exit status. Convert expected errors and signals to one line and a status.

    `refused` lists exceptions whose message is already written for the user. `stopped` is the message after Ctrl-C.
    `files` replaces a missing file name in an OSError, and `after_repair` is appended to that line.
    """
    try:
        status = action()
        sys.stdout.flush()  # here, where a closed pipe is handled
        return status
    except BrokenPipeError:
        # The pipe is closed: the rest of the buffer must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except refused as error:
        return say(name, REFUSED, str(error))
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
        if not is_of_memory(error):
            raise
        return say(name, REFUSED, f"not enough memory: {str(error).splitlines()[0]}")
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        return say(name, 128 + number, stopped)


def is_of_memory(error: RuntimeError) -> bool:
    """Return whether torch failed to allocate host or GPU memory."""
    import torch

    # Any call may allocate, so single calls cannot be wrapped. The host's allocator raises a bare RuntimeError, and so
    # does a GPU driver outside torch's allocator. Only the text distinguishes these errors.
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def say(name: str, status: int, message: str) -> int:
    """Print one line to standard error and return the status."""
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
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


def model_name(model: Path, step: int | None, ema: float | None = None, ema_sigma: float | None = None) -> str:
    """Return the start of the names of a model's results: the model, and the options that choose its EMA weights.

    >>> model_name(Path("runs/digits"), 1200)
    'digits-step-1200'
    >>> model_name(Path("runs/digits"), None, ema=0.999)
    'digits-ema-0.999'
    """
    chosen = {"step": step, "ema": ema, "ema-sigma": ema_sigma}
    words = [f"{name}-{value}" for name, value in chosen.items() if value is not None]
    return "-".join([model.resolve().name.removesuffix(".safetensors"), *words])


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
