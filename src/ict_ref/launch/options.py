"""Options of `python -m ict_ref.launch`: a preset, changes of its fields, and where to run.

This module does not import torch, so that help and errors appear at once.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ict_ref.config import PRESETS, Config
from ict_ref.config.cluster import cluster_options
from ict_ref.config.identity import digest_of_0_1_0, nested
from ict_ref.config.old_names import with_current_names, with_current_options
from ict_ref.launch.data_folder import data_folder, with_checksum
from ict_ref.slurm.cluster_file import ClusterFile, job_of, read_cluster_file
from ict_ref.slurm.options import Placement
from ict_ref.slurm.preset_jobs import preset_job
from ict_ref.utils.option_parser import Given, given_options, metavar, parse_options

NAME = "ict_ref.launch"

if TYPE_CHECKING:
    Preset = str
else:
    Preset = Literal[*PRESETS]


@dataclass(frozen=True)
class Launch(Placement):
    """Train a consistency model, sample from it in one and two steps, and score the samples.

    Each run has its own folder with its configuration, metrics, checkpoints, samples.png and scores.json. The same
    command resumes a run that was stopped. By default a run uses one process per visible GPU, or one CPU process. With
    --slurm the run is submitted as a job. --list prints the presets. Exit status: 0 done; 1 acceptance thresholds
    missed, or a loss that is not finite; 2 rejected; 3 another process of the run was lost; 130 stopped by Ctrl-C, 143
    by SIGTERM, 140 by SIGUSR2, 129 by the end of its terminal.
    """

    preset: Annotated[Preset, tyro.conf.arg(name="config", help_behavior_hint="(required)")]
    """Preset to start from; every option below changes one of its fields."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """Run folder; by default runs/PRESET-DIGITS, where DIGITS identify the configuration."""

    def cluster_file(self) -> ClusterFile:
        """Return the cluster file.

        Raises:
            ValueError: The file does not exist, is not TOML, or has an unknown option or a value of another type.
            OSError: The file cannot be read.
        """
        return read_cluster_file(self.profile, cluster_options(), with_current_names)

    def with_data(self) -> "Launch":
        """Return the run with the checksum of its data, and absolute paths.

        Raises:
            ValueError: The data are not named, or their folder does not hold prepared data.
            OSError: The prepared data or the cluster file cannot be read.
        """
        return dataclasses.replace(self, config=with_checksum(self.config, self.cluster_file()))

    def folder(self) -> Path:
        """Return the run folder."""
        if self.out is not None:
            return self.out
        given, preset = dataclasses.asdict(self.config), dataclasses.asdict(PRESETS[self.preset]())
        # A preset's sampling and thresholds need not go with the other options: this is a name, not a configuration.
        as_preset = {**given, "sample": preset["sample"], "acceptance": preset["acceptance"]}
        # Version 0.1.0 named folders by sampling and thresholds too. Its runs are resumed in their folders.
        of_0_1_0 = [digest_of_0_1_0(fields) for fields in (given, as_preset)]
        folders = [Path("runs") / f"{self.preset}-{digest}" for digest in (*of_0_1_0, self.config.digest())]
        return next((folder for folder in folders if folder.exists()), folders[-1])


def parse(arguments: Sequence[str]) -> Launch:
    """Return the run that the arguments describe, or exit 0 after --help. A dry run needs no data.

    Raises:
        ValueError: An option is unknown or its value is not allowed; the message is one line.
        OSError: The prepared data or the cluster file cannot be read.
    """
    launch = parse_options(Launch, with_current_options(arguments), NAME, default=_default)
    launch.refuse_contradictions()
    return launch if launch.dry_run else launch.with_data()


def given_values(arguments: Sequence[str]) -> Given:
    """Return the values on a command line that `parse` accepts, by the path of their field."""
    given, _ = given_options(Launch, with_current_options(arguments), NAME)
    return given


def _default(given: Given) -> Launch:
    """Return the run of the given preset and cluster file, with the other options; the help shows the preset digits."""
    preset = given.get(("preset",), "digits")
    file = read_cluster_file(given.get(("profile",)), cluster_options(), with_current_names)
    try:
        config = _with_options(PRESETS[preset](), file, given)
    except ValueError as error:
        raise ValueError(file.described(str(error), given)) from None
    gpus = config.machine.device != "cpu"
    return Launch(preset, config, job=job_of(preset_job(preset, gpus=gpus), file, given, gpus=gpus))


def _with_options(config: Config, file: ClusterFile, given: Given) -> Config:
    """Return a configuration with the values of the cluster file, and before them those of the command line."""
    typed = nested({f"{path[1]}.{path[2]}": value for path, value in given.items() if path[0] == "config"})
    values = {group: file.group(group) | typed.get(group, {}) for group in (*typed, "machine", "record", "train")}
    name = typed.get("data", {}).get("name", config.data.name)
    values["data"] = {"path": data_folder(name, file)} | typed.get("data", {})
    groups = {group: dataclasses.replace(getattr(config, group), **fields) for group, fields in values.items()}
    return dataclasses.replace(config, **groups)
