"""Progress bars with a count and the remaining time."""

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

# A narrow terminal cuts off the end, so the remaining time comes before the postfix, which begins with a comma.
BAR = "{desc} {n_fmt}/{total_fmt} {unit} |{bar:10}| {remaining} left{postfix}"


def bar(
    counted: int | Sequence[Any], what: str, unit: str, *, initial: int = 0, run: bool = False, shown: bool = True
) -> "tqdm[Any]":
    """Return a progress bar over a number of units or a sequence; it appears after two seconds and is erased.

    With `run` the bar appears at once and stays. Without a terminal such a bar writes one line every ten seconds.
    """
    return tqdm(
        None if isinstance(counted, int) else counted,
        total=counted if isinstance(counted, int) else len(counted),
        desc=what,
        unit=unit,
        unit_scale=unit in ("B", "pairs"),  # these counts reach millions
        initial=initial,
        disable=not shown,
        delay=0 if run else 2,
        leave=run,
        mininterval=10 if run and not sys.stderr.isatty() else 0.5,
        bar_format=BAR,
    )
