"""Checks of single values of a configuration, with messages that name the option.

The checks compare numbers only and import no torch, so that a command rejects a bad value at once.
"""

import math
import struct
from typing import Any

from ict_ref.utils import command_line

LARGEST = {"float32": (2 - 2**-23) * 2.0**127, "float64": (2 - 2**-52) * 2.0**1023}
"""Largest number of each dtype."""
SMALLEST_NORMAL = {"float32": 2.0**-126, "float64": 2.0**-1022}
"""Smallest positive number of each dtype with all its digits."""


def option(field: str) -> str:
    """Return the option of a field as a user types it.

    >>> option("train.batch_size")
    '--train.batch-size'
    """
    return f"--{field.replace('_', '-')}"


def expect(holds: bool, field: str, expected: str, got: object, advice: str = "") -> None:
    """Reject the value of a field, given by its full name, unless a condition holds.

    Raises:
        ValueError: the condition does not hold.
    """
    command_line.expect(holds, option(field), expected, got, advice)


def at_least(least: int, group: Any, prefix: str, *names: str, most: int = command_line.MOST) -> None:
    """Reject the fields of these names in a group, the group `prefix`, if they are too small or too large.

    Raises:
        ValueError: a field is less than `least` or more than `most`.
    """
    for name in names:
        command_line.expect_count(getattr(group, name), option(f"{prefix}.{name}"), least, most)


def positive(group: Any, prefix: str, *names: str) -> None:
    """Reject the fields of these names in a group, the group `prefix`, unless they are positive and finite.

    Raises:
        ValueError: a field is not positive or not finite.
    """
    for name in names:
        value = getattr(group, name)
        expect(0 < value < math.inf, f"{prefix}.{name}", f"0 < {name} < infinity", value)


def rounded(value: float, dtype: str) -> float:
    """Return a number as float32 or float64 represents it.

    >>> rounded(1e-50, "float32"), rounded(1e308, "float32"), rounded(1e308, "float64")
    (0.0, inf, 1e+308)
    """
    if dtype == "float64":
        return value
    try:
        single: float = struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return math.inf
    return single
