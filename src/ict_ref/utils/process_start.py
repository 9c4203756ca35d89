"""The state in which the process of a command starts: its standard streams, and Ctrl-C while it loads."""

import os
import signal
import sys
from functools import partial
from types import FrameType

# The module whose function `guarded` converts KeyboardInterrupt to a line and a status.
GUARDING = "ict_ref.utils.command_line"


def prepare_process(command: str) -> None:
    """Open standard streams that are closed, and let Ctrl-C end the command with one line while it loads.

    `command` begins that line. Ctrl-C stays ignored where it is.
    """
    _open_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, partial(_interrupt, command))


def _open_closed_streams() -> None:
    """Connect the standard streams that are closed to the null device.

    Otherwise a file that the command opens would get the number of such a stream, and a message would be written to it.
    """
    for number, (name, mode) in enumerate([("stdin", "r"), ("stdout", "w"), ("stderr", "w")]):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # does nothing if the numbers are equal, as they are without other threads
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 (open as long as the process)


def _interrupt(command: str, number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or end this process while it loads.

    Before `guarded` is called, the exception would be printed with a traceback. Some imports of torch swallow it.
    """
    if _is_caught(frame):
        raise KeyboardInterrupt
    os.write(2, f"{command}: stopped\n".encode())
    os._exit(128 + number)


def _is_caught(frame: FrameType | None) -> bool:
    """Return whether `guarded` runs, and no module is imported within it."""
    while frame is not None and frame.f_code.co_name != "<module>":
        if frame.f_globals.get("__name__") == GUARDING:
            return True
        frame = frame.f_back
    return False
