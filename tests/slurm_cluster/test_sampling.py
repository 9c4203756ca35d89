"""`python -m ict_ref.sample --slurm` on a real SLURM."""

import contextlib
import io
import re
import subprocess
from pathlib import Path

import pytest
from tests.slurm_cluster.cluster import Cluster
from tests.support.runs import short_run, unchecked

from ict_ref.sample.__main__ import main

JOB = [
    "--slurm", "--job.nodes", "2", "--job.memory-gb", "1", "--job.minutes", "10", "--job.signal-seconds", "60",
    "--job.setup", "export OMP_NUM_THREADS=1 GLOO_SOCKET_IFNAME=lo",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run."""
    return short_run(tmp_path_factory.mktemp("sampling") / "run")


def sample(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in this process: what it starts are jobs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), unchecked():
        status = main(options)
    return subprocess.CompletedProcess(options, status, out.getvalue(), err.getvalue())


def test_two_nodes_make_what_this_machine_makes(slurm: Cluster, run: Path, tmp_path: Path) -> None:
    here, there = (["--count", "2000", "--out", str(tmp_path / name)] for name in ("here.npz", "there.npz"))
    assert sample(str(run), *here).returncode == 0
    done = sample(str(run), *there, *JOB, "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^job \d+ submitted: 2 nodes, 2 processes\njob folder +/.*/there.npz.job\n", done.stdout)
    assert (tmp_path / "there.npz").read_bytes() == (tmp_path / "here.npz").read_bytes()
    assert not (tmp_path / "there.npz.parts").exists()


def test_what_the_job_would_refuse_is_refused_before_it_is_queued(slurm: Cluster, run: Path, tmp_path: Path) -> None:
    for options, says in {
        ("--sigmas", "80", "90"): "expected sigmas that descend",
        ("--labels", "12"): "--labels: expected classes from 0 to 9, got 12",
        ("--job.partition", "nope"): "--job.partition: expected one of graceful, main, patient, urgent, got nope",
    }.items():
        done = sample(str(run), "--out", str(tmp_path / "a.npz"), *JOB, *options)
        assert done.returncode == 2, done.stdout
        (line,) = done.stderr.splitlines()
        assert line.startswith("ict_ref.sample: ")
        assert says in line
    assert list(tmp_path.iterdir()) == []
