"""Options of SLURM jobs, and profiles of clusters as TOML files."""

import dataclasses
import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ict_ref.utils.command_line import expect
from ict_ref.utils.option_parser import Flag, metavar

# Types of the fields of Job, in the words of messages.
KINDS = {int: "an integer", str: "a string", tuple: "a list of strings"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """The resources of a SLURM job (--slurm). These options do not change the result of a run."""

    nodes: int = 1
    """Number of nodes."""
    processes_per_node: int = 0
    """Processes on each node; 0: one per GPU, or one without GPUs."""
    gpus_per_node: int = 0
    """GPUs on each node."""
    gpu_type: str = ""
    """Type of GPU as named by the cluster, such as a100."""
    cpus_per_process: int = 1
    """CPU cores of each process."""
    memory_gb: int = 0
    """Memory on each node in GB; 0: all of the node's memory."""
    minutes: int = 60
    """Time limit of one start in minutes. At the limit the job saves and queues itself again, without a limit on the
    number of starts."""
    signal_seconds: int = 120
    """Seconds between the signal to save and the time limit; choose more than the longest step plus saving. SLURM may
    send the signal up to a minute early."""
    partition: str = ""
    """Partition; empty: the cluster's default."""
    account: str = ""
    """Account; empty: your default account."""
    qos: str = ""
    """Quality of service."""
    constraint: str = ""
    """Features that the nodes must have."""
    setup: tuple[str, ...] = ()
    """Shell lines to run before the processes start, such as 'module load cuda'. A failing line ends the job."""
    sbatch: tuple[str, ...] = ()
    """Further sbatch options, such as reservation=maintenance or exclusive."""

    def __post_init__(self) -> None:
        for name in ("nodes", "cpus_per_process", "minutes", "signal_seconds"):
            expect(getattr(self, name) >= 1, _option(name), "an integer >= 1", getattr(self, name))
        for name in ("processes_per_node", "gpus_per_node", "memory_gb"):
            expect(getattr(self, name) >= 0, _option(name), "an integer >= 0", getattr(self, name))
        typed_only_with_gpus = self.gpus_per_node > 0 or not self.gpu_type
        expect(typed_only_with_gpus, "--job.gpu-type", "a value only with --job.gpus-per-node", self.gpu_type)
        limit = 60 * self.minutes
        expected = f"fewer than the {limit} seconds of --job.minutes"
        expect(self.signal_seconds < limit, "--job.signal-seconds", expected, self.signal_seconds)
        for option in self.sbatch:
            expect(bool(option.lstrip("-").split("=")[0]), "--job.sbatch", "options such as name=value", option)

    @property
    def tasks(self) -> int:
        """Return the number of processes on each node."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    @property
    def processes(self) -> int:
        """Return the number of processes on all nodes."""
        return self.nodes * self.tasks


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Options of a command that runs here, in one process or several, or as a SLURM job."""

    processes: int = 0
    """Number of processes on this machine; 0: one per visible GPU, or one without GPUs."""
    slurm: Flag = False
    """Submit a SLURM job with the options of job, print its folder and log, and return."""
    profile: Annotated[Path | None, metavar("FILE")] = None
    """TOML file with fields of job, for a cluster (--slurm); options take precedence over it."""
    wait: Flag = False
    """Follow the job to its end and return its status (--slurm)."""
    dry_run: Flag = False
    """Print the configuration or the sbatch file (--slurm), and exit."""
    job: Job = field(default_factory=Job)

    def refuse_contradictions(self, *of_jobs: str) -> None:
        """Reject a negative number of processes, and contradictions between --slurm and the other options.

        `of_jobs` names further fields that need --slurm.

        Raises:
            ValueError: An option contradicts another.
        """
        expect(self.processes >= 0, "--processes", "an integer >= 0", self.processes)
        if self.slurm and self.processes:
            raise ValueError(
                f"--processes: expected 0 with --slurm, got {self.processes}. "
                "Use --job.nodes and --job.gpus-per-node instead."
            )
        for name in ("wait", "profile", "job", *of_jobs):
            if not self.slurm and getattr(self, name) not in (False, None, Job()):
                option = "--job.*" if name == "job" else f"--{name.replace('_', '-')}"
                raise ValueError(f"{option}: expected --slurm too, got {option} alone. Add --slurm.")


def load_profile(path: Path | None) -> Job:
    """Return the job of a profile, or the default job without a profile.

    Raises:
        ValueError: The file is not TOML, or a field is unknown or has a wrong value.
        OSError: The file cannot be read.
    """
    if path is None:
        return Job()
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--profile: expected a TOML file, got {path} ({error})") from None
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Job)}
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, n=1)
            hint = f"perhaps you meant {near[0]}" if near else f"known fields: {', '.join(kinds)}"
            raise ValueError(f"--profile: {path} has an unknown field {name}; {hint}")
        values[name] = _converted(value, kinds[name], f"--profile: {path}: {name}")
    return Job(**values)


def _converted(value: object, kind: type, option: str) -> object:
    """Return a value of a TOML file as a value of Job: a list of strings becomes a tuple.

    Raises ValueError for a value that is not of this kind.
    """
    converted = tuple(value) if isinstance(value, list) and all(isinstance(line, str) for line in value) else value
    expect(type(converted) is kind, option, KINDS[kind], repr(value))
    return converted


def _option(name: str) -> str:
    """Return the option of a field of Job as the user types it."""
    return f"--job.{name.replace('_', '-')}"
