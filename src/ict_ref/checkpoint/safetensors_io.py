"""Safetensors files with a description of their tensors, stored as JSON under one metadata key.

The description has a format number and a checksum. The checksum covers the description as it is stored and all tensors,
so a later version, whose classes have other fields, computes the same.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.utils import file_format
from ict_ref.utils.json_file import json_object
from ict_ref.utils.lfs import explained
from ict_ref.utils.regular_file import open_regular
from ict_ref.utils.version import __version__

# One key only: safetensors writes several keys in any order, and equal contents must give equal files.
KEY = "ict_ref"


class UnusableFileError(ValueError):
    """A file that cannot be used: the reason, and advice for the user."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason}. {advice}")
        self.reason = reason


def metadata(about: Mapping[str, Any], tensors: Mapping[str, Shaped[Tensor, "..."]], newest: int) -> dict[str, str]:
    """Return the metadata, as safetensors takes it: a description with format, version and checksum."""
    described = {file_format.KEY: newest, "ict_ref": __version__, **about}
    return {KEY: json.dumps(described | {"sha256": checksum(json.dumps(described), tensors)})}


def description(path: Path) -> dict[str, Any]:
    """Return the description in a file without reading its tensors; empty for any other file, or for none."""
    if not path.is_file():  # opening a pipe would wait for its other end
        return {}
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return _described(file) or {}
    except (safetensors.SafetensorError, OSError):
        return {}


def read_tensors(
    path: Path, newest: int, advice: str
) -> tuple[dict[str, Any] | None, dict[str, Shaped[Tensor, "..."]]]:
    """Return the description in a file, None if ict_ref did not write it, and the tensors by name.

    Reading executes no code from the file.

    Raises:
        LaterFormatError: the format is later than `newest`.
        OSError: the file cannot be read.
        UnusableFileError: the file is damaged or not safetensors. The message ends with `advice`.
    """
    open_regular(path).close()  # safetensors calls a file that may not be read missing, and waits for a pipe
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = _described(file)
            if about is not None:
                file_format.format_of(path, about, newest)
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except safetensors.SafetensorError as error:
        raise UnusableFileError(f"{path} is damaged or not safetensors ({explained(path, error)})", advice) from None


def _described(file: Any) -> dict[str, Any] | None:
    try:
        return json_object((file.metadata() or {})[KEY], KEY)
    except (KeyError, ValueError):
        return None


def without_checksum(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description on which a checksum depends, in its stored order."""
    return {name: value for name, value in about.items() if name != "sha256"}


def refuse_damaged(
    path: Path, about: Mapping[str, Any], heading: str, tensors: Mapping[str, Shaped[Tensor, "..."]], advice: str
) -> None:
    """Compare a file with its checksum.

    Raises:
        UnusableFileError: the checksum differs. The message ends with `advice`.
    """
    if checksum(heading, tensors) != about.get("sha256"):
        raise UnusableFileError(f"{path} is damaged (its checksum differs)", advice)


def checksum(heading: str, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> str:
    """Return the SHA-256 of the heading and of each tensor with its name, dtype and shape."""
    digest = hashlib.sha256(heading.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # NumPy has no bfloat16
    return digest.hexdigest()
