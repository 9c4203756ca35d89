"""Format numbers of stored files: a file says its format, and one of a later format is rejected as such."""

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = "format"
NOT_COMPARED = (KEY, "ict_ref", "model", "reference.name")
"""Entries in which equal descriptions may differ: another version, or a model or reference that was moved."""


class LaterFormatError(ValueError):
    """A file of a later version of ict_ref. It is not damaged, and nothing may replace it."""


def first_difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the first entry in which a stopped command differs from this one, with both values, or None.

    Entries that only the stopped command has are not compared.

    >>> first_difference({"ict_ref": "0.1.0", "seed": 1, "more": 3}, {"ict_ref": "0.2.0", "seed": 2})
    ('seed', 1, 2)
    """
    there, here = _entries(stored), _entries(wanted)
    return difference({name: there.get(name) for name in here}, here)


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return the first entry in which two descriptions differ, such as samples.count, with both values, or None.

    A model, a reference and a file with a checksum may be moved.

    >>> difference({"features": {"name": "a.pt", "sha256": "1"}}, {"features": {"name": "b.pt", "sha256": "2"}})
    ('features.name', 'a.pt', 'b.pt')
    >>> difference({"features": {"name": "a.pt", "sha256": "1"}}, {"features": {"name": "b.pt", "sha256": "1"}})
    """
    here, there = _entries(one), _entries(other)
    names = (name for name in here | there if name not in NOT_COMPARED and not _is_moved(name, here, there))
    return next(((name, here.get(name), there.get(name)) for name in names if here.get(name) != there.get(name)), None)


def _is_moved(name: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> bool:
    """Return whether an entry is the name of a file with the same checksum in both descriptions."""
    part, _, last = name.rpartition(".")
    checksum = here.get(f"{part}.sha256")
    return last == "name" and checksum is not None and checksum == there.get(f"{part}.sha256")


def _entries(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return every entry of a description by its full name, such as samples.count."""
    found: dict[str, Any] = {}
    for name, value in description.items():
        found |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return found


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
        raise ValueError(
            f"{path}: expected a format number >= 1, got {reprlib.repr(number)}. Restore the file from a copy."
        )
    if number > newest:
        writer = stored.get("written_by", stored.get("ict_ref"))
        is_name = isinstance(writer, str) and len(writer) < 40 and writer.isprintable()
        version = f"Version {writer} of ict_ref" if is_name else "A later version of ict_ref"
        expected = f"{path}: expected format {newest} or lower, got {reprlib.repr(number)}"
        raise LaterFormatError(f"{expected}. {version} wrote it. Install that version.")
    return number
