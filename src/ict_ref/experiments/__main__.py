"""The command: `python -m ict_ref.experiments`."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ict_ref.experiments.analytic_datasets import NORMAL, POINT, TWO_MODES
from ict_ref.experiments.answers import KnownAnswer
from ict_ref.experiments.huber import Huber
from ict_ref.experiments.levels import Levels
from ict_ref.experiments.runs import Experiment, Table
from ict_ref.experiments.teacher_ema import TeacherEMA
from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.command_line import INTERRUPTED, REFUSED, Parser, say

NAME, PROGRAM = "ict_ref.experiments", "python -m ict_ref.experiments"
EXPERIMENTS: dict[str, Experiment] = {
    "delta": KnownAnswer("delta", POINT, sigma_data=0.1),
    "gaussian": KnownAnswer("gaussian", NORMAL),
    "mixture": KnownAnswer("mixture", TWO_MODES),
    "levels": Levels(),
    "teacher-ema": TeacherEMA(),
    "huber": Huber(),
}
BAR = "{desc} {n_fmt}/{total_fmt} updates |{bar:20}| {remaining} left"
DESCRIPTION = """\
Train small models by the training engine itself on data whose answer is known, and print what they have learned.

  delta         a point: error of the learned f against the exact consistency function, by noise level
  gaussian      a normal distribution in the plane: the same
  mixture       two narrow modes on the line: the same, the exact function by solving Eq. (1)
  levels        error against the number N of noise levels, and its power law (Section 3.4, Fig. 3a)
  teacher-ema   Proposition 1 at finite N, and training with an average as teacher and without (Section 3.2, Fig. 2a)
  huber         how much gradients and updates vary, pseudo-Huber and squared l2 (Section 3.3, Fig. 6b)

Each takes less than a minute on one CPU thread, which is all that it uses; all together take four minutes. The same
machine gives the same numbers each time.
"""
EPILOG = """\
exit status: 0 done; 2 refused, one line says why; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.experiments
  python -m ict_ref.experiments --only levels huber --json found.json
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = Parser(PROGRAM, DESCRIPTION, EPILOG)
    line.add_argument(
        "--only", nargs="+", choices=list(EXPERIMENTS), metavar="NAME", help="these experiments (default: all)"
    )
    line.add_argument("--json", type=Path, metavar="FILE", help="write the tables to this new file, too")
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    try:
        options = parser().parse_args(arguments)
        if options.json is not None:
            refuse_place(options.json)
        torch.set_num_threads(1)  # such small networks are fastest with one
        found = {name: run(name) for name in EXPERIMENTS if options.only is None or name in options.only}
        if options.json is not None:
            refuse_place(options.json)  # somebody may have written there meanwhile
            write_atomically(options.json, (json.dumps(as_json(found), indent=2) + "\n").encode())
    except (ValueError, OSError) as error:
        return say(NAME, REFUSED, str(error))
    except KeyboardInterrupt:
        return say(NAME, INTERRUPTED, "stopped")
    return 0


def run(name: str) -> list[Table]:
    """Run an experiment under a progress bar, and print its tables."""
    experiment = EXPERIMENTS[name]
    with tqdm(total=experiment.updates, desc=name, delay=2, leave=False, bar_format=BAR) as bar:
        tables = experiment.run(bar.update)
    for table in tables:
        print(table.text(), end="\n\n", flush=True)
    return tables


def as_json(found: dict[str, list[Table]]) -> dict[str, Any]:
    """Return the tables as JSON holds them; infinity, which it lacks, is a string."""
    return {
        name: [
            {
                "title": table.title,
                "columns": table.columns,
                "rows": [
                    [str(value) if value in (float("inf"), float("-inf")) else value for value in row]
                    for row in table.rows
                ],
            }
            for table in tables
        ]
        for name, tables in found.items()
    }


def refuse_place(path: Path) -> None:
    """Raise ValueError unless a new file can be made here."""
    if os.path.lexists(path):
        raise ValueError(f"--json {path} is there; name a new file, for none is overwritten")
    if not path.parent.is_dir():
        raise ValueError(f"--json {path} needs the folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"--json {path} needs a folder that can be written to")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` closes the pipe early; that is no error
    sys.exit(main())
