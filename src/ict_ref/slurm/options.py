"""What a SLURM job of a run asks for: options, and profiles of clusters as TOML files."""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ict_ref.utils.option_parser import Flag, expect, metavar


@dataclass(frozen=True, kw_only=True)
class Job:
    """The SLURM job of a run that is submitted (--slurm). None of this changes what is learned."""

    nodes: int = 1
    """Nodes."""
    processes_per_node: int = 0
    """Processes on each node; 0: one for each GPU, one where there is none."""
    gpus_per_node: int = 0
    """GPUs on each node."""
    gpu_type: str = ""
    """Kind of GPU, as the cluster calls it (a100)."""
    cpus_per_process: int = 1
    """CPU cores of each process."""
    memory_gb: int = 0
    """Memory on each node in GB; 0: all that it has."""
    minutes: int = 60
    """Time limit of one start. At it the job saves, queues itself again and goes on, as often as it takes."""
    signal_seconds: int = 120
    """Seconds before the time limit at which the job is told to save; more than the longest step and saving take. SLURM
    may tell it a minute early."""
    partition: str = ""
    """Partition; without, the cluster's own."""
    account: str = ""
    """Account; without, yours."""
    qos: str = ""
    """Quality of service."""
    constraint: str = ""
    """Features that nodes must have."""
    setup: tuple[str, ...] = ()
    """Shell lines before the processes start, such as 'module load cuda'. One that fails ends the job."""
    sbatch: tuple[str, ...] = ()
    """More options of sbatch, such as reservation=maintenance or exclusive."""

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus_per_process", "minutes", "signal_seconds"):
            _needs(getattr(self, name) >= 1, "an integer >= 1", name, getattr(self, name))
        for name in ("processes_per_node", "gpus_per_node", "memory_gb"):
            _needs(getattr(self, name) >= 0, "an integer >= 0", name, getattr(self, name))
        _needs(self.gpus_per_node > 0 or not self.gpu_type, "job.gpus_per_node too", "gpu_type", self.gpu_type)
        shorter = self.signal_seconds < 60 * self.minutes
        _needs(shorter, f"fewer than the {60 * self.minutes} of job.minutes", "signal_seconds", self.signal_seconds)
        for option in self.sbatch:
            _needs(bool(option.lstrip("-").split("=")[0]), "options such as name=value", "sbatch", option)

    @property
    def tasks(self) -> int:
        """Return how many processes a node has."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    @property
    def processes(self) -> int:
        """Return how many processes the run has."""
        return self.nodes * self.tasks


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Options of a command that works here, in one process or several, or as a SLURM job."""

    processes: int = 0
    """Processes of this machine that share the work; 0: one for each visible GPU, one without GPUs."""
    slurm: Flag = False
    """Submit a SLURM job, described by the options of job, print where to look, and return."""
    profile: Annotated[Path | None, metavar("FILE")] = None
    """TOML file with fields of job, for a cluster (--slurm); options take precedence over it."""
    wait: Flag = False
    """Follow the job to its end and return its status (--slurm)."""
    dry_run: Flag = False
    """Print the configuration or the sbatch file (--slurm), and do nothing."""
    job: Job = field(default_factory=Job)

    def refuse_contradictions(self, *of_jobs: str) -> None:
        """Raise ValueError for a wrong number of processes, and for options of jobs, as these are, without --slurm."""
        expect(self.processes >= 0, "--processes", "an integer >= 0", self.processes)
        if self.slurm and self.processes:
            raise ValueError("--processes is for this machine; with --slurm give --job.nodes and --job.gpus-per-node")
        for name in ("wait", "profile", "job", *of_jobs):
            if not self.slurm and getattr(self, name) not in (False, None, Job()):
                raise ValueError(f"--{name.replace('_', '-')} is for jobs; give --slurm too")


def load_profile(path: Path | None) -> Job:
    """Return the job of a profile, or the default one. Raises ValueError for a file that is not a profile."""
    if path is None:
        return Job()
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--profile needs a TOML file; {path} is none ({error})") from None
    fields = {field.name: field for field in dataclasses.fields(Job)}
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"perhaps {near[0]}" if near else f"there are {', '.join(fields)}"
            raise ValueError(f"--profile {path} has an unknown field {name}; {hint}")
        kind = type(fields[name].default)
        if kind is tuple and isinstance(value, list) and all(isinstance(line, str) for line in value):
            values[name] = tuple(value)
        elif type(value) is kind and kind is not tuple:
            values[name] = value
        else:
            wanted = {int: "an integer", str: "a string", tuple: "a list of strings"}[kind]
            raise ValueError(f"--profile {path}: {name} needs {wanted}; got {value!r}")
    return Job(**values)


def _needs(holds: bool, invariant: str, name: str, got: object) -> None:
    if not holds:
        raise ValueError(f"job.{name} needs {invariant}; got {got}")
