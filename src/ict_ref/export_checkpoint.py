"""Export of a run's network to its own file or folder: `python -m ict_ref.export_checkpoint RUN --out FILE`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ict_ref.utils.atomic import new_files, refuse_outputs
from ict_ref.utils.command_line import guarded
from ict_ref.utils.json_file import read_json
from ict_ref.utils.option_parser import Decay, Step, Width, parse_options
from ict_ref.utils.printable import printable

if TYPE_CHECKING:
    from ict_ref.checkpoint.ema_weights import EMAWeights

NAME = "ict_ref.export_checkpoint"
EPILOG = """
exit status: 0 written; 2 rejected, nothing is written and one line gives the reason

examples:
  python -m ict_ref.export_checkpoint runs/digits-1234abcd --out digits.safetensors
  python -m ict_ref.export_checkpoint runs/digits-1234abcd --format diffusers --out digits
  python -m ict_ref.export_checkpoint runs/imagenet64-1234abcd --format openai --out ict64.pt
and then, in Python:
  from ict_ref.checkpoint.network_file import load_exported
  model = load_exported(Path("digits.safetensors")).model()
or:
  from diffusers import DiffusionPipeline
  pipeline = DiffusionPipeline.from_pretrained("digits", trust_remote_code=True)
"""


@dataclass(frozen=True)
class Options:
    """Write the EMA weights of a run to their own file, or to a file or folder for other code.

    The file is safetensors with the network's options in its metadata, a quarter of the checkpoint's size. The run is
    only read and may still be training. Format diffusers: a folder with the network, its code (a program, which needs
    ict_ref), the scheduler and a model card; it can be pushed to a hub as it is, which this command does not do.
    Format openai: a state dict of torch.save for the UNetModel of openai/consistency_models. import_checkpoint reads
    both back to the same weights.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|FILE")]
    """Folder of the run, or a checkpoint."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE|FOLDER")]
    """New file to write, or new folder for format diffusers."""
    format: Literal["network", "diffusers", "openai"] = "network"
    """network: one file for this package. diffusers: a folder for diffusers. openai: one file for openai's code, of
    an ADM with positional embedding and 32 groups."""
    step: Step = None
    """Checkpoint of the run, by its step; by default the newest."""
    ema: Decay = None
    """EMA weights of the run, by their decay; by default those of the first of --train.ema-decay."""
    ema_sigma: Width = None
    """Relative width of EMA weights to reconstruct, for a run with --train.ema-sigmas (post-hoc EMA)."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: export_run(parse_options(Options, arguments, NAME, EPILOG)))


def export_run(options: Options) -> int:
    """Write the network of the run and return the exit status.

    Raises:
        ValueError: The output exists or the run has no usable checkpoint.
        OSError: A file cannot be read or written.
    """
    refuse_outputs(options.out)
    from ict_ref.checkpoint import openai_file
    from ict_ref.checkpoint.ema_weights import load_ema
    from ict_ref.checkpoint.network_file import export

    ema = load_ema(options.run, options.step, decay=options.ema, sigma=options.ema_sigma)
    if options.format == "diffusers":
        write_diffusers(ema, options)
    elif options.format == "openai":
        content = openai_file.content(ema.network)
        with new_files(options.out) as new:
            new.write(options.out, content)
    else:
        export(ema.network, options.out)
    chosen = f" ({ema.chosen})" if ema.chosen else ""
    print(printable(f"wrote the EMA weights{chosen} after step {ema.step} of {options.run} to {options.out}"))
    if options.format == "openai":
        print(printable(f"to read it: {openai_file.import_command(ema.network, options.out)}"))
    return 0


def write_diffusers(ema: "EMAWeights", options: Options) -> None:
    """Write the folder that diffusers reads; its model card has the scores of the run after the same step.

    Raises:
        ValueError: The network is a denoiser, or scores.json is damaged.
        OSError: A file cannot be written.
    """
    from ict_ref.checkpoint.diffusers_folder import files

    stored = options.run / "scores.json"
    scores = read_json(stored) if stored.exists() else {}
    contents = files(ema.network, options.out.name, scores if scores.get("step") == ema.step else None)
    with new_files(options.out) as new:
        folder = new.folder(options.out)
        for path, content in contents.items():
            (folder / path).parent.mkdir(exist_ok=True)
            (folder / path).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
