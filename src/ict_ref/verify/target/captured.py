"""The output of code under test, kept out of the report."""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def captured_output() -> Iterator[None]:
    """Discard warnings and what is written to standard output, by Python and through file descriptor 1.

    The output goes to a temporary file, which is deleted.
    """
    sys.stdout.flush()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as aside:
        before, copy = sys.stdout, _copied(1)
        if copy is not None:
            os.dup2(aside.fileno(), 1)
        sys.stdout = aside
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            sys.stdout = before
            if copy is not None:
                os.dup2(copy, 1)
                os.close(copy)


def _copied(descriptor: int) -> int | None:
    """Return a copy of a file descriptor, or None if it is closed."""
    try:
        return os.dup(descriptor)
    except OSError:
        return None
