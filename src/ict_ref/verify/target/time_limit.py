"""A time limit for calls of code under test."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType

PATIENCE = 3
"""A call that waits for its processor may take this many times its limit."""
PATIENCE_WITH_IMPORTS = 30
"""A call that imports a module may take this many times its limit."""
IMPORTING = "<frozen importlib._bootstrap>"


class NoAnswerError(BaseException):
    """A call did not return within its time limit.

    It is not an Exception, so that code under test does not catch it, and Hypothesis does not repeat the call.
    """


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds of its work; 0 is no limit.

    On a loaded machine a process gets a part of a processor only. A block that has worked for less than half of the
    limit continues, until it has taken PATIENCE times the limit. Nor is an import interrupted, up to
    PATIENCE_WITH_IMPORTS times the limit: half a module would stay, and fail every later call that needs it.
    Only the main thread can be interrupted, and only between two instructions of Python. A call into compiled code,
    such as one operation on a large array, is interrupted when it returns. A system without SIGALRM, such as Windows,
    has no limit.

    Raises:
        NoAnswerError: The block did not end within the limit.
    """
    if seconds <= 0 or not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    worked, began = time.process_time(), time.monotonic()
    block = sys._getframe(2)  # below it and that of the context manager

    def interrupt(_number: int, frame: FrameType | None) -> None:
        waits = time.process_time() - worked < seconds / 2
        took = time.monotonic() - began
        if (waits and took < PATIENCE * seconds) or (_imports(frame, block) and took < PATIENCE_WITH_IMPORTS * seconds):
            return
        raise NoAnswerError(f"no answer in {seconds:g} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _imports(frame: FrameType | None, block: FrameType) -> bool:
    """Return whether an import is under way in a frame or in one between it and that of the block."""
    while frame is not None and frame is not block:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


def limited(function: Callable[..., object], seconds: float) -> Callable[..., object]:
    """Return the function with a time limit for each call, and with the same signature."""

    @wraps(function)
    def call(*arguments: object, **named: object) -> object:
        with time_limit(seconds):
            return function(*arguments, **named)

    return call
