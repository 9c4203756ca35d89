"""Network files: the tensors of one network in safetensors, with the options to rebuild it as JSON metadata.

Nothing in such a file can execute code. Each file is written atomically and carries a checksum.
"""

import dataclasses
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.safetensors_io import metadata, read_tensors, refuse_damaged, without_checksum
from ict_ref.config import Network, stored_group
from ict_ref.networks.network_checkpoint import NetworkCheckpoint, OwnNetworkCheckpoint
from ict_ref.utils.atomic import new_files
from ict_ref.utils.command_line import expect
from ict_ref.utils.json_file import as_fields, checked

FORMAT = 2
"""Format 1, of version 0.1.0, has no number, and its version is called `version`."""
ADVICE = "Import or export the network again."


NOT_FIELDS = ("format", "ict_ref", "version", "sha256")
"""Entries of the description that are not fields of the network."""


def description(checkpoint: NetworkCheckpoint) -> dict[str, Any]:
    """Return the metadata that a file stores with the tensors of a network."""
    others = (field.name for field in dataclasses.fields(checkpoint) if field.name not in ("options", "state"))
    described = {
        "network": dataclasses.asdict(checkpoint.options),
        **{name: getattr(checkpoint, name) for name in others},
    }
    if not checkpoint.is_denoiser:  # as in files before there were denoisers
        del described["is_denoiser"]
    if checkpoint.coefficients == "cm":  # as in files before there were others
        del described["coefficients"]
    if not checkpoint.sigma_cut:  # as in files before there were cuts
        del described["sigma_cut"]
    return described


def export(checkpoint: NetworkCheckpoint, path: Path) -> None:
    """Write a network file.

    Raises:
        ValueError: the file exists, another process writes it, a tensor of the network is not finite, or the network is
            one of the user's own, which options do not describe.
        OSError: the file cannot be written.
    """
    content = exported(checkpoint, path)
    with new_files(path) as new:
        new.write(path, content)


def exported(checkpoint: NetworkCheckpoint, path: Path) -> bytes:
    """Return the content of a network file for this path.

    Raises:
        ValueError: a tensor of the network is not finite, or the network is one of the user's own, which options do not
            describe.
    """
    own = isinstance(checkpoint, OwnNetworkCheckpoint)
    expect(not own, str(path), "a network that is built from options", "one of the user's own", "Copy its run folder.")
    refuse_infinite(checkpoint)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.state.items()}
    described = metadata(description(checkpoint), tensors, FORMAT)
    content: bytes = safetensors.torch.save(tensors, described)
    return content


def refuse_infinite(checkpoint: NetworkCheckpoint) -> None:
    """Reject a network with a NaN or an infinity.

    Raises:
        ValueError: a tensor of the network is not finite.
    """
    for name, tensor in checkpoint.state.items():
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{name}: expected finite parameters, got a NaN or an infinity. The file is not written.")


def load_exported(path: Path) -> NetworkCheckpoint:
    """Load a network file that `export` wrote.

    >>> from ict_ref.config import minimal
    >>> from ict_ref.networks.model import build_model
    >>> options = minimal().network
    >>> network = build_model(minimal(), event=(1, 8, 8), classes=10).network
    >>> state = network.state_dict()
    >>> export(NetworkCheckpoint(options=options, channels=1, size=8, classes=10, state=state), Path("network"))
    >>> load_exported(Path("network")).classes
    10

    Raises:
        LaterFormatError: a later version of ict_ref wrote the file.
        ValueError: the file does not exist, is damaged, or is not a network file of this version.
        OSError: the file cannot be read.
    """
    if not path.is_file():
        write = "Write a network file with python -m ict_ref.import_checkpoint or export_checkpoint."
        raise ValueError(f"{path} {'is not a file' if path.exists() else 'does not exist'}. {write}")
    about, state = read_tensors(path, FORMAT, "Write it again.")
    checkpoint = _described(path, about, state)
    refuse_damaged(path, about or {}, json.dumps(without_checksum(about or {})), state, "Write it again.")
    wrong = checkpoint.unusable_tensor()
    expect(wrong is None, str(path), "tensors of finite floats", wrong, ADVICE)
    try:
        other = checkpoint.other_tensor()
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} does not describe a network of this version of ict_ref ({reason}). {ADVICE}"
        ) from None
    if other:
        raise ValueError(f"{path} has other tensors than its network in this version of ict_ref: {other}. {ADVICE}")
    return checkpoint


def _described(
    path: Path, about: Mapping[str, Any] | None, state: Mapping[str, Float[Tensor, "..."]]
) -> NetworkCheckpoint:
    """Return the network that the description of a file has.

    Raises:
        ValueError: the description is missing, has entries of another version, or values that a network cannot have.
    """
    try:
        if about is None:
            raise KeyError
        stored = {name: value for name, value in about.items() if name not in NOT_FIELDS}
        options = stored_group(Network, stored.pop("network"), "network")
        checkpoint = NetworkCheckpoint(options=options, state=state, **as_fields(NetworkCheckpoint, stored))
        refuse_out_of_range(checkpoint)
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not a network file of this version of ict_ref. {ADVICE}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not a network file of this version of ict_ref ({error}). {ADVICE}") from None
    return checkpoint


def refuse_out_of_range(checkpoint: NetworkCheckpoint) -> None:
    """Reject a description whose values a network cannot have.

    Raises:
        ValueError: a value is out of range.
    """
    for name, least in (("channels", 1), ("size", 1), ("classes", 0)):
        checked(getattr(checkpoint, name), int, name, least)
    blocks, tensors = checkpoint.options.blocks, len(checkpoint.state)
    got = reprlib.repr(blocks)
    expect(blocks <= tensors, "--network.blocks", f"at most {tensors}, the number of tensors in the file", got)
    method, cut = checkpoint.method, checkpoint.sigma_cut
    expect(0 <= cut < method.sigma_max, "sigma_cut", f"0 <= cut < {method.sigma_max}", cut)
    method.refuse_rounding("float32")
