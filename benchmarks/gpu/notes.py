"""The rows that a stage measures, in a file that is complete after each row."""

import json
from pathlib import Path
from typing import Any

from ict_ref.utils.atomic import write_atomically

Row = dict[str, Any]
"""A measurement: its name under "what", and its values."""


class Notes:
    """The rows of a stage. A stage that is stopped at its limit keeps those that it has measured.

    >>> notes = Notes(Path("masks.json"))
    >>> notes.add("masks", preset="cifar10", milliseconds=1.5)
    {"what": "masks", "preset": "cifar10", "milliseconds": 1.5}
    >>> read_rows(Path("masks.json"))
    [{'what': 'masks', 'preset': 'cifar10', 'milliseconds': 1.5}]
    """

    def __init__(self, file: Path) -> None:
        self.file, self._rows = file, list[Row]()

    @property
    def folder(self) -> Path:
        """Return the folder of all stages' files."""
        return self.file.parent

    def add(self, what: str, **values: Any) -> None:
        """Write a row, and print it into the log of the stage."""
        row = {"what": what, **{name: rounded(value) for name, value in values.items()}}
        self._rows.append(row)
        print(json.dumps(row), flush=True)
        write_atomically(self.file, json.dumps(self._rows).encode())


def read_rows(file: Path) -> list[Row]:
    """Return the rows that a stage has written so far."""
    rows: list[Row] = json.loads(file.read_text("utf-8")) if file.exists() else []
    return rows


def rounded(value: Any) -> Any:
    """Return a number with five significant digits, and any other value as it is."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def first_line(error: BaseException) -> str:
    """Return the kind of an error and the start of its first line."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
