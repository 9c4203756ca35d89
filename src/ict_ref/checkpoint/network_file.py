"""A network in a file of its own: tensors in safetensors, and as JSON in its metadata all that building it takes.

Nothing in such a file can execute code. It is written once, whole, and carries a checksum.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import safetensors.torch

import ict_ref
from ict_ref.checkpoint.safetensors_io import metadata, read_tensors
from ict_ref.checkpoint.training_state import checksum
from ict_ref.config import Network, as_fields
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.utils.atomic import write_atomically


def description(weights: NetworkCheckpoint) -> dict[str, Any]:
    """Return what a file says of a network beside its tensors."""
    return {
        "version": ict_ref.__version__,
        "network": dataclasses.asdict(weights.options),
        "channels": weights.channels,
        "size": weights.size,
        "classes": weights.classes,
        "sigma_min": weights.sigma_min,
        "sigma_data": weights.sigma_data,
    }


def export(weights: NetworkCheckpoint, path: Path) -> None:
    """Write the network; raises ValueError if there is such a file, or if a tensor is not finite."""
    if path.exists():
        raise ValueError(f"{path} exists and is not overwritten; choose another name")
    refuse_infinite(weights)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.state.items()}
    about = description(weights)
    about["sha256"] = checksum(json.dumps(about), tensors)
    write_atomically(path, safetensors.torch.save(tensors, metadata(about)))


def refuse_infinite(weights: NetworkCheckpoint) -> None:
    """Raise ValueError if a tensor of the network is not finite."""
    for name, tensor in weights.state.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"needs finite parameters; got a NaN or an infinity in {name}; it is not written")


def load_exported(path: Path) -> NetworkCheckpoint:
    """Return the network in a file that `export` wrote.

    Raises ValueError for a file that is damaged or none of ours, OSError for one that cannot be read.
    """
    if not path.is_file():
        raise ValueError(
            f"{path} is not there; python -m ict_ref.import_checkpoint or export_checkpoint write networks"
        )
    about, state = read_tensors(path, "write it again")
    try:
        if about is None:
            raise KeyError
        sha256, version = about.pop("sha256"), about.pop("version")
        options = Network(**as_fields(about.pop("network")))
        weights = NetworkCheckpoint(options=options, state=state, **about)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not a network that this version of ict_ref wrote; import or export it") from None
    if checksum(json.dumps(description(weights) | {"version": version}), state) != sha256:
        raise ValueError(f"{path} is damaged (its checksum differs); write it again")
    shapes = {name: value.shape for name, value in weights.empty_network().state_dict().items()}
    if shapes != {name: value.shape for name, value in state.items()}:
        raise ValueError(f"{path} has other tensors than its network; this version of ict_ref has another one")
    return weights
