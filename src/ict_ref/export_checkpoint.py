"""Export of a run's network to its own file: `python -m ict_ref.export_checkpoint RUN --out FILE`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ict_ref.utils.command_line import guarded, refuse_place
from ict_ref.utils.option_parser import Decay, Step, Width, parse_options

NAME = "ict_ref.export_checkpoint"
EPILOG = """
exit status: 0 written; 2 rejected, nothing is written and one line gives the reason

example:
  python -m ict_ref.export_checkpoint runs/digits-1234abcd --out digits.safetensors
and then, in Python:
  from ict_ref.checkpoint.network_file import load_exported
  model = load_exported(Path("digits.safetensors")).model()
"""


@dataclass(frozen=True)
class Options:
    """Write the EMA weights of a run to their own file.

    The file is safetensors with the network's options in its metadata, a quarter of the checkpoint's size. The run is
    only read and may still be training.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|FILE")]
    """Folder of the run, or a checkpoint."""
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """New file to write."""
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
    refuse_place(options.out)
    from ict_ref.checkpoint.ema_weights import load_ema
    from ict_ref.checkpoint.network_file import export

    ema = load_ema(options.run, options.step, decay=options.ema, sigma=options.ema_sigma)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    export(ema.network, options.out)
    chosen = f" ({ema.chosen})" if ema.chosen else ""
    print(f"wrote the EMA weights{chosen} after step {ema.step} of {options.run} to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
