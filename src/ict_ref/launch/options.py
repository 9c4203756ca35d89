"""Options of `python -m ict_ref.launch`: a preset, changes of its fields, and where to run.

Nothing here imports torch: help and errors come at once.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ict_ref.config import PRESETS, Config
from ict_ref.config.identity import digest_of_0_1_0
from ict_ref.data.prepared import read_about
from ict_ref.slurm.options import Job, load_profile, refuse_processes, refuse_without_slurm
from ict_ref.utils.option_parser import Flag, Given, metavar, parse_options

if TYPE_CHECKING:
    Preset = str
else:
    Preset = Literal[*PRESETS]


@dataclass(frozen=True)
class Launch:
    """Train a consistency model, make samples of it in one and two steps, and score them.

    The run has a folder of its own with its configuration, metrics, checkpoints, samples.png and scores.json. The same
    command goes on where it was stopped. Without more words it runs here, on every visible GPU, else on the CPU; with
    --slurm it is submitted. --list lists the presets. Exit status: 0 done; 1 below the bars, or a loss that is not
    finite; 2 refused; 3 another process of the run was lost; 130 stopped by Ctrl-C, 143 by SIGTERM, 140 by SIGUSR2.
    """

    preset: Annotated[Preset, tyro.conf.arg(name="config", help_behavior_hint="(required)")]
    """Preset to start from; every option below changes one of its fields."""
    config: Annotated[Config, tyro.conf.arg(name="")]
    out: Annotated[Path | None, metavar("FOLDER")] = None
    """Run folder; by default runs/PRESET-DIGITS, the digits differing between configurations."""
    processes: int = 0
    """Processes of this machine that share each batch; 0: one for each visible GPU, one where there is none."""
    slurm: Flag = False
    """Submit the run as a SLURM job, described by the options of job, say where to look, and return."""
    profile: Annotated[Path | None, metavar("FILE")] = None
    """TOML file with fields of job, for a cluster (--slurm); options take precedence over it."""
    wait: Flag = False
    """Follow the job to its end and return its status (--slurm)."""
    dry_run: Flag = False
    """Print the configuration and what would be submitted, and do nothing (--slurm: the sbatch file)."""
    job: Job = field(default_factory=Job)

    def folder(self) -> Path:
        """Return the run folder."""
        if self.out is not None:
            return self.out
        preset = PRESETS[self.preset]()
        as_preset = dataclasses.replace(self.config, sample=preset.sample, bars=preset.bars)
        # Version 0.1.0 named folders by sampling and thresholds too: a run that it began is continued where it is.
        of_0_1_0 = [digest_of_0_1_0(dataclasses.asdict(config)) for config in (self.config, as_preset)]
        folders = [Path("runs") / f"{self.preset}-{digest}" for digest in (*of_0_1_0, self.config.digest())]
        return next((folder for folder in folders if folder.exists()), folders[-1])


def parse(arguments: Sequence[str]) -> Launch:
    """Return the run that the arguments describe. Raises ValueError with one line, or exits 0 after --help."""
    launch = parse_options(Launch, arguments, "ict_ref.launch", default=_default)
    refuse_processes(launch.processes, launch.slurm)
    refuse_without_slurm(launch.slurm, wait=launch.wait, profile=launch.profile is not None, job=launch.job != Job())
    return dataclasses.replace(launch, config=with_checksum(launch.config))


def _default(given: Given) -> Launch:
    """Return the run of the given preset (of digits for the help) and profile, which the other options change."""
    preset, profile = given.get(("preset",), "digits"), given.get(("profile",))
    return Launch(preset, PRESETS[preset](), job=Job() if profile is None else load_profile(profile))


def with_checksum(config: Config) -> Config:
    """Return the configuration with its data's checksum, which makes it the same wherever they lie.

    Raises ValueError or OSError if there are no prepared data where it says.
    """
    data = config.data
    if data.name == "digits":
        return config
    if not data.path:
        raise ValueError(f"data.path needs the folder of {data.name} that python -m ict_ref.prepare made; got none")
    checksum = data.checksum or read_about(Path(data.path)).checksum()
    return dataclasses.replace(config, data=dataclasses.replace(data, checksum=checksum))
