"""Checks of a job before it is submitted: programs, partitions, nodes, GPUs and time limits of the cluster."""

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ict_ref.slurm.options import Job, job_option
from ict_ref.utils.nearest import hint

# Columns of sinfo: partition (a star marks the default), nodes, cores, memory in MB, time limit, features, GRES.
COLUMNS = "%P|%D|%c|%m|%l|%f|%G"


@dataclass(frozen=True)
class NodeGroup:
    """Nodes of a partition that are alike."""

    partition: str
    is_default: bool
    nodes: int
    cores: int
    memory_mb: int
    minutes: float
    """Longest job; infinity without a limit."""
    features: frozenset[str]
    gpus: dict[str, int]
    """Number of GPUs on a node by type; the type is "" where the cluster names none."""

    def gpus_of(self, kind: str) -> int:
        """Return the number of GPUs of a type on a node, of all types for ""."""
        return sum(count for name, count in self.gpus.items() if kind in ("", name))


def problems(job: Job) -> Iterator[str]:
    """Yield a line for each reason why this cluster cannot run the job, as far as SLURM answers."""
    missing = [command for command in ("sbatch", "srun") if shutil.which(command) is None]
    if missing:
        yield (
            f"--slurm: expected sbatch and srun on this machine, got no {' or '.join(missing)}. "
            "Submit on a machine of the cluster, or leave out --slurm."
        )
    try:
        groups = node_groups()
    except ValueError as error:
        yield str(error)
    else:
        yield from unfit(job, groups)


def unfit_folder(folder: Path, got: Path, option: str = "--out") -> Iterator[str]:
    """Yield a line if the name of the job's folder cannot be in a file for sbatch; `got` is the value of `option`."""
    if "%" in str(folder):
        yield f"{option}: expected a path without %, which SLURM replaces, got {got}"
    if not str(folder).isprintable():
        yield f"{option}: expected a path of printable characters, got {str(got)!r}. Choose another {option}."


def gpu_type(job: Job) -> str:
    """Return the type of the job's GPUs: that of the job, or the only one of its partition; "" if it is unknown."""
    if job.gpu_type or not job.gpus_per_node:
        return job.gpu_type
    try:
        groups = node_groups()
    except ValueError:  # `problems` has a line for it
        return ""
    kinds = {kind for group in of_partition(job, groups)[0] for kind in group.gpus}
    return kinds.pop() if len(kinds) == 1 else ""


def of_partition(job: Job, groups: list[NodeGroup]) -> tuple[list[NodeGroup], list[str]]:
    """Return the nodes that the job may take, and the names of its partitions."""
    names = job.partition.split(",") if job.partition else [group.partition for group in groups if group.is_default]
    return [group for group in groups if group.partition in names], names


def unfit(job: Job, groups: list[NodeGroup]) -> Iterator[str]:
    """Yield a line for each demand of the job that no nodes of its partition meet; none if nodes are unknown."""
    mine, names = of_partition(job, groups)
    where = f"partition {','.join(names)}"
    with_gpus = [group for group in mine if group.gpus_of(job.gpu_type) >= job.gpus_per_node]
    there = sorted({group.partition for group in groups})
    if unknown := [name for name in names if groups and name not in there]:
        yield f"--job.partition: expected one of {', '.join(there)}, got {', '.join(unknown)}{hint(unknown[0], there)}"
    yield from _too_much(_largest(mine, "minutes"), job, where)
    yield from _too_much(_largest(with_gpus, "cores", "memory_gb", "nodes"), job, where)
    if mine and not with_gpus:
        yield _without_gpus(job, mine, where)


def _largest(groups: Sequence[NodeGroup], *names: str) -> dict[str, int | float]:
    """Return the largest numbers of these names that a job may have on the nodes; none without nodes."""
    found = {
        "minutes": max((group.minutes for group in groups), default=0),
        "cores": max((group.cores for group in groups), default=0),
        "memory_gb": max((group.memory_mb for group in groups), default=0) // 1024,
        "nodes": sum(group.nodes for group in groups),
    }
    return {name: found[name] for name in names if groups}


def _too_much(most: Mapping[str, int | float], job: Job, where: str) -> Iterator[str]:
    """Yield a line for each number of the job that is larger than the largest one of its partition."""
    for name, largest in most.items():
        if name == "cores":
            cores, each = job.tasks * job.cpus_per_process, job.cpus_per_process
            option, wanted, got = job_option("cpus_per_process"), cores, f"{each} for each of {job.tasks} processes"
        else:
            option, wanted, got = job_option(name), getattr(job, name), str(getattr(job, name))
        if wanted > largest:
            yield f"{option}: expected at most {EXPECTED[name].format(largest)} {where}, got {got}"


EXPECTED = {
    "minutes": "{:.0f} in",
    "cores": "{} cores on a node in",
    "memory_gb": "{} on a node in",
    "nodes": "the {} such nodes of",
}


def _without_gpus(job: Job, groups: list[NodeGroup], where: str) -> str:
    """Return the line of a job whose GPUs no node has."""
    kinds = {kind: count for group in groups for kind, count in sorted(group.gpus.items())}
    have = ", ".join(f"{count} {kind}".strip() for kind, count in kinds.items()) or "none"
    if job.gpu_type and job.gpu_type not in kinds:
        return f"--job.gpu-type: expected a type that a node in {where} has ({have}), got {job.gpu_type}"
    return f"--job.gpus-per-node: expected at most those of a node in {where} ({have}), got {job.gpus_per_node}"


def node_groups() -> list[NodeGroup]:
    """Return the nodes of the cluster; an empty list on a machine without sinfo.

    Raises:
        ValueError: SLURM's controller does not answer.
    """
    if shutil.which("sinfo") is None:
        return []
    command = ["sinfo", "-h", "-e", "-o", COLUMNS]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own command)
    if asked.returncode:
        said = "; ".join(asked.stderr.splitlines()) or f"exit status {asked.returncode}"
        raise ValueError(f"--slurm: expected an answer of SLURM's controller to sinfo, got {said}. Check SLURM_CONF.")
    return [group for line in asked.stdout.splitlines() if (group := node_group(line)) is not None]


def node_group(line: str) -> NodeGroup | None:
    """Return the nodes of a line of sinfo, None for a line in another form.

    >>> group = node_group("gpu*|4|64|512000|1-00:00:00|nvlink|gpu:a100:8(S:0-1)")
    >>> group.partition, group.is_default, group.minutes, group.gpus
    ('gpu', True, 1440.0, {'a100': 8})
    """
    cells = line.strip().split("|")
    if len(cells) != COLUMNS.count("|") + 1:
        return None
    name, *numbers, limit, features, gres = cells
    nodes, cores, memory = (int(re.sub(r"\D", "", number) or 0) for number in numbers)
    gpus: dict[str, int] = {}
    for kind, count in re.findall(r"gpu(?::([^:(,]*[^:(,\d][^:(,]*))?:(\d+)", gres):
        gpus[kind] = gpus.get(kind, 0) + int(count)
    return NodeGroup(
        name.rstrip("*"), name.endswith("*"), nodes, cores, memory, minutes(limit), frozenset(features.split(",")), gpus
    )


def minutes(limit: str) -> float:
    """Return a time limit of SLURM in minutes.

    >>> minutes("2-12:00:00"), minutes("45:30"), minutes("infinite")
    (3600.0, 45.5, inf)
    """
    days, dash, rest = limit.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()):
        return float("inf")
    hours, whole, seconds = ([0, 0] + [int(part) for part in parts])[-3:]
    return 1440.0 * int(days or 0) + 60 * hours + whole + seconds / 60
