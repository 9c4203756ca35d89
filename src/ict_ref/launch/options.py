"""Options of `python -m ict_ref.launch`: a preset, changes of its fields, and where to run.

This module does not import torch, so that help and errors appear at once.
"""

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ict_ref.config import PRESETS, Config
from ict_ref.config.cluster import DATA_SETS, cluster_options
from ict_ref.config.identity import digest_of_0_1_0, nested
from ict_ref.config.old_names import with_current_options
from ict_ref.data.prepared import read_about
from ict_ref.launch.preset_jobs import preset_job
from ict_ref.slurm.cluster_file import ClusterFile, folder, job_of, read_cluster_file
from ict_ref.slurm.options import Placement
from ict_ref.utils.option_parser import Given, given_options, metavar, parse_options

NAME = "ict_ref.launch"
VARIABLE = "ICT_REF_DATA"
"""Environment variable with a folder of prepared data sets."""

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
    by SIGTERM, 140 by SIGUSR2.
    """

    preset: Annotated[Preset, tyro.conf.arg(name="config", help_behavior_hint="(required)")]
    """Preset to start from; every option below changes one of its fields."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """Run folder; by default runs/PRESET-DIGITS, where DIGITS identify the configuration."""

    def folder(self) -> Path:
        """Return the run folder."""
        if self.out is not None:
            return self.out
        preset = PRESETS[self.preset]()
        as_preset = dataclasses.replace(self.config, sample=preset.sample, acceptance=preset.acceptance)
        # Version 0.1.0 named folders by sampling and thresholds too. Its runs are resumed in their folders.
        of_0_1_0 = [digest_of_0_1_0(dataclasses.asdict(config)) for config in (self.config, as_preset)]
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
    return launch if launch.dry_run else dataclasses.replace(launch, config=with_checksum(launch.config))


def given_values(arguments: Sequence[str]) -> Given:
    """Return the values on a command line that `parse` accepts, by the path of their field."""
    given, _ = given_options(Launch, with_current_options(arguments), NAME)
    return given


def cluster_file(given: Given) -> ClusterFile:
    """Return the cluster file of a command line.

    Raises:
        ValueError: The file does not exist, is not TOML, or has an unknown option or a value of another type.
        OSError: The file cannot be read.
    """
    return read_cluster_file(given.get(("profile",)), cluster_options())


def _default(given: Given) -> Launch:
    """Return the run of the given preset and cluster file, with the other options; the help shows the preset digits."""
    preset, file = given.get(("preset",), "digits"), cluster_file(given)
    try:
        config = _with_options(PRESETS[preset](), file, given)
    except ValueError as error:
        raise ValueError(file.described(str(error))) from None
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


def data_folder(name: str, file: ClusterFile) -> str:
    """Return the folder of a data set: that of the cluster file, else $ICT_REF_DATA/NAME if it exists, else "".

    A path in the cluster file may contain ~ and variables; if it is relative, it is relative to the file's folder.

    Raises:
        ValueError: $ICT_REF_DATA is not a folder.
    """
    stated = file.group("data").get(name, "")
    if stated and file.path is not None:
        return str(file.path.absolute().parent / Path(os.path.expandvars(stated)).expanduser())
    root = os.environ.get(VARIABLE, "") if name in DATA_SETS else ""
    if root and not Path(root).is_dir():
        raise ValueError(f"${VARIABLE}: expected a folder of prepared data sets, got {root}. Correct or unset it.")
    return str(Path(root) / name) if root and (Path(root) / name).is_dir() else ""


def with_checksum(config: Config) -> Config:
    """Return the configuration with the checksum of its data, which identifies them in any folder, and absolute paths.

    Raises:
        ValueError: `data.path` is empty or its folder does not hold prepared data.
        OSError: The prepared data cannot be read.
    """
    data = config.data
    if data.name == "digits":
        return config
    if not data.path:
        raise ValueError(
            f"--data.path: expected the folder of {data.name}, got nothing. Make it with python -m ict_ref.prepare. "
            f'Then give --data.path FOLDER, write {data.name} = "FOLDER" below [data] in {folder() / "cluster.toml"}, '
            f"or keep it as ${VARIABLE}/{data.name}."
        )
    try:
        checksum = data.checksum or read_about(Path(data.path)).checksum()
    except ValueError as error:
        raise ValueError(f"--data.path: {error}") from None
    path, held_out = (_absolute(place) if place else "" for place in (data.path, data.held_out))
    return dataclasses.replace(config, data=dataclasses.replace(data, checksum=checksum, path=path, held_out=held_out))


def _absolute(place: str) -> str:
    """Return an absolute path of the same folder, with `..` only where it follows a symbolic link."""
    normal = Path(os.path.abspath(place))  # noqa: PTH100 (resolve() would follow links)
    return str(normal if normal.exists() and normal.samefile(place) else Path(place).absolute())
