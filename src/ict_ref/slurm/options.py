"""Options of SLURM jobs."""

from dataclasses import dataclass, field
from typing import Annotated, NoReturn

from ict_ref.utils.command_line import MOST_PROCESSES, expect, expect_count
from ict_ref.utils.option_parser import Flag, metavar

_WITH_FIELD = {
    "nodes": "N nodes",
    "processes_per_node": "n ntasks ntasks-per-node tasks-per-node",
    "gpus_per_node": "gpus-per-node",
    "cpus_per_process": "c cpus-per-task",
    "memory_gb": "mem",
    "minutes": "t time",
    "signal_seconds": "signal",
    "partition": "p partition",
    "account": "A account",
    "qos": "q qos",
    "constraint": "C constraint",
}
_OF_THE_LAUNCHER = (
    "o output e error open-mode requeue no-requeue a array D chdir wrap parsable test-only W wait Q quiet h help usage "
    "V version i input"
)
OWN = {name: f"Use --job.{field.replace('_', '-')}." for field, names in _WITH_FIELD.items() for name in names.split()}
OWN |= dict.fromkeys(_OF_THE_LAUNCHER.split(), "The launcher depends on its own value.")
"""Options of sbatch that --job.sbatch cannot have, and the advice of the message."""

MOST_OF_JOB = 1_000_000
"""Largest number of nodes, processes, minutes and the like of a job."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """The resources of a SLURM job (--slurm). These options do not change the result of a run. The presets of the
    paper's runs have their own defaults.
    """

    nodes: int = 1
    """Number of nodes."""
    processes_per_node: int = 0
    """Processes on each node; 0: one per GPU, or one without GPUs."""
    gpus_per_node: int = 0
    """GPUs on each node."""
    gpu_type: str = ""
    """Type of GPU as named by the cluster, such as a100. Ignored without GPUs."""
    gpu_memory_gb: int = 0
    """Memory of each GPU in GB, by which a submission is checked; 0: that of the GPU type, if it is known."""
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
            expect_count(getattr(self, name), job_option(name), 1, MOST_OF_JOB)
        for name in ("processes_per_node", "gpus_per_node", "gpu_memory_gb", "memory_gb"):
            expect_count(getattr(self, name), job_option(name), 0, MOST_OF_JOB)
        limit = 60 * self.minutes
        expected = f"fewer than the {limit} seconds of --job.minutes"
        expect(self.signal_seconds < limit, "--job.signal-seconds", expected, self.signal_seconds)
        for name in ("gpu_type", "partition", "account", "qos", "constraint"):
            value = getattr(self, name)
            # sbatch replaces % in some options, and a line break would begin a line of its own in the file.
            fits = value.isprintable() and "%" not in value
            expect(fits, job_option(name), "printable characters other than %", repr(value))
        for option in self.sbatch:
            name = option.lstrip("-").split("=")[0].replace("_", "-")
            expect(bool(name) and option.isprintable(), "--job.sbatch", "options such as name=value", repr(option))
            expect(name not in OWN, "--job.sbatch", "options that the launcher does not set", name, OWN.get(name, ""))

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
    profile: Annotated[str | None, metavar("NAME|FILE")] = None
    """Cluster file: TOML with folders of data and options of job, machine, record and train, which the options here
    override. NAME: a100, cpu or NAME.toml in ~/.config/ict_ref; none: no cluster file. Default: $ICT_REF_PROFILE, else
    ~/.config/ict_ref/cluster.toml."""
    wait: Flag = False
    """Follow the job to its end and return its status (--slurm)."""
    dry_run: Flag = False
    """Print what would be done, the sbatch file (--slurm), and what is not ready; write and submit nothing."""
    job: Job = field(default_factory=Job)

    def refuse_contradictions(self, *of_jobs: str) -> None:
        """Reject a negative number of processes, and contradictions between --slurm and the other options.

        `of_jobs` names further fields that need --slurm. `job_of` checks the options of the job.

        Raises:
            ValueError: An option contradicts another.
        """
        expect_count(self.processes, "--processes", 0, MOST_PROCESSES)
        if self.slurm and self.processes:
            raise ValueError(
                f"--processes: expected 0 with --slurm, got {self.processes}. "
                "Use --job.nodes and --job.gpus-per-node instead."
            )
        for name in ("wait", *of_jobs):
            if not self.slurm and getattr(self, name) not in (False, None):
                refuse_without_slurm(f"--{name.replace('_', '-')}")


def refuse_without_slurm(option: str) -> NoReturn:
    """Reject an option that needs --slurm.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"{option}: expected --slurm too, got {option} alone. Add --slurm.")


def job_option(name: str) -> str:
    """Return the option of a field of Job as the user types it."""
    return f"--job.{name.replace('_', '-')}"
