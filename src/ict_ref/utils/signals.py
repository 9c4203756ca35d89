"""Signals that request a stop, and the exit status of a process that lost another one."""

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from types import FrameType

# Signals that request a stop.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
# Exit status of a process that ended only because another process of its run had ended.
LOST = 3
# The local launcher sets this environment variable for the processes that it starts.
RENDEZVOUS = "ICT_REF_RENDEZVOUS"


class LostProcessError(Exception):
    """Another process of the run has ended, so that this one cannot continue."""


def started_by_launcher(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the local launcher started this process."""
    return RENDEZVOUS in environment


class StopRequest:
    """Ctrl-C, SIGTERM and SIGUSR2 as a wish to stop soon; a second one stops at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def __call__(self) -> bool:
        """Return whether somebody wants this process to stop."""
        return self.signal is not None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Receive the signals while the block runs."""
        before = {number: signal.signal(number, self._receive) for number in STOPS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt(number)
        self.signal = signal.Signals(number)
