"""What all commands share: one line and status 2 for what the user must mend, never a traceback."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

REFUSED, INTERRUPTED = 2, 128 + signal.SIGINT


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


def guarded(name: str, action: Callable[[], int]) -> int:
    """Do it and return its exit status; ValueError, OSError, too little memory and Ctrl-C are one line and a status."""
    try:
        return action()
    except BrokenPipeError:
        # Nobody reads any more. What is left in the buffer must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ValueError as error:
        return say(name, REFUSED, str(error))
    except OSError as error:
        return say(name, REFUSED, f"cannot use {error.filename or 'a file'}: {error.strerror or error}")
    except MemoryError as error:
        return say(name, REFUSED, f"this machine has not enough memory: {error}")
    except KeyboardInterrupt:
        return say(name, INTERRUPTED, "stopped")


def say(name: str, status: int, message: str) -> int:
    """Print one line to standard error, and return the status."""
    print(f"{name}: {' '.join(message.split())}", file=sys.stderr)
    return status


def refuse_place(path: Path, option: str = "--out") -> None:
    """Raise ValueError unless a new file or folder can be made here."""
    if os.path.lexists(path):
        raise ValueError(f"{path} is there, and nothing is overwritten; choose another {option}")
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"{option} {path} needs a folder that can be written to; {above} is none")
