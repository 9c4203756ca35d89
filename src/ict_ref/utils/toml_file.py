"""TOML of files that users write."""

import tomllib
from pathlib import Path
from typing import Any

from ict_ref.utils.regular_file import read_regular

LARGEST = 2**20
"""Largest file in bytes; users write these files by hand."""


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ValueError: it is not a regular file, larger than 1 MiB, or not TOML. The message is one line.
        OSError: it cannot be read.
    """
    content = read_regular(path, LARGEST)
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a TOML file, got one with an error: {reason}") from None
