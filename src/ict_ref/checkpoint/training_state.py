"""Checkpoints: everything that the rest of a run depends on, each in a file of its own that is never half-written.

checkpoint-00001000.safetensors holds parameters, their average and the optimizer's state after step 1000, and says of
which step and configuration it is, and its checksum. Safetensors hold numbers: nothing in them can be executed. The
newest are kept, and milestones; one that is damaged is set aside, and the one before it is as good.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from jaxtyping import Shaped
from torch import Tensor

import ict_ref
from ict_ref.checkpoint.safetensors_io import metadata, read_tensors
from ict_ref.utils.atomic import atomically

NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
ADVICE = "restore it from a copy, or move it away to train from the start"


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a run depends on."""

    step: int
    tensors: Mapping[str, Shaped[Tensor, "..."]]
    config: str
    """Digest of the configuration."""
    skipped: int = 0
    """How many of the steps were left out because something was not finite."""


def checkpoint_file(folder: Path, step: int) -> Path:
    """Return where the checkpoint of this step is."""
    return folder / f"checkpoint-{step:08d}.safetensors"


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the folder's checkpoints by their steps, the newest first."""
    found = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return dict(sorted(((int(name[1]), path) for name, path in found if name is not None), reverse=True))


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 1, milestone_every: int = 0) -> Path:
    """Write the checkpoint and return its file; drop all but the newest and the milestones.

    Raises OSError if it cannot be written; what was there stays.
    """
    about = {
        "version": ict_ref.__version__,
        "config": checkpoint.config,
        "step": checkpoint.step,
        "skipped": checkpoint.skipped,
        "sha256": _checksum(checkpoint),
    }
    path = checkpoint_file(folder, checkpoint.step)
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    _drop(folder, keep, milestone_every)  # before too: there may be room for one more only
    with atomically(path) as aside:
        aside.touch()
        mode = aside.stat().st_mode
        try:
            safetensors.torch.save_file(tensors, aside, metadata(about))
        except safetensors.SafetensorError:
            try:  # its errors have no number, those of Python's own write have
                aside.write_bytes(safetensors.torch.save(tensors, metadata(about)))
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None
        aside.chmod(mode)  # or else nobody but the owner may read it
    _drop(folder, keep, milestone_every)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint in this file. Raises ValueError if it is damaged or none of ours; nothing is executed."""
    if not path.is_file():
        raise ValueError(f"{path} is not a file; {ADVICE}")
    about, tensors = read_tensors(path, ADVICE)
    try:
        if about is None:
            raise KeyError
        checkpoint = Checkpoint(int(about["step"]), tensors, str(about["config"]), int(about["skipped"]))
        sha256 = str(about["sha256"])
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"{path} is not a checkpoint of ict_ref: it has no step and checksum; {ADVICE}") from None
    if _checksum(checkpoint) != sha256:
        raise ValueError(f"{path} is damaged (its checksum differs); {ADVICE}")
    return checkpoint


def newest_checkpoint(
    folder: Path, accept: Callable[[Checkpoint], None] = lambda _: None
) -> tuple[Checkpoint | None, dict[Path, str]]:
    """Return the newest checkpoint that is whole and accepted, None if there is none, and why newer ones are not.

    `accept` raises ValueError for one that is foreign. If there are checkpoints and none is good, so does this.
    """
    refused: dict[Path, str] = {}
    for path in checkpoints(folder).values():
        try:
            checkpoint = load_checkpoint(path)
            accept(checkpoint)
        except ValueError as error:
            refused[path] = str(error)
        else:
            return checkpoint, refused
    if refused:
        raise ValueError(next(iter(refused.values())))
    return None, refused


def _drop(folder: Path, keep: int, milestone_every: int) -> None:
    """Drop all checkpoints but the newest and the milestones."""
    for step, old in list(checkpoints(folder).items())[keep:]:
        if not (milestone_every and step % milestone_every == 0):
            old.unlink()


def set_aside(path: Path) -> Path:
    """Rename a file that is not what it should be, so that nothing is written over it, and return its new name."""
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return path.rename(aside)


def checksum(heading: str, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> str:
    """Return the SHA-256 of the heading and of every tensor with its name, dtype and shape."""
    digest = hashlib.sha256(heading.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # NumPy has no bfloat16
    return digest.hexdigest()


def _checksum(checkpoint: Checkpoint) -> str:
    return checksum(f"{checkpoint.step} {checkpoint.config} {checkpoint.skipped}", checkpoint.tensors)
