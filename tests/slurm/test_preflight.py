"""Demands of a job that a cluster cannot meet, by the answers of sinfo."""

import math

import pytest

from ict_ref.slurm.options import Job
from ict_ref.slurm.preflight import NodeGroup, minutes, node_group, unfit

# A cluster as sinfo -h -e -o "%P|%D|%c|%m|%l|%f|%G" prints it.
CLUSTER = [
    "cpu*|40|64|256000|7-00:00:00|(null)|(null)",
    "gpu|4|64|512000|1-00:00:00|nvlink|gpu:a100:8(S:0-1)",
    "gpu|2|32|256000|1-00:00:00|(null)|gpu:v100:4,gpu:h100:2",
    "old|3|8|64000|30:00|(null)|gpu:2",
]
GROUPS = [group for line in CLUSTER if (group := node_group(line))]
A100 = Job(partition="gpu", nodes=4, gpus_per_node=8, gpu_type="a100", cpus_per_process=8, minutes=1440)


def found(**changes: object) -> list[str]:
    """Return the lines of a job for A100s with these changes."""
    return list(unfit(Job(**{**vars(A100), **changes}), GROUPS))


def test_a_line_of_sinfo_is_read() -> None:
    assert GROUPS[0] == NodeGroup("cpu", True, 40, 64, 256000, 10080.0, frozenset(["(null)"]), {})
    assert [group.gpus for group in GROUPS[1:]] == [{"a100": 8}, {"v100": 4, "h100": 2}, {"": 2}]
    assert [group.gpus_of("") for group in GROUPS] == [0, 8, 6, 2]
    assert node_group("nothing") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-02:03:00", 1563.0),
        ("12:00:00", 720.0),
        ("30:00", 30.0),
        ("0:30", 0.5),
        ("infinite", math.inf),
        ("n/a", math.inf),
    ],
)
def test_time_limits_are_read(text: str, expected: float) -> None:
    assert minutes(text) == expected


def test_a_job_that_fits_has_no_line() -> None:
    assert found() == []
    assert found(gpu_type="") == []
    assert found(partition="", nodes=40, gpus_per_node=0, gpu_type="", cpus_per_process=64) == []
    assert found(partition="cpu,gpu") == []
    assert list(unfit(A100, [])) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"partition": "gpus"}, "--job.partition: expected one of cpu, gpu, old, got gpus"),
        ({"partition": "gpu,gpus,x"}, "--job.partition: expected one of cpu, gpu, old, got gpus, x"),
        ({"partition": ""}, "--job.gpu-type: expected a type that a node in partition cpu has (none), got a100"),
        (
            {"gpu_type": "a10"},
            "--job.gpu-type: expected a type that a node in partition gpu has (8 a100, 2 h100, 4",
        ),
        ({"gpus_per_node": 9}, "--job.gpus-per-node: expected at most those of a node in partition gpu"),
        ({"gpu_type": "v100"}, "--job.gpus-per-node: expected at most those of a node in partition gpu"),
        ({"nodes": 5}, "--job.nodes: expected at most the 4 such nodes of partition gpu, got 5"),
        ({"minutes": 1441}, "--job.minutes: expected at most 1440 in partition gpu, got 1441"),
        (
            {"cpus_per_process": 9},
            "--job.cpus-per-process: expected at most 64 cores on a node in partition gpu",
        ),
        ({"memory_gb": 501}, "--job.memory-gb: expected at most 500 on a node in partition gpu, got 501"),
    ],
)
def test_a_demand_that_no_node_meets_is_one_line(changes: dict[str, object], says: str) -> None:
    (line,) = found(**changes)
    assert says in line


def test_every_demand_has_its_line() -> None:
    assert [line.split(":")[0] for line in found(nodes=9, minutes=9999, cpus_per_process=99)] == [
        "--job.minutes", "--job.cpus-per-process", "--job.nodes",
    ]  # fmt: skip
