"""Write a run's network to a file of its own: `python -m ict_ref.export_checkpoint RUN --out FILE`."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ict_ref.utils.command_line import Parser, guarded, refuse_place, say

# torch is imported once the arguments are known to be good: help and errors come at once.
if TYPE_CHECKING:
    from ict_ref.networks.network_checkpoint import Weights

NAME, PROGRAM = "ict_ref.export_checkpoint", "python -m ict_ref.export_checkpoint"
DESCRIPTION = """\
Write the averaged student of a run folder, as it was last saved, to FILE: safetensors, with the network's options in
its metadata, a quarter of the checkpoint's size. The run is only read, and may be going on.
"""
EPILOG = """\
exit status: 0 written; 2 refused, nothing is written and one line says why

example:
  python -m ict_ref.export_checkpoint runs/digits-1234abcd --out digits.safetensors
and then, in Python:
  from ict_ref.checkpoint.network_file import load_exported
  model = load_exported(Path("digits.safetensors")).model()
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = Parser(PROGRAM, DESCRIPTION, EPILOG)
    line.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    line.add_argument("--out", type=Path, required=True, metavar="FILE", help="what to write; it is not overwritten")
    return line


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: _exported(parser().parse_args(arguments)))


def _exported(options: argparse.Namespace) -> int:
    refuse_place(options.out)
    weights, step = averaged_student(options.run)
    from ict_ref.checkpoint.network_file import export

    options.out.parent.mkdir(parents=True, exist_ok=True)
    export(weights, options.out)
    print(f"the average after step {step} of {options.run} is written to {options.out}")
    return 0


def averaged_student(run: Path) -> "tuple[Weights, int]":
    """Return the average in a run's checkpoint, and after how many steps. Raises ValueError if there is none."""
    from ict_ref.checkpoint.training_state import Checkpoint, newest_checkpoint
    from ict_ref.data.dataset import load
    from ict_ref.networks.network_checkpoint import Weights
    from ict_ref.checkpoint.run_dir import load_config

    config = load_config(run)

    def of_this_run(checkpoint: Checkpoint) -> None:
        if checkpoint.config != config.digest():
            raise ValueError(
                f"{run} has a checkpoint of another configuration than its config.json's; restore one of them"
            )

    checkpoint, refused = newest_checkpoint(run, of_this_run)
    if checkpoint is None:
        raise ValueError(f"{run} has no checkpoint yet; a run writes one every record.save_every steps")
    for file in refused:
        say(
            "ict_ref",
            0,
            f"warning: {file} is damaged, or another run's; the average after step {checkpoint.step} is taken",
        )
    images = load(config.data).train
    prefix = "average/network."
    weights = Weights(
        options=config.network,
        channels=images.event[0],
        size=images.event[1],
        classes=images.classes if config.data.labels else 0,
        state={
            name.removeprefix(prefix): tensor for name, tensor in checkpoint.tensors.items() if name.startswith(prefix)
        },
        sigma_min=config.method.sigma_min,
        sigma_data=config.method.sigma_data,
    )
    return weights, checkpoint.step


if __name__ == "__main__":
    sys.exit(main())
