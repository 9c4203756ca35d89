"""Format numbers of stored files: a file says its format, and one of a later format is rejected as such."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = "format"
NOT_COMPARED = (KEY, "ict_ref", "model")
"""Entries of a description that may differ where a stopped command resumes: another version, or a moved model."""


class LaterFormatError(ValueError):
    """A file of a later version of ict_ref. It is not damaged, and nothing may replace it."""


def first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """Return the first entry of a description in which a stopped command differs from this one, or None.

    >>> first_difference({"ict_ref": "0.1.0", "seed": 1}, {"ict_ref": "0.2.0", "seed": 2})
    'seed'
    """
    names = (name for name in wanted if name not in NOT_COMPARED)
    return next((name for name in names if stored.get(name) != wanted[name]), None)


def format_of(path: Path | str, stored: Mapping[str, Any], newest: int) -> int:
    """Return the format of a stored object; 1 if it has no number, as in files of version 0.1.0.

    >>> format_of("config.json", {"format": 2}, newest=2)
    2

    Raises:
        LaterFormatError: The format is later than the newest that this version reads.
        ValueError: The number is not an integer >= 1.
    """
    number = stored.get(KEY, 1)
    if type(number) is not int or number < 1:
        raise ValueError(f"{path}: expected a format number >= 1, got {number!r}. Restore the file from a copy.")
    if number > newest:
        writer = stored.get("written_by", stored.get("ict_ref"))
        version = f"Version {writer} of ict_ref" if writer else "A later version of ict_ref"
        expected = f"{path}: expected format {newest} or lower, got {number}"
        raise LaterFormatError(f"{expected}. {version} wrote it. Install that version.")
    return number
