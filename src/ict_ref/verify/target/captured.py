"""The output of code under test, kept out of the report."""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from ict_ref.utils.progress import Stream


@contextmanager
def captured_output() -> Iterator[Stream]:
    """Discard warnings and what is written to standard output and standard error, by Python and through descriptors.

    Yield standard error as it was, for messages that are not the code's. The output goes to a temporary file, which is
    deleted.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before, copies = (sys.stdout, sys.stderr), {number: _copied(number) for number in (1, 2)}
    with ExitStack() as stack:
        aside = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace"))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        kept: Stream = before[1]
        if (copy := copies[2]) is not None and before[1] is sys.__stderr__:
            kept = stack.enter_context(os.fdopen(os.dup(copy), "w", buffering=1, errors="replace"))
        sys.stdout = sys.stderr = aside
        for number in filter(copies.get, copies):
            os.dup2(aside.fileno(), number)
        try:
            yield kept
        finally:
            sys.stdout, sys.stderr = before
            for number, descriptor in copies.items():
                if descriptor is not None:
                    os.dup2(descriptor, number)
                    os.close(descriptor)


def _copied(descriptor: int) -> int | None:
    """Return a copy of a file descriptor, or None if it is closed."""
    try:
        return os.dup(descriptor)
    except OSError:
        return None
