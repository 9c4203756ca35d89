"""`evaluate --slurm` and `search --slurm` as far as they can be tested without a SLURM: dry runs and rejections.

tests/slurm_cluster has the jobs.
"""

import dataclasses
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.one_line import rejection
from tests.support.runs import short_run

from ict_ref.evaluate import measured, submit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.evaluate.options import EvaluateOptions
from ict_ref.sample.job import on_gpus_of_job
from ict_ref.search.__main__ import main as search

Main = Callable[[list[str]], int]
REFERENCE = ["--reference", "digits:held-out", "--count", "9"]
JOB = ["--slurm", "--job.nodes", "3", "--job.gpus-per-node", "2", "--job.minutes", "50", "--job.partition", "gpu"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run."""
    return short_run(tmp_path_factory.mktemp("submit") / "run")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, on a machine without SLURM."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("ICT_REF_PROFILE", "none")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "options", "folder"),
    [
        (evaluate, ["--json", "new/scores.json"], "new/scores.json.job"),
        (evaluate, ["--save-stats", "stats.npz"], "stats.npz.job"),
        (evaluate, ["--every-milestone"], "RUN/curve.json.job"),
        (evaluate, ["--every-milestone", "--json", "c.json"], "c.json.job"),
        (search, ["--out", "found"], "found.job"),
        (search, [], "run-search.job"),
    ],
)
def test_a_dry_run_prints_the_sbatch_file_and_writes_nothing(
    command: Main, options: list[str], folder: str, run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.rglob("*"))
    assert command([str(run), *REFERENCE, *JOB, "--dry-run", *options]) == 0
    out, err = capsys.readouterr()
    place = str(here / folder).replace(str(here / "RUN"), str(run))
    for line in ("nodes=3", "gpus-per-node=2", "ntasks-per-node=2", "time=50", "partition=gpu", "requeue"):
        assert f"#SBATCH --{line}\n" in out
    assert re.search(rf"^#SBATCH --output={re.escape(place)}/slurm/%j/", out, re.MULTILINE)
    assert "\nnot ready: --slurm: expected sbatch and srun on this machine" in out
    assert err == ""
    assert list(here.iterdir()) == []
    assert sorted(run.rglob("*")) == before


def test_the_job_is_that_of_the_cluster_file_and_of_the_options(
    run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "mine.toml").write_text('[job]\nnodes = 5\npartition = "a"\ngpus_per_node = 8\n[machine]\ncompile = true\n')
    words = [str(run), *REFERENCE, "--slurm", "--profile", "mine.toml", "--job.nodes", "2", "--dry-run"]
    assert search(words) == 0
    out = capsys.readouterr().out
    for line in ("nodes=2", "partition=a", "gpus-per-node=8"):
        assert f"#SBATCH --{line}\n" in out
    # A job on CPUs takes no GPUs of the file.
    assert search([*words, "--device", "cpu"]) == 0
    assert "gpus-per-node" not in capsys.readouterr().out


def test_a_job_with_gpus_must_not_score_on_cpus() -> None:
    options = EvaluateOptions(reference="r", samples="s", slurm=True)
    for gpus, device, expected in ((0, "auto", "auto"), (8, "auto", "cuda"), (8, "cpu", "cpu")):
        job = dataclasses.replace(options.job, gpus_per_node=gpus)
        given = dataclasses.replace(options, job=job, device=device)  # type: ignore[arg-type]
        assert on_gpus_of_job(given).device == expected


@pytest.mark.parametrize(
    ("command", "options", "complaint"),
    [
        (evaluate, ["--slurm"], "--slurm: expected --json, the file for the scores of the job, got nothing. Give"),
        (evaluate, ["--wait"], "--wait: expected --slurm too, got --wait alone"),
        (evaluate, ["--dry-run"], "--dry-run: expected --slurm too"),
        (search, ["--profile", "none"], "--profile: expected --slurm too"),
        (search, ["--job.nodes", "2"], "--job.nodes: expected --slurm too"),
        (search, ["--slurm", "--processes", "2"], "--processes: expected 0 with --slurm, got 2"),
        (search, ["--slurm", "--job.nodes", "0"], "--job.nodes: expected an integer >= 1, got 0"),
        (search, ["--slurm", "--before", "0.1", "2"], "expected"),
        (search, ["--slurm", "--labels", "12"], "--labels: expected classes from 0 to 9, got 12"),
        (evaluate, ["--slurm", "--json", "a.json", "--labels", "12"], "--labels: expected classes from 0 to 9, got 12"),
        (
            evaluate,
            ["--slurm", "--every-milestone", "--labels", "12"],
            "--labels: expected classes from 0 to 9, got 12",
        ),
        (evaluate, ["--slurm", "--every-milestone", "--sigmas", "1", "80"], "expected sigmas that descend and stay"),
        (evaluate, ["--slurm", "--json", "a.json", "--features", "x.pt"], "--features: expected pixels, digits, "),
        (evaluate, ["--slurm", "--json", "a%.json", "--dry-run"], ""),
        (evaluate, ["--slurm", "--json", "a.json"], "--slurm: expected sbatch and srun on this machine"),
        (search, ["--slurm"], "--slurm: expected sbatch and srun on this machine"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_queued(
    command: Main, options: list[str], complaint: str, run: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = command([str(run), *REFERENCE, *options])
    if complaint:
        assert status == 2
        assert complaint in rejection(capsys, f"ict_ref.{'evaluate' if command is evaluate else 'search'}")
    else:
        assert status == 0
        assert "not ready: --json: expected a path without %, which SLURM replaces" in capsys.readouterr().out
    assert list(here.iterdir()) == []


def test_a_job_of_one_score_ends_at_its_time_limit_and_one_of_many_resumes(
    run: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = EvaluateOptions(reference="digits:held-out", samples=str(run), json=here / "a.json", count=9)
    many = EvaluateOptions(reference="digits:held-out", samples=str(run), every_milestone=True, count=9)
    load = measured._shard
    number = signal.SIGUSR2

    calls = list[str]()

    def limit(*arguments: object) -> object:
        calls.append("shard")
        if len(calls) == 1:  # a second signal would end the command at once
            signal.raise_signal(number)
        return load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(measured, "_shard", limit)
    assert submit.execute(one) == 1
    assert "--job.minutes: expected enough for the scores, got 60 minutes" in capsys.readouterr().err
    assert len(calls) == 1
    calls.clear()
    assert submit.execute(many) == 128 + number
    calls.clear()
    number = signal.SIGTERM
    assert submit.execute(one) == 128 + number
    assert list(here.iterdir()) == []
