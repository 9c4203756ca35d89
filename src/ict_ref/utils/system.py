"""Operating systems: which commands need Linux or macOS, and how files are opened on each."""

import os
import platform
import signal
from importlib.util import find_spec

WINDOWS = os.name == "nt"
# Without it Windows converts the ends of lines, and ends a file at its first Ctrl-Z.
ALWAYS = ("O_BINARY", "O_CLOEXEC")


def has_locks_and_signals() -> bool:
    """Return whether the system has the file locks and the signals that runs need, as Linux and macOS do."""
    return find_spec("fcntl") is not None and hasattr(signal, "SIGUSR2")


def needs_linux_or_macos() -> str:
    """Return one line for a command that this system cannot run."""
    return (
        f"operating system: expected Linux or macOS, got {platform.system() or 'another one'}. "
        "Only the formulas, eq and verify work on every system."
    )


def existing_signals(*names: str) -> tuple[signal.Signals, ...]:
    """Return the signals of these names that the system has.

    >>> existing_signals("SIGINT", "SIGNONE")
    (<Signals.SIGINT: 2>,)
    """
    return tuple(signal.Signals[name] for name in names if hasattr(signal, name))


def open_flags(*names: str) -> int:
    """Return those flags of os.open that the system has, besides those that every file needs.

    >>> open_flags("O_NONE") == open_flags()
    True
    """
    flags = 0
    for name in (*ALWAYS, *names):
        flags |= getattr(os, name, 0)
    return flags
