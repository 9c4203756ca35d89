"""Safetensors files with a description of their tensors, stored as JSON under one metadata key."""

import json
from pathlib import Path
from typing import Any

import safetensors
from jaxtyping import Shaped
from torch import Tensor

# One key only: safetensors writes several keys in any order, and equal contents must give equal files.
KEY = "ict_ref"


class UnusableFileError(ValueError):
    """A file that cannot be used: the reason, and advice for the user."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}. {advice}")
        self.reason = reason


def metadata(about: dict[str, Any]) -> dict[str, str]:
    """Return the metadata, as safetensors takes it, that stores a description."""
    return {KEY: json.dumps(about)}


def read_tensors(path: Path, advice: str) -> tuple[dict[str, Any] | None, dict[str, Shaped[Tensor, "..."]]]:
    """Return the description in a file, None if ict_ref did not write it, and the tensors by name.

    Reading executes no code from the file.

    Raises:
        UnusableFileError: the file is damaged or not safetensors. The message ends with `advice`.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except safetensors.SafetensorError as error:
        raise UnusableFileError(f"{path} is damaged or not safetensors ({error})", advice) from None
    try:
        about = None if stored is None else json.loads(stored)
    except json.JSONDecodeError:
        about = None
    return about if isinstance(about, dict) else None, tensors
