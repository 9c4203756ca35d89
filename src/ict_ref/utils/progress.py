"""Progress bars: a count, the bar and the time left."""

import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

BAR = "{desc} {n_fmt}/{total_fmt} {unit} |{bar:20}|{postfix}, {remaining} left"


def bar(
    counted: int | Sequence[Any], what: str, unit: str, *, initial: int = 0, run: bool = False, shown: bool = True
) -> "tqdm[Any]":
    """Return a bar over a number of units, or around a sequence, that appears after two seconds and does not stay.

    The bar of a whole `run` appears at once and stays, and writes a line each ten seconds where there is no screen.
    """
    return tqdm(
        None if isinstance(counted, int) else counted,
        total=counted if isinstance(counted, int) else len(counted),
        desc=what,
        unit=unit,
        unit_scale=unit in ("B", "pairs"),  # these are millions
        initial=initial,
        disable=not shown,
        delay=0 if run else 2,
        leave=run,
        mininterval=10 if run and not sys.stderr.isatty() else 0.5,
        bar_format=BAR,
    )
