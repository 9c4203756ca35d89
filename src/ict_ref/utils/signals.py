"""Signals that request a stop, and the exit status of a process that lost another one."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

from ict_ref.utils.system import existing_signals

# Signals that request a stop. SIGHUP is that of a terminal that is closed.
STOPS = existing_signals("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
HANGUP = existing_signals("SIGHUP")
# Exit status of a process that ended only because another process of its run had ended.
LOST = 3
# The local launcher sets this environment variable for the processes that it starts.
RENDEZVOUS = "ICT_REF_RENDEZVOUS"


class LostProcessError(Exception):
    """Another process of the run has ended, so that this one cannot continue."""


def started_by_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the local launcher started this process."""
    return RENDEZVOUS in environment


def heeded(signals: Sequence[signal.Signals] = STOPS) -> list[signal.Signals]:
    """Return the signals without SIGHUP if it is ignored, as nohup does so that a run outlives its terminal."""
    return [one for one in signals if one not in HANGUP or signal.getsignal(one) != signal.SIG_IGN]


def leave_closed_terminal() -> None:
    """Connect the output streams to the null device where their terminal is closed, so that work can be saved."""
    for number in (1, 2):
        try:
            os.write(number, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


class StopRequest:
    """A stop requested by one of the signals, by default by Ctrl-C, SIGTERM, SIGUSR2 or a terminal that is closed.

    A second signal raises KeyboardInterrupt; a second SIGHUP does not, as the shell and the system each send one.
    """

    def __init__(self, signals: Sequence[signal.Signals] = STOPS) -> None:
        self.signal: signal.Signals | None = None
        self._signals = signals

    def __call__(self) -> bool:
        """Return whether a signal has requested a stop."""
        return self.signal is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals while the block runs."""
        before = {number: signal.signal(number, self._receive) for number in heeded(self._signals)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if number in HANGUP:
            leave_closed_terminal()
            if self.signal is not None:
                return
        if self.signal is not None:
            raise KeyboardInterrupt(number)
        self.signal = signal.Signals(number)
