"""Write a run's network to a file of its own: `python -m ict_ref.export_checkpoint RUN --out FILE`."""

import argparse
import sys
from pathlib import Path

from ict_ref.utils.command_line import Parser, guarded, refuse_place

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
    from ict_ref.checkpoint.load import load_ema
    from ict_ref.checkpoint.network_file import export

    weights, step = load_ema(options.run)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    export(weights, options.out)
    print(f"the average after step {step} of {options.run} is written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
