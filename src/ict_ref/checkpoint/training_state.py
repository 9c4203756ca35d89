"""Checkpoints of a run: files that hold all tensors on which later updates depend.

checkpoint-00001000.safetensors holds the parameters, the EMA weights and the optimizer state after step 1000. Its
metadata are the step, the configuration's digest and a checksum. Safetensors hold numbers only, so nothing in them can
be executed.

Each file is written atomically. The newest files and the milestones are kept. A damaged file is set aside, and the run
resumes from the one before.
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
from ict_ref.checkpoint.safetensors_io import UnusableFileError, metadata, read_tensors
from ict_ref.utils.atomic import atomically

NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
ADVICE = "Restore it from a copy, or move it away to train from the start."


@dataclass(frozen=True)
class Checkpoint:
    """The state on which the rest of a run depends."""

    step: int
    tensors: Mapping[str, Shaped[Tensor, "..."]]
    config: str
    """Digest of the configuration."""
    skipped: int = 0
    """Number of steps whose update was skipped because the loss or the gradient was not finite."""


def checkpoint_file(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after `step` updates."""
    return folder / f"checkpoint-{step:08d}.safetensors"


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the paths of the folder's checkpoints by step, the newest first."""
    found = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return dict(sorted(((int(name[1]), path) for name, path in found if name is not None), reverse=True))


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 1, milestone_every: int = 0) -> Path:
    """Write a checkpoint, delete all but the `keep` newest and the milestones, and return its path.

    Raises:
        OSError: the file cannot be written. Existing files stay.
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
    _drop(folder, keep, milestone_every)  # also before writing: the disk may have space for one more file only
    with atomically(path) as aside:
        aside.touch()
        mode = aside.stat().st_mode
        try:
            safetensors.torch.save_file(tensors, aside, metadata(about))
        except safetensors.SafetensorError:
            try:  # safetensors' errors have no number, those of Python's write have one
                aside.write_bytes(safetensors.torch.save(tensors, metadata(about)))
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None
        aside.chmod(mode)  # safetensors lets only the owner read it
    _drop(folder, keep, milestone_every)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint file, without executing code from it.

    Raises:
        UnusableFileError: the file is damaged, or is not a checkpoint of ict_ref.
    """
    if not path.is_file():
        raise UnusableFileError(f"{path} is not a file", ADVICE)
    about, tensors = read_tensors(path, ADVICE)
    try:
        if about is None:
            raise KeyError
        checkpoint = Checkpoint(int(about["step"]), tensors, str(about["config"]), int(about["skipped"]))
        sha256 = str(about["sha256"])
    except (KeyError, ValueError, TypeError):
        raise UnusableFileError(f"{path} is not a checkpoint of ict_ref: step or checksum is missing", ADVICE) from None
    if _checksum(checkpoint) != sha256:
        raise UnusableFileError(f"{path} is damaged (its checksum differs)", ADVICE)
    return checkpoint


def newest_checkpoint(
    folder: Path, accept: Callable[[Checkpoint], None] = lambda _: None
) -> tuple[Checkpoint | None, dict[Path, str]]:
    """Return the newest checkpoint that is good, and the reasons why newer ones are not, by path.

    Returns None as the checkpoint of a folder without any. `accept` raises ValueError for a checkpoint of another run.

    Raises:
        ValueError: the folder has checkpoints, and none of them is good.
    """
    rejected: dict[Path, str] = {}
    first: ValueError | None = None
    for path in checkpoints(folder).values():
        try:
            checkpoint = load_checkpoint(path)
            accept(checkpoint)
        except ValueError as error:
            rejected[path] = error.reason if isinstance(error, UnusableFileError) else str(error)
            first = first or error
        else:
            return checkpoint, rejected
    if first is not None:
        raise first
    return None, rejected


def _drop(folder: Path, keep: int, milestone_every: int) -> None:
    """Delete all checkpoints but the newest and the milestones."""
    for step, old in list(checkpoints(folder).items())[keep:]:
        if not (milestone_every and step % milestone_every == 0):
            old.unlink()


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that nothing overwrites it, and return its new path."""
    number, aside = 1, path.with_name(f"{path.name}.damaged")
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{number}")
    return path.rename(aside)


def checksum(heading: str, tensors: Mapping[str, Shaped[Tensor, "..."]]) -> str:
    """Return the SHA-256 of the heading and of each tensor with its name, dtype and shape."""
    digest = hashlib.sha256(heading.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)  # NumPy has no bfloat16
    return digest.hexdigest()


def _checksum(checkpoint: Checkpoint) -> str:
    return checksum(f"{checkpoint.step} {checkpoint.config} {checkpoint.skipped}", checkpoint.tensors)
