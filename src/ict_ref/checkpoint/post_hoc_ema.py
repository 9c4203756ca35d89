"""EMA weights of any width, reconstructed from the power-function averages in a run's checkpoints."""

from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.ema_profiles import Profile, power_exponent, reconstruction
from ict_ref.checkpoint.safetensors_io import description
from ict_ref.checkpoint.training_state import Checkpoint, checkpoints, load_checkpoint
from ict_ref.config import Train
from ict_ref.config.ema_names import profile_names
from ict_ref.utils.command_line import expect, say

COARSE = 0.05
"""Residual of a reconstruction above which a warning is printed: the profile then differs by more than 5 %."""


def network_tensors(checkpoint: Checkpoint, name: str) -> dict[str, Float[Tensor, "..."]]:
    """Return the tensors of a network in a checkpoint, under their names in the network."""
    prefix = f"{name}/network."
    stored = checkpoint.tensors.items()
    return {key.removeprefix(prefix): tensor for key, tensor in stored if key.startswith(prefix)}


def reconstructed(folder: Path, newest: Checkpoint, train: Train, sigma_rel: float) -> dict[str, Float[Tensor, "..."]]:
    """Return EMA weights of a relative width, at the step of the checkpoint `newest` of a run.

    They are combined from the averages in this checkpoint and in the milestones before it.

    Raises:
        LaterFormatError: a later version of ict_ref wrote a checkpoint.
        ValueError: the run keeps no averages for post-hoc EMA, the width is out of range, no update was made, or a
            milestone is damaged.
        OSError: a file cannot be read.
    """
    advice = "Train with --train.ema-sigmas 0.05 0.1."
    expect(bool(train.ema_sigmas), "--ema-sigma", "a run that keeps averages for it", folder, advice)
    try:
        power_exponent(sigma_rel)
    except ValueError as error:
        raise ValueError(f"--ema-sigma: {error}") from None
    expect(_updates(newest) > 0, "--ema-sigma", "a checkpoint after an update", f"that of step {newest.step}")
    files = _milestones(folder, newest)
    times = [*files.values(), _updates(newest)]
    stored = [Profile(updates, sigma) for updates in times for sigma in train.ema_sigmas]
    found = reconstruction(stored, Profile(times[-1], sigma_rel))
    if found.residual > COARSE:
        closeness = f"approximate the profile of --ema-sigma {sigma_rel} to {found.residual:.0%}"
        advice = "Widths between those of --train.ema-sigmas are closer."
        say("ict_ref", 0, f"warning: the averages in {folder} {closeness}. {advice}")
    rows = found.coefficients.reshape(len(times), -1).tolist()
    # One checkpoint in memory at a time.
    loaded = chain(map(load_checkpoint, files), [newest])
    return _combined(zip(loaded, rows, strict=True), train)


def _milestones(folder: Path, newest: Checkpoint) -> dict[Path, int]:
    """Return the milestones of a run before a checkpoint, and the number of updates of each.

    Raises:
        ValueError: a file before it is damaged, so that it cannot be known whether it is a milestone.
        OSError: a file cannot be read.
    """
    found: dict[Path, int] = {}
    for step, path in sorted(checkpoints(folder).items()):
        about = description(path)
        if step < newest.step and about.get("milestone") is not True:
            load_checkpoint(path)  # rejects a damaged file
        updates = step - int(about.get("skipped", 0))
        if about.get("milestone") is True and 0 < updates < _updates(newest):
            found[path] = updates
    return found


def _combined(weighted: Iterable[tuple[Checkpoint, Sequence[float]]], train: Train) -> dict[str, Float[Tensor, "..."]]:
    """Return the sum of the averages in checkpoints, each times its coefficient, computed in float64."""
    total: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for checkpoint, coefficients in weighted:
        for name, coefficient in zip(profile_names(train).values(), coefficients, strict=True):
            for key, tensor in network_tensors(checkpoint, name).items():
                dtypes[key] = tensor.dtype
                term = coefficient * tensor.double()
                total[key] = total[key] + term if key in total else term
    return {key: value.to(dtypes[key]) for key, value in total.items()}


def _updates(checkpoint: Checkpoint) -> int:
    """Return the number of updates that were not skipped, which is the time of the profiles."""
    return checkpoint.step - checkpoint.skipped
