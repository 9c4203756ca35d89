"""The command: `python -m ict_ref.experiments`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ict_ref.experiments.options import EPILOG, ExperimentOptions
from ict_ref.utils.command_line import expect, guarded, refuse_place
from ict_ref.utils.option_parser import parse_options

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.experiments.runs import Experiment, Table

NAME = "ict_ref.experiments"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: run_experiments(parse_options(ExperimentOptions, arguments, NAME, EPILOG)))


def run_experiments(options: ExperimentOptions) -> int:
    """Run the experiments, print their tables and return the exit status.

    Raises:
        ValueError: The path of --json cannot be used.
        OSError: The file cannot be written.
    """
    if options.json is not None:
        _refuse_file(options.json)
    import torch

    from ict_ref.experiments.catalogue import chosen
    from ict_ref.utils.atomic import new_files

    torch.set_num_threads(1)  # small networks are fastest with one thread
    found = {name: run(name, one) for name, one in chosen(options).items()}
    if options.json is not None:
        with new_files(options.json, options={options.json: "--json"}) as new:
            new.write(options.json, (json.dumps(as_json(found), indent=2) + "\n").encode())
    return 0


def run(name: str, experiment: "Experiment") -> "list[Table]":
    """Run an experiment under a progress bar, print its tables and return them."""
    from ict_ref.utils.progress import bar

    with bar(experiment.updates, name, "updates") as progress:
        tables = experiment.run(progress.update)
    for table in tables:
        print(table.text(), end="\n\n", flush=True)
    return tables


def as_json(found: "Mapping[str, list[Table]]") -> dict[str, Any]:
    """Return the tables as JSON values; infinity becomes a string."""
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


def _refuse_file(path: Path) -> None:
    """Raise ValueError unless a new file can be created here."""
    refuse_place(path, "--json")
    expect(path.parent.is_dir(), "--json", "a file in a folder that exists", f"{path}. Make the folder first.")


if __name__ == "__main__":
    sys.exit(main())
