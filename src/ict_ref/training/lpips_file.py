"""Files of LPIPS: the published weights as safetensors, with the pooling. Reading one executes no code."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.foreign_file import content
from ict_ref.checkpoint.safetensors_io import (
    description,
    metadata,
    read_tensors,
    refuse_damaged,
    without_checksum,
)
from ict_ref.networks.lpips import Lpips, Pooling, shapes
from ict_ref.utils.atomic import new_files

FORMAT = 1
KIND = "lpips"
ADVICE = "Make it again with python -m ict_ref.training.import_lpips."
# Convolutions are called features.N in torchvision's file, and net.sliceK.N in a state dict of the package lpips.
CONVOLUTION = re.compile(r"(?:features|net\.slice\d)\.(\d+\.(?:weight|bias))")


def published_weights(files: Iterable[Path]) -> dict[str, Float[Tensor, "..."]]:
    """Return the weights of LPIPS in published files, in float32, by the names of `networks.lpips.shapes`.

    The files are torchvision's VGG16 and lpips/weights/v0.1/vgg.pth, or one state dict of lpips.LPIPS(net="vgg").

    Raises:
        ValueError: A file has no tensors or is damaged, or a tensor is missing or unusable.
        OSError: A file cannot be read.
    """
    found: dict[str, Any] = {}
    for file in files:
        try:
            state = content(file)
        except ValueError as error:
            raise ValueError(f"FILE: {file}: {error}") from None
        if not isinstance(state, Mapping):
            raise ValueError(f"FILE: expected tensors by name, got {type(state).__name__} in {file}")
        found |= {_name(str(name)): tensor for name, tensor in state.items()}
    return {name: _checked(name, found.get(name), shape) for name, shape in shapes().items()}


def _name(name: str) -> str:
    convolution = CONVOLUTION.fullmatch(name)
    return f"features.{convolution[1]}" if convolution else name


def _checked(name: str, tensor: object, shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    """Return a tensor in float32.

    Raises:
        ValueError: The tensor is missing, has another shape, is not finite, or is a negative weight of a channel.
    """
    if not isinstance(tensor, Tensor):
        which = "torchvision's VGG16" if name.startswith("features") else "lpips/weights/v0.1/vgg.pth"
        raise ValueError(f"FILE: expected {name}, got no such tensor. Give the file of {which} too.")
    if tuple(tensor.shape) != shape or not tensor.is_floating_point():
        got = f"{list(tensor.shape)} of {tensor.dtype}"
        raise ValueError(f"FILE: expected {name} of shape {list(shape)}, got {got}. Give the weights of VGG16.")
    if not bool(tensor.isfinite().all()) or (name.startswith("lin") and bool((tensor < 0).any())):
        expected = "weights >= 0" if name.startswith("lin") else "finite weights"
        raise ValueError(f"FILE: expected {expected} in {name}, got other values. Download the file again.")
    return tensor.float().contiguous()


def write_lpips(state: Mapping[str, Float[Tensor, "..."]], pooling: Pooling, path: Path) -> None:
    """Write a new file of LPIPS.

    Raises:
        ValueError: The file exists.
        OSError: The file cannot be written.
    """
    about = metadata({"kind": KIND, "pooling": pooling}, state, FORMAT)
    with new_files(path) as new:
        new.write(path, safetensors.torch.save(dict(state), metadata=about))


def is_lpips(path: Path) -> bool:
    """Return whether `write_lpips` wrote the file."""
    return description(path).get("kind") == KIND


def read_lpips(path: Path, device: torch.device | str = "cpu") -> Lpips:
    """Return the distance in a file of `write_lpips`.

    Raises:
        LaterFormatError: A later version of ict_ref wrote the file.
        ValueError: The file is damaged.
        OSError: The file cannot be read.
    """
    about, tensors = read_tensors(path, FORMAT, ADVICE)
    about = about or {}
    refuse_damaged(path, about, json.dumps(without_checksum(about)), tensors, ADVICE)
    pooling = about.get("pooling")
    if pooling not in ("max", "average"):
        raise ValueError(f"{path}: expected the pooling max or average, got {pooling}. {ADVICE}")
    state = {name: _checked(name, tensors.get(name), shape) for name, shape in shapes().items()}
    return Lpips(state, pooling).to(device)
