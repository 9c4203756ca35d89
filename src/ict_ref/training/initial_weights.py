"""The weights of --train.init, from which a run starts instead of random ones."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.ema_weights import load_ema
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.training_state import is_checkpoint
from ict_ref.config import Config, Network
from ict_ref.config.validate import expect, option
from ict_ref.networks.model import ConsistencyModel, FreeForm
from ict_ref.networks.network_checkpoint import NetworkCheckpoint

SHOWN = 3
"""Number of differing tensors that an error names."""
NOT_SHAPES = ("time_scale", "head_channels", "groups")
"""Options on which the network's function depends, but not the shapes of its tensors."""
FREE = ("fourier_scale", "dropout", "dropout_max_resolution")
"""Options that may differ from those of the file, which has the Fourier frequencies themselves."""


def start_from_weights(model: ConsistencyModel, config: Config) -> None:
    """Replace all tensors of the model's network by those of --train.init.

    The file is a network file, or a checkpoint, whose EMA weights are taken. The network F is replaced, not the
    coefficients around it: those of a network that was trained as a denoiser are EDM's, those of the model are CM's.

    Raises:
        ValueError: the file cannot be read, or its network is rejected by `refuse_other_network`.
        OSError: the file cannot be read.
    """
    given = given_weights(config)
    refuse_other_network(given, model.network, config)
    model.network.load_state_dict(dict(given.state))


def refuse_other_network(given: NetworkCheckpoint, network: FreeForm, config: Config) -> None:
    """Reject the weights of --train.init for a network, which may be on the meta device.

    Raises:
        ValueError: the network is another function of the weights than that of their file, or a second stage of TCM
            would start from another one.
    """
    path = Path(config.train.init)
    _refuse_other_tensors(path, network, given, config)
    for name in NOT_SHAPES:
        wanted, here = getattr(given.options, name), getattr(config.network, name)
        expect(wanted == here, f"network.{name}", f"{wanted} as in the weights of {path}", here)
    whole = config.method.objective != "tcm" or not given.sigma_cut
    got = f"the second stage {path}, which is trained from {given.sigma_cut:g} on"
    advice = "Give the weights of a first stage."
    expect(whole, "train.init", "weights that are trained below --tuning.sigma-cut", got, advice)
    sigma_data = config.method.sigma_data
    expected = f"{given.sigma_data} as in the weights of {path}"
    expect(given.sigma_data == sigma_data, "method.sigma_data", expected, sigma_data)
    _refuse_another_noise_input(path, given, config)


def refuse_missing_weights(config: Config) -> None:
    """Reject a run without --train.init whose objective starts from trained weights.

    Raises:
        ValueError: --train.init is missing.
    """
    objective = config.method.objective
    expected = f"a file of weights, from which --method.objective {objective} starts"
    advice = (
        "Train a denoiser with --method.objective denoising, or import one with python -m ict_ref.import_checkpoint."
    )
    if config.method.objective == "scm":
        advice = "Train a denoiser with --method.objective denoising --method.trigflow."
    has_weights = bool(config.train.init) or not config.method.starts_from_weights
    expect(has_weights, "train.init", expected, "nothing", advice)


def _refuse_another_noise_input(path: Path, given: NetworkCheckpoint, config: Config) -> None:
    """Reject weights of a network that gets the noise level in another form, and so is another function of it.

    Raises:
        ValueError: only one of the two networks gets TrigFlow's angle.
    """
    here, there = (of.coefficients == "trigflow" for of in (config.method, given))
    form = {True: "TrigFlow's angle t", False: "log(sigma) / 4"}
    advice = "Train a denoiser with --method.objective denoising --method.trigflow."
    if there:
        advice = "Such weights are for --method.objective scm."
    expected, got = f"weights of a network that gets {form[here]}", f"{path}, which gets {form[there]}"
    expect(here == there, "train.init", expected, got, advice)


def given_weights(config: Config) -> NetworkCheckpoint:
    """Return the network in the file of --train.init.

    Raises:
        ValueError: the path is not a file, or the file is not a network file or a checkpoint.
        OSError: the file cannot be read.
    """
    path = Path(config.train.init)
    advice = "Export a run with python -m ict_ref.export_checkpoint."
    expect(path.is_file(), "train.init", "a network file or a checkpoint", path, advice)
    try:
        return load_ema(path).network if is_checkpoint(path) else load_exported(path)
    except ValueError as error:
        raise ValueError(f"--train.init: expected a network file or a checkpoint. {error}") from None


def _refuse_other_tensors(path: Path, network: FreeForm, given: NetworkCheckpoint, config: Config) -> None:
    """Reject tensors that the network does not have in their shape.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape. The message names the first ones.
    """
    there, here = _shapes(given.state), _shapes(network.state_dict())
    different = [name for name in here | there if there.get(name) != here.get(name)]
    if different:
        named = ", ".join(_difference(name, there.get(name), here.get(name)) for name in different[:SHOWN])
        more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
        raise ValueError(
            f"--train.init: expected the tensors of this run's network, got {path}: {named}{more}. "
            f"{_advice(given, config)}"
        )


def _shapes(state: Mapping[str, Float[Tensor, "..."]]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def _difference(name: str, there: tuple[int, ...] | None, here: tuple[int, ...] | None) -> str:
    if there is None:
        return f"{name} is missing"
    return f"{name} is unknown" if here is None else f"{name} has the shape {there} instead of {here}"


def _advice(given: NetworkCheckpoint, config: Config) -> str:
    """Return the options with which the network has the tensors of the file, or the images that these need."""
    names = [field.name for field in fields(Network) if field.name not in FREE]
    theirs = {name: getattr(given.options, name) for name in names}
    options = [
        _typed(f"network.{name}", value) for name, value in theirs.items() if value != getattr(config.network, name)
    ]
    if options:
        return f"Give {' '.join(options)}."
    classes = f"{given.classes} classes" if given.classes else "no labels"
    return f"Train on images of {given.channels} x {given.size} x {given.size} with {classes}, or choose other weights."


def _typed(field: str, value: Any) -> str:
    """Return an option with its value as a user types it."""
    if isinstance(value, bool):
        group, _, name = option(field).rpartition(".")
        return f"{group}.{'' if value else 'no-'}{name}"
    return " ".join([option(field), *map(str, value if isinstance(value, tuple) else [value])])
