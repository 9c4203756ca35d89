"""Progress bars with a count and the remaining time."""

import sys
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from tqdm import tqdm

# A narrow terminal cuts off the end, so the remaining time comes before the postfix, which begins with a comma.
BAR = "{desc} {n_fmt}/{total_fmt} {unit} |{bar:10}| {remaining} left{postfix}"


@runtime_checkable
class Stream(Protocol):
    """What a bar is written to, such as standard error."""

    def write(self, text: str, /) -> object:
        """Write a text."""

    def flush(self) -> object:
        """Write what is buffered."""

    def isatty(self) -> bool:
        """Return whether it is a terminal."""


def bar(
    counted: int | Sequence[Any] | None,
    what: str,
    unit: str,
    *,
    initial: int = 0,
    run: bool = False,
    shown: bool = True,
    file: Stream | None = None,
) -> "tqdm[Any]":
    """Return a progress bar over a number of units or a sequence; it appears after two seconds and is erased.

    The number is None if it is not known.

    It is written to standard error, or to `file`.
    With `run` the bar appears at once and stays. Without a terminal such a bar writes one line every ten seconds.
    """
    return tqdm(
        None if isinstance(counted, int) else counted,
        total=counted if counted is None or isinstance(counted, int) else len(counted),
        desc=what,
        unit=unit,
        unit_scale=unit in ("B", "pairs"),  # these counts reach millions
        initial=initial,
        disable=not shown,
        file=file or sys.stderr,
        delay=0 if run else 2,
        leave=run,
        mininterval=10 if run and not sys.stderr.isatty() else 0.5,
        bar_format=BAR,
    )


def write_line(line: str) -> None:
    """Write a line to standard error, above a progress bar."""
    tqdm.write(line, file=sys.stderr)
