"""Import of published networks: `python -m ict_ref.import_checkpoint FILE --out FOLDER`."""

import json
import pickle
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ict_ref.utils.command_line import guarded
from ict_ref.utils.option_parser import Flag, metavar, parse_options

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.networks.network_checkpoint import NetworkCheckpoint

NAME = "ict_ref.import_checkpoint"
EPILOG = """
exit status: 0 written; 2 rejected, nothing is written and one line gives the reason

examples:
  python -m ict_ref.import_checkpoint ct_imagenet64.pt --out ct64
  python -m ict_ref.import_checkpoint guided_diffusion.pt --out adm64 --qkv head-first
  python -m ict_ref.import_checkpoint edm_cifar10_ve.pt --out edm32
  python -m ict_ref.import_checkpoint checkpoint_24.pth --out ncsnpp32 --no-average
and then, in Python:
  from ict_ref.checkpoint.network_file import load_exported
  model = load_exported(Path("ct64/network.safetensors")).model()
"""


@dataclass(frozen=True)
class Options:
    """Read a published network and write it as FOLDER/network.safetensors, with a readable FOLDER/network.json.

    FILE is a state dict, saved by torch.save or as safetensors:
      openai     UNetModel of openai/consistency_models or openai/guided-diffusion (ADM)
      edm        SongUNet of NVlabs/edm, configured as NCSN++
      score_sde  NCSNpp of yang-song/score_sde_pytorch, also in its {"model": ..., "ema": ...}
    Channels, resolution stages, blocks, attention, classes and AdaGN are read from names and shapes. The options supply
    the rest, by default as in the released networks. The import fails unless every tensor is used exactly once.

    Pickles are not executed. EDM's .pkl files are pickles of whole objects. If you trust such a file, save
    net.model.state_dict() with torch.save in EDM's own environment, and import the result.

    The free-form network F of published consistency models can be used as it is. Other networks have another
    parameterization: EDM has another c_skip and c_out, and score_sde divides F by sigma.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """File to read."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write to; existing files are not overwritten."""
    format: Literal["auto", "openai", "edm", "score_sde"] = "auto"
    """Format of the file; auto: detected from the names of its tensors."""
    size: Annotated[int | None, metavar("N")] = None
    """Image side in pixels; by default 64 for openai and 32 for score_sde."""
    time_scale: Annotated[float | None, metavar("X")] = None
    """Factor on log(sigma)/4 before the embedding; by default 1000 for openai, 1 for edm and 4 for score_sde."""
    head_channels: int = 64
    """Channels per attention head for openai; 0: one head."""
    qkv: Literal["q-k-v", "head-first"] = "q-k-v"
    """Order of rows in openai's attention. q-k-v: all of q, then k, then v, as in consistency_models; head-first: head
    by head, as in guided-diffusion without use_new_attention_order."""
    average: Flag = True
    """Take the trained weights instead of the EMA weights from a file with both."""
    dropout: float = 0.0
    """Dropout rate for further training."""
    dropout_max_resolution: int = 16
    """Largest resolution at which dropout acts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: import_network(parse_options(Options, arguments, NAME, EPILOG)))


def import_network(options: Options) -> int:
    """Write the network in the file, print a summary and return the exit status.

    Raises:
        ValueError: The output exists, or the file is not a supported network.
        OSError: A file cannot be read or written.
    """
    target = options.out / "network.safetensors"
    for file in (target, options.out / "network.json"):
        if file.exists():
            raise ValueError(
                f"--out: expected a new path, got {file}. Existing files are not overwritten; choose another --out."
            )
    weights = load(options)
    about = write(weights, options.out)
    parameters = sum(tensor.numel() for name, tensor in weights.state.items() if not name.endswith(".frequencies"))
    name = {"adm": "ADM", "ncsnpp": "NCSN++"}[weights.options.architecture]
    labels = f"{weights.classes} classes" if weights.classes else "no labels"
    images = f"{weights.channels} x {weights.size} x {weights.size}"
    print(f"{name}: {parameters:,} parameters, images of {images}, {labels}")
    print("\n".join(f"  {key} = {json.dumps(value)}" for key, value in about["network"].items()))
    print(f"wrote {target}")
    return 0


def load(options: Options) -> "NetworkCheckpoint":
    """Return the network in the file.

    Raises:
        ValueError: The file is not a supported network, or the options do not fit it.
        OSError: The file cannot be read.
    """
    from ict_ref.networks.published import read, state_dict_in
    from ict_ref.networks.published.common import ImportOptions

    unseen = ImportOptions(
        size=options.size,
        time_scale=options.time_scale,
        head_channels=options.head_channels,
        qkv=options.qkv,
        dropout=options.dropout,
        dropout_max_resolution=options.dropout_max_resolution,
    )
    try:
        state = state_dict_in(content(options.file), options.average)
        return read(state, unseen, None if options.format == "auto" else options.format)
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}") from None


def content(file: Path) -> object:
    """Return the content of a file of torch.save or safetensors without executing code.

    Raises:
        ValueError: The file is damaged, has another format, or is a pickle with other objects than tensors.
        OSError: The file cannot be read.
    """
    if file.exists() and not file.is_file() and not file.is_dir():
        raise ValueError("expected a regular file, got a pipe or a device. Save its content to a file.")
    with file.open("rb") as stream:
        start = stream.read(16)
    is_safetensors = start[8:9] == b"{"  # a length of eight bytes, then JSON
    return _safetensors_content(file) if is_safetensors else _torch_content(file, start)


def _safetensors_content(file: Path) -> object:
    import safetensors
    import safetensors.torch

    try:
        return safetensors.torch.load_file(file)
    except safetensors.SafetensorError as error:
        raise ValueError(f"expected safetensors, got a damaged file ({error}). Download it again.") from None


def _torch_content(file: Path, start: bytes) -> object:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the message below replaces torch's warnings
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a file of another format may raise any exception in torch
        raise ValueError(_reason(error, start)) from None


def _reason(error: Exception, start: bytes) -> str:
    """Return the reason why torch rejected a file with these first bytes."""
    whole_archive = start[:2] == b"PK" and isinstance(error, pickle.UnpicklingError)
    if start[:1] != b"\x80" and not whole_archive:
        expected = "expected a file of torch.save or safetensors, got another format or a damaged file"
        return f"{expected}. Download it again."
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    of = f" ({named[1]})" if named else ""
    return (
        f"expected tensors, got a pickle with other objects{of}. It is not read: it could execute code. "
        "If you trust it, save the state dict in the environment of the code that wrote it, and import that; "
        "for EDM: torch.save(pickle.load(open(FILE, 'rb'))['ema'].model.state_dict(), 'network.pt')."
    )


def write(weights: "NetworkCheckpoint", folder: Path) -> dict[str, Any]:
    """Write both files and return the content of the readable one.

    Raises:
        ValueError: The network has values that are not finite.
        OSError: A file cannot be written.
    """
    from ict_ref.checkpoint.network_file import description, export, refuse_infinite
    from ict_ref.utils.atomic import write_atomically

    about = description(weights)
    refuse_infinite(weights)
    folder.mkdir(parents=True, exist_ok=True)
    export(weights, folder / "network.safetensors")
    write_atomically(folder / "network.json", json.dumps(about, indent=2).encode() + b"\n")
    return about


if __name__ == "__main__":
    sys.exit(main())
