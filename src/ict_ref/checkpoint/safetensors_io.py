"""Tensors in safetensors, with what they are as JSON under one key: nothing in such a file can be executed."""

import json
from pathlib import Path
from typing import Any

import safetensors
from jaxtyping import Shaped
from torch import Tensor

# One key: safetensors writes several in any order, and equal contents shall be equal files.
KEY = "ict_ref"


def metadata(about: dict[str, Any]) -> dict[str, str]:
    """Return what such a file says of its tensors, as safetensors takes it."""
    return {KEY: json.dumps(about)}


def read_tensors(path: Path, advice: str) -> tuple[dict[str, Any] | None, dict[str, Shaped[Tensor, "..."]]]:
    """Return what the file says of its tensors, None if it is none of ours, and the tensors.

    Raises ValueError, with the advice, for one that is damaged or not safetensors.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get(KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged or not safetensors ({error}); {advice}") from None
    try:
        about = None if said is None else json.loads(said)
    except json.JSONDecodeError:
        about = None
    return about if isinstance(about, dict) else None, tensors
