"""A time limit for calls of code under test."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType

PATIENCE = 3
"""A call that waits for its processor may take this many times its limit."""


class NoAnswerError(BaseException):
    """A call did not return within its time limit.

    It is not an Exception, so that code under test does not catch it, and Hypothesis does not repeat the call.
    """


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds of its work; 0 is no limit.

    On a loaded machine a process gets a part of a processor only. A block that has worked for less than half of the
    limit continues, until it has taken PATIENCE times the limit.
    Only the main thread can be interrupted, and only between two instructions of Python. A call into compiled code,
    such as one operation on a large array, is interrupted when it returns.

    Raises:
        NoAnswerError: The block did not end within the limit.
    """
    if seconds <= 0 or threading.current_thread() is not threading.main_thread():
        yield
        return

    worked, began = time.process_time(), time.monotonic()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        waits = time.process_time() - worked < seconds / 2
        if waits and time.monotonic() - began < PATIENCE * seconds:
            return
        raise NoAnswerError(f"no answer in {seconds:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def limited(function: Callable[..., object], seconds: float) -> Callable[..., object]:
    """Return the function with a time limit for each call, and with the same signature."""

    @wraps(function)
    def call(*arguments: object, **named: object) -> object:
        with time_limit(seconds):
            return function(*arguments, **named)

    return call
