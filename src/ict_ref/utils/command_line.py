"""Parts of all commands: expected errors as one line and an exit status, and places for new files."""

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

    `refused` are errors that tell the user what to do, `stopped` is printed after Ctrl-C, `files` is the subject of an
    error of the operating system that names no file, and `after_repair` ends its line.
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
        return say(name, REFUSED, f"this machine has not enough memory: {error}")
    except OSError as error:
        return say(name, REFUSED, f"cannot use {error.filename or files}: {error.strerror or error}{after_repair}")
    except FloatingPointError as error:
        return say(name, FAILED, str(error))
    except LostProcessError as error:
        # The launcher of the processes reports which of them failed; this one did not.
        return LOST if started_by_launcher() else say(name, LOST, f"another process is gone ({error})")
    except RuntimeError as error:
        if not _is_of_memory(error):
            raise
        return say(name, REFUSED, f"there is not enough memory: {str(error).splitlines()[0]}")
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        return say(name, 128 + number, stopped)


def _is_of_memory(error: RuntimeError) -> bool:
    """Return whether torch failed to allocate memory, of the host or of a GPU."""
    import torch

    # Any call may allocate, so none can be wrapped. The host's allocator raises a bare RuntimeError, and so does the
    # driver of a GPU outside of torch's allocator: only their words distinguish them from other errors.
    words = ("can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in words)


def say(name: str, status: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    return status


def leave(status: int) -> NoReturn:
    """End this process with the status; one of several ends at once.

    torch's threads may abort a process that ends while they do (pytorch/pytorch#190489), after its work is done.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def refuse_place(path: Path, option: str = "--out") -> None:
    """Raise ValueError unless a new file or folder can be made here."""
    if os.path.lexists(path):
        raise ValueError(f"{path} is there, and nothing is overwritten; choose another {option}")
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"{option} {path} needs a folder that can be written to; {above} is none")
