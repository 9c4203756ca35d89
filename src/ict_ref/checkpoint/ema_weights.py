"""The EMA weights of a run, from a checkpoint file or a run folder, without the training data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.post_hoc_ema import network_tensors, reconstructed
from ict_ref.checkpoint.run_dir import FILES, Run, read_run
from ict_ref.checkpoint.safetensors_io import UnusableFileError
from ict_ref.checkpoint.training_state import (
    Checkpoint,
    checkpoint_file,
    checkpoints,
    load_checkpoint,
    newest_checkpoint,
)
from ict_ref.config import Config, Train
from ict_ref.config.ema_names import decay_names
from ict_ref.config.identity import flat, is_identity
from ict_ref.config.images import ImageDescription
from ict_ref.config.network_note import refuse_another_network
from ict_ref.config.old_names import with_current_names
from ict_ref.config.validate import option
from ict_ref.data.dataset import DIGITS_EVENT, DIGITS_NAMES, DIGITS_SOURCE, PUBLISHED
from ict_ref.data.prepared import read_about
from ict_ref.networks.network_checkpoint import NetworkCheckpoint, OwnNetworkCheckpoint
from ict_ref.networks.own import OwnNetwork, OwnNetworkLike, own_network
from ict_ref.utils.command_line import expect, say
from ict_ref.utils.json_file import checked


@dataclass(frozen=True)
class EMAWeights:
    """The EMA weights of a run, the step after which they were saved, and the options of the run."""

    network: NetworkCheckpoint
    step: int
    config: Config
    """Configuration of the run; in a checkpoint without its run folder, the defaults stand for the machine's part."""
    chosen: str
    """Choice among several EMA weights in words; empty for those from which samples are made by default."""


def load_ema(
    path: Path,
    step: int | None = None,
    *,
    decay: float | None = None,
    sigma: float | None = None,
    network: OwnNetworkLike | None = None,
) -> EMAWeights:
    """Return the EMA weights in a checkpoint file, or in a checkpoint of a run folder.

    `step` chooses the checkpoint of a run folder; by default the newest good one. `decay` chooses among EMA weights of
    several decays; by default the first. `sigma` is the relative width of EMA weights that are reconstructed from the
    power-function averages in a run's checkpoints. `network` is that of a run with a network of the user's own.

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file.
        ValueError: the run does not have such a checkpoint or such EMA weights, a file is damaged or does not describe
            its images, or `network` is missing or another one than the run's.
        OSError: a file cannot be read.
    """
    expect(decay is None or sigma is None, "--ema-sigma", "only one of --ema and --ema-sigma", "both")
    checkpoint, run = _checkpoint_and_run(path, step)
    config = _config_of(path, checkpoint) if run is None else run.config
    images = checkpoint.images or (run and run.images) or described_by(config)
    own = _own_network(path, checkpoint, run, network, config)
    if sigma is None:
        state, chosen = _of_decay(path, checkpoint, config.train, decay)
    else:
        expect(path.is_dir(), "--ema-sigma", "a run folder, whose snapshots are combined", path)
        state, chosen = reconstructed(path, checkpoint, config.train, sigma), f"EMA width {sigma}"
    described: dict[str, Any] = {} if own is None else {"own": own}
    ema = (NetworkCheckpoint if own is None else OwnNetworkCheckpoint)(
        **described,
        options=config.network,
        channels=images.channels,
        size=images.size,
        classes=images.classes,
        state=state,
        sigma_min=config.method.sigma_min,
        sigma_data=config.method.sigma_data,
        sigma_max=config.method.sigma_max,
        rho=config.method.rho,
        s1=config.method.s1,
        clip=config.sample.clip,
        class_names=images.class_names,
        source=images.source,
        is_denoiser=config.method.objective == "denoising",
        coefficients=config.method.coefficients,
        sigma_cut=config.tuning.sigma_cut if config.method.objective == "tcm" else 0.0,
    )
    file = path if path.is_file() else checkpoint_file(path, checkpoint.step)
    wrong = ema.unusable_tensor()
    expect(wrong is None, f"{file}", "EMA weights of finite floats", wrong, "Restore it from a copy.")
    if other := ema.other_tensor():
        raise ValueError(f"{file} has other EMA weights than those of its network: {other}. Restore it from a copy.")
    return EMAWeights(ema, checkpoint.step, config, chosen)


def _own_network(
    path: Path, checkpoint: Checkpoint, run: Run | None, network: OwnNetworkLike | None, config: Config
) -> OwnNetwork | None:
    """Return the network of the user's own that a run has; None for a network that the options describe.

    Raises:
        ValueError: `network` is missing, is not needed, or is another one than the run's.
    """
    note = checkpoint.own_network or (None if run is None else run.own_network)
    own = None if network is None else own_network(network, seed=config.train.seed)
    refuse_another_network(note, None if own is None else own.note(), path)
    return own


def _of_decay(
    path: Path, checkpoint: Checkpoint, train: Train, decay: float | None
) -> tuple[dict[str, Float[Tensor, "..."]], str]:
    """Return the EMA weights of a decay, by default the first, and the choice in words.

    Raises:
        ValueError: the run does not have EMA weights of this decay.
    """
    names = decay_names(train)
    first = train.ema_decays[0]
    known = " or ".join(map(str, names))
    expect(decay is None or decay in names, "--ema", f"{known}, of which {path} has EMA weights", decay)
    chosen = first if decay is None else decay
    return network_tensors(checkpoint, names[chosen]), "" if chosen == first else f"EMA decay {chosen}"


def _checkpoint_and_run(path: Path, step: int | None) -> tuple[Checkpoint, Run | None]:
    """Return a checkpoint, and its run if the options are in the run folder.

    Raises:
        ValueError: there is no such checkpoint, or it is damaged or of another run.
    """
    if path.is_dir():
        run = read_run(path)
        return _checkpoint_of(path, run, step), run
    expect(step is None, "--step", "a run folder", path, "Leave --step out.")
    checkpoint = load_checkpoint(path)
    if checkpoint.options is not None:
        return checkpoint, None
    run = read_run(path.parent)  # in format 1 only config.json beside the checkpoint has the options
    _refuse_other(checkpoint, run, path)
    return checkpoint, run


def _config_of(path: Path, checkpoint: Checkpoint) -> Config:
    """Return the options in a checkpoint.

    Raises:
        ValueError: an option does not exist in this version, or its value is not allowed.
    """
    try:
        return Config.from_dict(with_current_names(checked(checkpoint.options, Mapping[str, Any], "options")))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} has options of another version of ict_ref ({error}). Install that version.") from None


def _checkpoint_of(folder: Path, run: Run, step: int | None) -> Checkpoint:
    """Return the checkpoint after `step` of a run, or its newest good one.

    Raises:
        ValueError: the run does not have such a checkpoint, or it is damaged or of another run.
    """
    if step is not None:
        file = checkpoint_file(folder, step)
        steps = ", ".join(map(str, sorted(checkpoints(folder)))) or "none"
        expect(file.is_file(), "--step", f"the step of a checkpoint in {folder} ({steps})", step)
        checkpoint = load_checkpoint(file)
        _refuse_other(checkpoint, run, file)
        return checkpoint
    found, rejected = newest_checkpoint(folder, lambda checkpoint: _refuse_other(checkpoint, run, folder))
    if found is None:
        raise ValueError(f"{folder} has no checkpoint yet. A run writes one every --record.save-every steps.")
    for file in rejected:
        problem = "is damaged or belongs to another run"
        say("ict_ref", 0, f"warning: {file} {problem}; using the EMA weights of step {found.step}")
    return found


def _refuse_other(checkpoint: Checkpoint, run: Run, place: Path) -> None:
    """Reject a checkpoint of another run.

    Raises:
        UnusableFileError: the identity of the checkpoint is not one of the run's, or its options are others.
    """
    if checkpoint.config not in run.identities:
        reason = f"{place} has a checkpoint of another configuration than that of its config.json"
        raise UnusableFileError(reason, "Restore one of them.")
    if checkpoint.options is None:  # format 1
        return
    trained_with = flat(with_current_names(checked(checkpoint.options, Mapping[str, Any], f"{place}: options")))
    stored = flat(json.loads(run.config.to_json()))
    for name, value in trained_with.items():
        if is_identity(Config, name) and name not in FILES and stored.get(name) != value:
            config = f"config.json has {option(name)} {stored.get(name)}"
            reason = f"{place}: {config}, but the checkpoint of step {checkpoint.step} {value}"
            raise UnusableFileError(reason, "Restore the config.json with which the run began.")


def described_by(config: Config) -> ImageDescription:
    """Return the images of a run whose files, of format 1, do not describe them.

    Raises:
        ValueError: the description of the training data is needed, and is not where the configuration says.
    """
    data = config.data
    if data.name == "digits":
        event, classes, names, source = DIGITS_EVENT, len(DIGITS_NAMES), DIGITS_NAMES, DIGITS_SOURCE
    elif data.name in PUBLISHED:
        event, classes = PUBLISHED[data.name]
        names, source = None, data.name
    else:
        try:
            about = read_about(Path(data.path))
        except ValueError as error:
            advice = "Resume the run once with --data.path: it then stores the shape of its images."
            reason = "version 0.1.0 stored the images' shape with the data only"
            raise ValueError(f"--data.path: {reason}: {error} {advice}") from None
        event, classes, names, source = about.shape, about.classes, about.names, about.words
    channels, size, _ = event
    labelled = data.labels
    return ImageDescription(
        channels=channels,
        size=size,
        classes=classes if labelled else 0,
        class_names=names if labelled else None,
        source=source,
    )
