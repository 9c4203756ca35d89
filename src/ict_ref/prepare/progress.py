"""Progress of `python -m ict_ref.prepare`."""

from collections.abc import Iterable
from typing import NoReturn

from tqdm import tqdm

BAR = "{desc} {n_fmt}/{total_fmt} |{bar:20}| {remaining} left"


def bar(total: int, title: str, unit: str = "B", initial: int = 0) -> "tqdm[NoReturn]":
    """Return a bar that shows itself after two seconds, with the time left."""
    return tqdm(total=total, initial=initial, desc=title, unit=unit, unit_scale=unit == "B", delay=2, bar_format=BAR)


def progress(things: list[str], title: str, unit: str) -> Iterable[str]:
    """Wrap a bar around the things; it shows itself after two seconds."""
    return tqdm(things, desc=title, unit=unit, delay=2, bar_format=BAR)
