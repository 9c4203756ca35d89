"""The values of a run that differ from its preset, and the source of each."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ict_ref.config import PRESETS
from ict_ref.config.identity import flat
from ict_ref.config.validate import option
from ict_ref.launch import data_folder
from ict_ref.launch.options import Launch, given_values
from ict_ref.slurm.preset_jobs import preset_job

CHOSEN = {"data.checksum": "the prepared folder", "machine.device": "a job with GPUs"}
"""Sources of values that the launcher sets."""


@dataclass(frozen=True)
class Change:
    """A value that differs from the preset's."""

    option: str
    value: Any
    source: str


def changes(launch: Launch, arguments: Sequence[str]) -> list[Change]:
    """Return the values of a run that differ from its preset, in the order of the options.

    Raises:
        ValueError: The arguments are not allowed.
        OSError: The cluster file cannot be read.
    """
    given = given_values(arguments)
    typed = {".".join(path[path[0] == "config" :]) for path in given}
    file = launch.cluster_file()
    of_file = flat(file.values)

    def source(name: str) -> str:
        if name in typed:
            return "the command line"
        if name == "data.path":
            return data_folder.source(launch.config, file)
        return str(file.path) if of_file.get(name) == after[name] else CHOSEN.get(name, "the preset on a CPU")

    preset = PRESETS[launch.preset]()
    before = flat({**dataclasses.asdict(preset), "job": dataclasses.asdict(preset_job(launch.preset))})
    after = flat({**dataclasses.asdict(launch.config), "job": dataclasses.asdict(launch.job)})
    with_job = launch.slurm
    return [
        Change(option(name), ", ".join(map(str, value)) if isinstance(value, tuple) else value, source(name))
        for name, value in after.items()
        if value != before[name] and (with_job or not name.startswith("job."))
    ]


def table(found: Sequence[Change]) -> str:
    """Return the changes as a table.

    >>> print(table([Change("--train.steps", 8, "the command line"), Change("--data.path", "/d", "cluster.toml")]))
    option         value  from
    --train.steps  8      the command line
    --data.path    /d     cluster.toml
    """
    rows = [("option", "value", "from"), *((one.option, str(one.value), one.source) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return "\n".join(f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}" for row in rows)
