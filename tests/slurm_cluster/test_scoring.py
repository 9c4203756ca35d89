"""`python -m ict_ref.evaluate --slurm` and `python -m ict_ref.search --slurm` on a real SLURM."""

import contextlib
import io
import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.slurm_cluster.cluster import Cluster
from tests.slurm_cluster.test_sampling import JOB
from tests.support.files import contents
from tests.support.runs import short_run, unchecked

from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.search.__main__ import main as search
from ict_ref.search.scored import Scored

REFERENCE = ["--reference", "digits:held-out"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with checkpoints of three steps."""
    return short_run(tmp_path_factory.mktemp("scoring") / "run")


def done(main: Callable[[list[str]], int], *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, in this process: what it starts are jobs."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), unchecked():
        status = main(list(options))
    return subprocess.CompletedProcess(options, status, out.getvalue(), err.getvalue())


def test_two_nodes_find_the_scores_of_this_machine(slurm: Cluster, run: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    command = [str(run), *REFERENCE, "--count", "200", "--features", "digits"]
    assert done(evaluate, *command, "--json", str(here)).returncode == 0
    job = done(evaluate, *command, "--json", str(there), *JOB, "--wait")
    assert job.returncode == 0, job.stdout + job.stderr
    assert re.search(r"^job \d+ submitted: 2 nodes, 2 processes\njob folder +/.*/there.json.job\n", job.stdout)
    assert there.read_bytes() == here.read_bytes()


def test_every_milestone_and_a_search_on_two_nodes_are_those_of_this_machine(
    slurm: Cluster, run: Path, tmp_path: Path
) -> None:
    curve = [str(run), *REFERENCE, "--count", "70", "--every-milestone"]
    levels = [str(run), *REFERENCE, "--count", "70", "--nodes", "4"]
    for name, more in (("here", []), ("there", [*JOB, "--wait"])):
        for one in (
            done(evaluate, *curve, "--json", str(tmp_path / f"{name}.json"), *more),
            done(search, *levels, "--out", str(tmp_path / name), *more),
        ):
            assert one.returncode == 0, one.stdout + one.stderr
    assert (tmp_path / "here.json").read_bytes() == (tmp_path / "there.json").read_bytes()
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_a_search_that_slurm_stops_resumes_and_scores_no_level_twice(slurm: Cluster, run: Path, tmp_path: Path) -> None:
    """`scontrol requeue` sends SIGTERM: the job ends at the next images, starts again and keeps its scores."""
    folder = tmp_path / "found"
    command = [str(run), *REFERENCE, "--count", "6000", "--nodes", "40", "--out", str(folder), *JOB]
    submitted = done(search, *command)
    assert submitted.returncode == 0, submitted.stderr
    (job,) = re.findall(r"^job (\d+) submitted", submitted.stdout)
    until = time.monotonic() + 200
    while Scored(folder).count() < 2 and time.monotonic() < until:
        time.sleep(0.05)
    first = (folder / "scores.csv").read_text().splitlines()[:3]
    subprocess.run(["scontrol", "requeue", job], check=True)  # noqa: S607
    slurm.start_now(job)
    until = time.monotonic() + 200
    while "found" not in json.loads((folder / "search.json").read_text()):
        assert time.monotonic() < until, slurm.job_state(job)
        time.sleep(0.2)
    rows = (folder / "scores.csv").read_text().splitlines()
    assert rows[:3] == first
    assert len({row.split(",")[0] for row in rows}) == len(rows)
    log = (tmp_path / "found.job" / "slurm" / job / f"{job}_0_log.out").read_text()
    assert "stopped; the job resumes when SLURM starts it again" in log


def test_what_the_job_would_refuse_is_refused_before_it_is_queued(slurm: Cluster, run: Path, tmp_path: Path) -> None:
    for main, options, says in (
        (search, ["--labels", "12", "--out", str(tmp_path / "a")], "--labels: expected classes from 0 to 9, got 12"),
        (evaluate, ["--json", str(tmp_path / "a.json"), "--features", "x.pt"], "--features: expected pixels, digits"),
        (evaluate, ["--json", str(tmp_path / "a.json"), "--job.partition", "nope"], "--job.partition: expected one of"),
    ):
        one = done(main, str(run), *REFERENCE, "--count", "9", *JOB, *options)
        assert one.returncode == 2, one.stdout
        (line,) = one.stderr.splitlines()
        assert says in line
    assert list(tmp_path.iterdir()) == []
