"""What all commands share: one line and status 2 for what the user must mend, never a traceback."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ict_ref.utils.signals import LOST, started_by_launcher

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


class Parser(argparse.ArgumentParser):
    """Raises ValueError for bad usage, for the command to say in its one line."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Refuse."""
        raise ValueError(f"{message}; see {self.prog} --help")


def guarded(
    name: str,
    action: Callable[[], int],
    *,
    refused: tuple[type[Exception], ...] = (ValueError,),
    stopped: str = "stopped",
    files: str = "a file",
) -> int:
    """Do it and return its exit status; what the user can mend, and what happens to it, is one line and a status.

    `refused` are errors that tell the user what to do, `stopped` is said after Ctrl-C, and `files` are what an error of
    the operating system is of that names none.
    """
    try:
        return action()
    except BrokenPipeError:
        # Nobody reads any more. What is left in the buffer must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except refused as error:
        return say(name, REFUSED, str(error))
    except MemoryError as error:
        return say(name, REFUSED, f"this machine has not enough memory: {error}")
    except OSError as error:
        return say(name, REFUSED, f"cannot use {error.filename or files}: {error.strerror or error}")
    except FloatingPointError as error:
        return say(name, FAILED, str(error))
    except RuntimeError as error:
        if _is_of_memory(error):
            return say(name, REFUSED, f"there is not enough memory: {str(error).splitlines()[0]}")
        if not _is_of_another_process(error):
            raise
        # Who started the processes knows which of them failed; this one did not.
        return LOST if started_by_launcher() else say(name, LOST, f"another process is gone ({error})")
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        return say(name, 128 + number, stopped)


def _is_of_memory(error: RuntimeError) -> bool:
    """Return whether the error says that torch could not have memory, of the host or of a GPU."""
    return any(words in str(error) for words in ("can't allocate memory", "out of memory"))


def _is_of_another_process(error: RuntimeError) -> bool:
    """Return whether the error says that another process is gone."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return False
    from torch.distributed import DistError

    said = str(error).lower()
    return isinstance(error, DistError) or "gloo" in said or "connection" in said


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
