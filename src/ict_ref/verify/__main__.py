"""`python -m ict_ref.verify TARGET`: a report of the formulas of an implementation that are right and wrong.

This module does not import torch, so that help and errors appear at once.
"""

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from ict_ref.utils.command_line import guarded
from ict_ref.utils.option_parser import parse_options
from ict_ref.verify.errors import VerifyError
from ict_ref.verify.options import COMMANDS, EPILOG, Options, with_command

NAME = "ict_ref.verify"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    name, refused = f"python -m {NAME}", (ValueError, VerifyError)
    return guarded(name, lambda: _run(arguments), everywhere=True, refused=refused)


def _run(arguments: Sequence[str] | None) -> int:
    options = options_of(arguments)
    from ict_ref.verify.run import verify

    return verify(options)


def options_of(arguments: Sequence[str] | None) -> Options:
    """Return the options of the command that the arguments name.

    Raises:
        ValueError: An option does not exist, or has a value that is not allowed.
    """
    command, *words = with_command(sys.argv[1:] if arguments is None else arguments)
    return parse_options(COMMANDS[command], words, NAME if command == "check" else f"{NAME} {command}", EPILOG)


def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """End the command like Ctrl-C, so that the processes of exec are killed.

    SystemExit would not do: it counts as a failure of the implementation.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
