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
from ict_ref.networks.model import ConsistencyModel
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
        ValueError: the file cannot be read, or its network is another function of its weights than the model's.
        OSError: the file cannot be read.
    """
    path = Path(config.train.init)
    given = _loaded(path)
    _refuse_other_tensors(path, model, given, config)
    for name in NOT_SHAPES:
        wanted, here = getattr(given.options, name), getattr(config.network, name)
        expect(wanted == here, f"network.{name}", f"{wanted} as in the weights of {path}", here)
    sigma_data = config.method.sigma_data
    expected = f"{given.sigma_data} as in the weights of {path}"
    expect(given.sigma_data == sigma_data, "method.sigma_data", expected, sigma_data)
    model.network.load_state_dict(dict(given.state))


def _loaded(path: Path) -> NetworkCheckpoint:
    """Return the network in a file.

    Raises:
        ValueError: the path is not a file, or the file is not a network file or a checkpoint.
    """
    advice = "Export a run with python -m ict_ref.export_checkpoint."
    expect(path.is_file(), "train.init", "a network file or a checkpoint", path, advice)
    try:
        return load_ema(path).network if is_checkpoint(path) else load_exported(path)
    except ValueError as error:
        raise ValueError(f"--train.init: expected a network file or a checkpoint. {error}") from None


def _refuse_other_tensors(path: Path, model: ConsistencyModel, given: NetworkCheckpoint, config: Config) -> None:
    """Reject tensors that the network does not have in their shape.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape. The message names the first ones.
    """
    there, here = _shapes(given.state), _shapes(model.network.state_dict())
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
