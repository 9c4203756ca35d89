"""Import of published networks: `python -m ict_ref.import_checkpoint FILE --out FOLDER`."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from ict_ref.utils.atomic import new_files, refuse_outputs
from ict_ref.utils.command_line import expect, guarded
from ict_ref.utils.option_parser import Flag, metavar, parse_options
from ict_ref.utils.printable import printable, printable_lines

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.networks.network_checkpoint import NetworkCheckpoint

NAME = "ict_ref.import_checkpoint"
NETWORK, DESCRIPTION = "network.safetensors", "network.json"
EPILOG = """
exit status: 0 written; 2 rejected, nothing is written and one line gives the reason

examples:
  python -m ict_ref.import_checkpoint ct_imagenet64.pt --out ct64
  python -m ict_ref.import_checkpoint guided_diffusion.pt --out adm64 --qkv head-first
  python -m ict_ref.import_checkpoint edm_cifar10_ve.pt --out edm32
  python -m ict_ref.import_checkpoint edm_cifar10_uncond_vp.pt --out ddpmpp32 --dropout-max-resolution 32
  python -m ict_ref.import_checkpoint checkpoint_24.pth --out ncsnpp32 --no-average
  python -m ict_ref.import_checkpoint digits-diffusers --out digits
and then, in Python:
  from ict_ref.checkpoint.network_file import load_exported
  model = load_exported(Path("ct64/network.safetensors")).model()
"""


@dataclass(frozen=True)
class Options:
    """Read a network of other code and write it as FOLDER/network.safetensors, with a readable FOLDER/network.json.

    FILE is a state dict, saved by torch.save or as safetensors, or has one in an entry such as model, ema or model_ema:
      openai     UNetModel of openai/consistency_models or openai/guided-diffusion (ADM)
      edm        SongUNet of NVlabs/edm, configured as NCSN++ or DDPM++
      score_sde  NCSNpp of yang-song/score_sde_pytorch, also with EMA weights as a list, ema.shadow_params
    Channels, resolution stages, blocks, attention, classes and AdaGN are read from names and shapes. The options supply
    the rest, by default as in the released networks. The import fails unless every tensor is used exactly once.

    Pickles are not executed. EDM's .pkl files are pickles of whole objects. If you trust such a file, save
    net.model.state_dict() with torch.save in EDM's own environment, and import the result.

    The free-form network F of published consistency models can be used as it is. Other networks have another
    parameterization: EDM has another c_skip and c_out, and score_sde divides F by sigma.

    FILE may also be a folder of export_checkpoint --format diffusers, which has all options. Its code is not executed.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """File to read."""
    out: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write to; existing files are not overwritten."""
    format: Literal["auto", "openai", "edm", "score_sde", "diffusers"] = "auto"
    """Format of the file; auto: detected from the names of its tensors. A folder is of format diffusers."""
    size: Annotated[int | None, metavar("N")] = None
    """Image side in pixels; by default 64 for openai and 32 for score_sde if the network has four resolution
    stages as released ones of this size."""
    time_scale: Annotated[float | None, metavar("X")] = None
    """Factor on log(sigma)/4 before the embedding; by default 1000 for openai, 1 for edm and 4 for score_sde."""
    head_channels: int = 64
    """Channels per attention head for openai; 0: one head."""
    qkv: Literal["q-k-v", "head-first"] = "q-k-v"
    """Order of rows in openai's attention. q-k-v: all of q, then k, then v, as in consistency_models; head-first: head
    by head, as in guided-diffusion without use_new_attention_order."""
    average: Flag = True
    """Take the trained weights instead of the EMA weights from a file with both."""
    entry: Annotated[str | None, metavar("NAME")] = None
    """State dict of the file to read, such as model_ema; by default the EMA weights, or else the only one. The command
    prints its name and those of all other entries."""
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
    target = options.out / NETWORK
    refuse_outputs(target, options.out / DESCRIPTION)
    weights, lines = load(options)
    about = write(weights, options.out)
    parameters = sum(tensor.numel() for name, tensor in weights.state.items() if not name.endswith(".frequencies"))
    name = {"adm": "ADM", "ncsnpp": "NCSN++", "ddpmpp": "DDPM++"}[weights.options.architecture]
    labels = f"{weights.classes} classes" if weights.classes else "no labels"
    images = f"{weights.channels} x {weights.size} x {weights.size}"
    print(printable(f"{name}: {parameters:,} parameters, images of {images}, {labels}"))
    print("\n".join(f"  {key} = {json.dumps(value)}" for key, value in about["network"].items()))
    print(printable_lines("\n".join(lines)))
    print(printable(f"wrote {target}"))
    return 0


def load(options: Options) -> tuple["NetworkCheckpoint", list[str]]:
    """Return the network in the file or folder, and lines with the entry that it is and what is beside it.

    Raises:
        ValueError: The file is not a supported network, or the options do not fit it.
        OSError: The file cannot be read.
    """
    is_folder = options.format == "diffusers" or (options.format == "auto" and options.file.is_dir())
    return _from_folder(options) if is_folder else _from_file(options)


def _from_folder(options: Options) -> tuple["NetworkCheckpoint", list[str]]:
    from ict_ref.checkpoint.diffusers_folder import WEIGHTS, read

    expect(options.file.is_dir(), "--format diffusers", "a folder", options.file, "Leave --format out.")
    checkpoint = read(options.file)
    of_files = [field for field in dataclasses.fields(options) if field.name not in ("file", "out", "format")]
    for field in of_files:
        is_left_out = getattr(options, field.name) == field.default
        option = "--no-average" if field.name == "average" else f"--{field.name.replace('_', '-')}"
        expect(is_left_out, option, "a file", f"the folder {options.file}, which has all options", "Leave it out.")
    return checkpoint, [f"read: {WEIGHTS}"]


def _from_file(options: Options) -> tuple["NetworkCheckpoint", list[str]]:
    from ict_ref.checkpoint.foreign_file import content
    from ict_ref.networks.published import read
    from ict_ref.networks.published.common import ImportOptions
    from ict_ref.networks.published.container import choose

    unseen = ImportOptions(
        size=options.size,
        time_scale=options.time_scale,
        head_channels=options.head_channels,
        qkv=options.qkv,
        dropout=options.dropout,
        dropout_max_resolution=options.dropout_max_resolution,
    )
    alone = options.entry is None or options.average
    expect(alone, "--no-average", "nothing beside --entry", "both", "Leave one of them out.")
    try:
        chosen = choose(content(options.file), average=options.average, entry=options.entry)
        checkpoint = read(chosen.state, unseen, options.format)
    except ValueError as error:
        raise ValueError(f"{options.file}: {error}") from None
    _refuse_unused(options, checkpoint)
    return checkpoint, chosen.lines()


def _refuse_unused(options: Options, checkpoint: "NetworkCheckpoint") -> None:
    """Reject options that the network in the file does not have.

    Raises:
        ValueError: Such an option is given.
    """
    size = checkpoint.size
    fits = options.size in (None, size)
    expect(fits, "--size", f"{size}, as the names in {options.file} say", options.size, "Leave it out.")
    if checkpoint.options.architecture == "adm":
        return
    for field in dataclasses.fields(options):
        if field.name in ("qkv", "head_channels"):
            option, got = f"--{field.name.replace('_', '-')}", getattr(options, field.name)
            expect(got == field.default, option, "a network of openai", f"{option} {got} for another", "Leave it out.")


def write(weights: "NetworkCheckpoint", folder: Path) -> dict[str, Any]:
    """Write both files and return the content of the readable one.

    Raises:
        ValueError: The network has values that are not finite, or a file exists.
        OSError: A file cannot be written.
    """
    from ict_ref.checkpoint.network_file import description, exported

    about, target = description(weights), folder / NETWORK
    content = exported(weights, target)
    with new_files(target, folder / DESCRIPTION) as new:
        new.write(folder / DESCRIPTION, json.dumps(about, indent=2).encode() + b"\n")
        new.write(target, content)
    return about


if __name__ == "__main__":
    sys.exit(main())
