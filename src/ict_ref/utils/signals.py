"""Signals as a wish to stop."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ict_ref.distributed.local_launcher import STOPS


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
