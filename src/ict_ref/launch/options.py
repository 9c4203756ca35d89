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
from ict_ref.config.identity import digest_of_0_1_0
from ict_ref.config.old_names import with_current_options
from ict_ref.data.prepared import read_about
from ict_ref.slurm.options import Placement, load_profile
from ict_ref.utils.option_parser import Given, metavar, parse_options

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
    """Return the run that the arguments describe, or exit 0 after --help.

    Raises:
        ValueError: An option is unknown or its value is not allowed; the message is one line.
        OSError: The prepared data cannot be read.
    """
    launch = parse_options(Launch, with_current_options(arguments), "ict_ref.launch", default=_default)
    launch.refuse_contradictions()
    return dataclasses.replace(launch, config=with_checksum(launch.config))


def _default(given: Given) -> Launch:
    """Return the run of the given preset and profile, before the other options; the help shows the preset digits."""
    preset, profile = given.get(("preset",), "digits"), given.get(("profile",))
    return Launch(preset, PRESETS[preset](), job=load_profile(profile))


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
            f"--data.path: expected the folder of {data.name}, got nothing. "
            "Make that folder with python -m ict_ref.prepare."
        )
    checksum = data.checksum or read_about(Path(data.path)).checksum()
    path, held_out = (_absolute(place) if place else "" for place in (data.path, data.held_out))
    return dataclasses.replace(config, data=dataclasses.replace(data, checksum=checksum, path=path, held_out=held_out))


def _absolute(place: str) -> str:
    """Return an absolute path of the same folder, with `..` only where it follows a symbolic link."""
    normal = Path(os.path.abspath(place))  # noqa: PTH100 (resolve() would follow links)
    return str(normal if normal.exists() and normal.samefile(place) else Path(place).absolute())
