"""Checkpoints of a run: files that hold all tensors on which later updates depend.

checkpoint-00001000.safetensors holds the parameters, the EMA weights and the optimizer state after step 1000. Its
metadata are the step, the run's identity, the options and images of the model, and a checksum, so that the file alone
can be sampled. Safetensors hold numbers only, so nothing in them can be executed.

Each file is written atomically. The newest files and the milestones are kept. A damaged file is set aside, and the run
resumes from the one before.
"""

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.checkpoint.safetensors_io import (
    UnusableFileError,
    description,
    metadata,
    read_tensors,
    refuse_damaged,
    without_checksum,
)
from ict_ref.config.identity import Tree
from ict_ref.config.images import ImageDescription, image_description
from ict_ref.config.network_note import NetworkNote, network_note
from ict_ref.utils import file_format
from ict_ref.utils.atomic import atomically, own_folder, remove_leftovers, set_aside
from ict_ref.utils.file_format import LaterFormatError

FORMAT = 2
"""Format 1, of version 0.1.0, has neither options nor images; its checksum covers step, digest, skipped and tensors."""
NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")
ADVICE = "Restore it from a copy, or move it away: a run resumes from the checkpoint before it."


class ForeignCheckpointError(ValueError):
    """A good checkpoint of another run, which is neither used nor renamed."""


@dataclass(frozen=True)
class Checkpoint:
    """The state on which the rest of a run depends."""

    step: int
    tensors: Mapping[str, Shaped[Tensor, "..."]]
    config: str
    """Identity of the run: the digest of its configuration."""
    skipped: int = 0
    """Number of steps whose update was skipped because the loss or the gradient was not finite."""
    options: Tree | None = None
    """Options of the model; None in a file of format 1."""
    images: ImageDescription | None = None
    """Images of the model; None in a file of format 1."""
    own_network: NetworkNote | None = None
    """Note on a network of the user's own; None for one that is built from the options."""
    is_milestone: bool = False
    """Whether the file is never deleted, whatever the options of a later command."""


def checkpoint_file(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint after `step` updates."""
    return folder / f"checkpoint-{step:08d}.safetensors"


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the paths of the folder's checkpoints by step, the newest first."""
    found = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return dict(sorted(((int(name[1]), path) for name, path in found if name is not None), reverse=True))


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int = 1, milestones: Collection[int] = ()) -> Path:
    """Write a checkpoint, delete all but the `keep` newest and the milestones, and return its path.

    Milestones are the files of the given steps, and those that were written as milestones.

    Raises:
        OSError: the file cannot be written. Existing files stay.
    """
    path = checkpoint_file(folder, checkpoint.step)
    # One copy of each tensor on the host, for the checksum and the file: a copy on the GPU may not fit there.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    checkpoint = dataclasses.replace(checkpoint, is_milestone=checkpoint.step in milestones)
    described = metadata(_about(checkpoint), tensors, FORMAT)
    remove_leftovers(folder, NAME.fullmatch)
    drop_old(folder, keep, milestones)  # also before writing: the disk may have space for one more file only
    with atomically(path) as aside:
        mode = aside.stat().st_mode
        try:
            with own_folder(aside) as own:  # safetensors writes a temporary file of its own, which a kill would leave
                safetensors.torch.save_file(tensors, own / path.name, described)
                (own / path.name).replace(aside)
        except safetensors.SafetensorError:  # which has no number, unlike the errors of Python's write
            aside.write_bytes(safetensors.torch.save(tensors, described))
        aside.chmod(mode)  # safetensors lets only the owner read it
    drop_old(folder, keep, milestones)
    return path


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the description that a file stores with the tensors."""
    images = None if checkpoint.images is None else dataclasses.asdict(checkpoint.images)
    own = {} if checkpoint.own_network is None else {"own_network": dataclasses.asdict(checkpoint.own_network)}
    return {
        "config": checkpoint.config,
        "step": checkpoint.step,
        "skipped": checkpoint.skipped,
        "milestone": checkpoint.is_milestone,
        "options": checkpoint.options,
        "images": images,
        **own,
    }


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint by its name, or by its description if it was renamed."""
    if NAME.fullmatch(path.name) is not None:
        return path.is_file()
    return "step" in description(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint file, without executing code from it.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file.
        UnusableFileError: the file is damaged, or is not a checkpoint of ict_ref.
    """
    if not path.is_file():
        raise UnusableFileError(f"{path} is not a file", ADVICE)
    about, tensors = read_tensors(path, FORMAT, ADVICE)
    try:
        if about is None:
            raise KeyError
        step, config, skipped = int(about["step"]), str(about["config"]), int(about["skipped"])
        if not 0 <= skipped <= step:
            raise ValueError
        is_first_format = file_format.KEY not in about
        heading = f"{step} {config} {skipped}" if is_first_format else json.dumps(without_checksum(about))
        about["sha256"]  # a missing checksum is another program's file, not a damaged one
    except (KeyError, ValueError, TypeError, OverflowError):
        wrong = "step, skipped steps or checksum is missing or wrong"
        raise UnusableFileError(f"{path} is not a checkpoint of ict_ref: {wrong}", ADVICE) from None
    refuse_damaged(path, about, heading, tensors, ADVICE)
    name = NAME.fullmatch(path.name)
    if name is not None and int(name[1]) != step:
        raise UnusableFileError(f"{path} holds the state after step {step}, not that of its name", "Rename it.")
    try:
        images = None if about.get("images") is None else image_description(about["images"])
        own = network_note(about.get("own_network"))
    except ValueError as error:
        raise UnusableFileError(f"{path}: {error}", ADVICE) from None
    return Checkpoint(
        step=step,
        tensors=tensors,
        config=config,
        skipped=skipped,
        options=about.get("options"),
        images=images,
        own_network=own,
        is_milestone=about.get("milestone") is True,
    )


def newest_checkpoint(
    folder: Path, accept: Callable[[Checkpoint], None] = lambda _: None
) -> tuple[Checkpoint | None, dict[Path, str]]:
    """Return the newest checkpoint that is good, and the reasons why newer ones are not, by path.

    Returns None as the checkpoint of a folder without any. `accept` raises ValueError for a checkpoint that is not
    used, and ForeignCheckpointError for one that rejects the folder.

    Raises:
        ForeignCheckpointError: a checkpoint of another run is among the newest. The message names it.
        LaterFormatError: a later version of ict_ref wrote the newest one.
        ValueError: the folder has checkpoints, and none of them is good.
    """
    rejected: dict[Path, str] = {}
    first: ValueError | None = None
    for path in checkpoints(folder).values():
        try:
            checkpoint = load_checkpoint(path)
            accept(checkpoint)
        except LaterFormatError:
            raise
        except ForeignCheckpointError as error:
            raise ForeignCheckpointError(f"{path}: {error}") from None
        except ValueError as error:
            rejected[path] = error.reason if isinstance(error, UnusableFileError) else str(error)
            first = first or error
        else:
            return checkpoint, rejected
    if first is not None:
        raise first
    return None, rejected


def drop_old(folder: Path, keep: int, milestones: Collection[int] = ()) -> None:
    """Delete all checkpoints but the `keep` newest and the milestones; rename those that may be damaged milestones."""
    for step, old in list(checkpoints(folder).items())[keep:]:
        about = description(old)
        if not about:
            set_aside(old)
        elif step not in milestones and about.get("milestone") is not True:
            old.unlink()
