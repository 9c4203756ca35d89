"""A real SLURM for the tests of this folder, skipped where SLURM is not installed: `pytest -m slurm`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.slurm_cluster.cluster import Accounting, Cluster, best_accounting, missing, scratch

HERE = Path(__file__).parent
INSTALL = "`python tests/slurm_cluster --help` says what to install"
# Partitions whose jobs give way to those of `urgent`: at once, or with time to save.
PREEMPTION = """\
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=patient Nodes=ALL PriorityTier=1 GraceTime=0 DefMemPerNode=1000 State=UP
PartitionName=graceful Nodes=ALL PriorityTier=1 GraceTime=10 DefMemPerNode=1000 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=9 DefMemPerNode=1000 State=UP"""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, before `-m` chooses."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="package")
def installed() -> Accounting:
    """Return the accounting that a cluster can have here. Without SLURM skip, or fail where it must be installed."""
    required = os.environ.get("ICT_REQUIRE_SLURM") == "1"
    accounting = "dbd" if required else best_accounting()
    if names := missing(accounting):
        message = f"no SLURM here: {', '.join(names)} not installed; {INSTALL}"
        if required:
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    return accounting


@pytest.fixture(scope="package")
def slurm(request: pytest.FixtureRequest, installed: Accounting) -> Iterator[Cluster]:
    """A cluster of three nodes with eight GPUs each, which SLURM's programs and submitit find by the environment.

    It lives as long as tests of this folder run: a whole session's would leave SLURM_CONF to tests that want none.
    Where a test fails its logs stay, until the next run.
    """
    scratch.sweep()
    cluster, failed = scratch.new(), request.session.testsfailed
    cluster.start(nodes=3, cpus=4, gpus=8, accounting=installed, owner=os.getpid(), extra=PREEMPTION)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.env().items():
            patch.setenv(name, value)
        try:
            yield cluster
        finally:
            left = cluster.stop(remove=request.session.testsfailed == failed)
    assert not left, f"processes {left} of the cluster outlive it; its logs are in {cluster.log}"
