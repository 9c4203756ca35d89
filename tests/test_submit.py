import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import submitit

SCRIPT = Path(__file__).parents[1] / "slurm" / "submit.py"


def submit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script in this folder."""
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


def test_a_submitted_run_trains_in_a_process_of_its_own_and_returns_its_status(tmp_path: Path) -> None:
    run = ["--config", "minimal", "--train.steps", "8", "--bars.accuracy", "0.99", "--out", "run"]
    done = submit(tmp_path, "--cluster", "local", "--wait", "--", *run)
    assert done.returncode == 1, done.stderr  # below its bar, as it must be
    assert "run folder run" in done.stdout
    assert len(json.loads((tmp_path / "run" / "scores.json").read_text())) == 5
    (log,) = (tmp_path / "logs").glob("*/*_log.out")
    assert "one-step samples fail" in log.read_text()


def test_a_time_limit_of_nothing_is_refused(tmp_path: Path) -> None:
    done = submit(tmp_path, "--cluster", "local", "--minutes", "0", "--", "--config", "minimal")
    assert done.returncode == 2
    assert "argument --minutes: invalid positive value: '0'" in done.stderr


def module() -> ModuleType:
    """Return the script as a module."""
    spec = importlib.util.spec_from_file_location("slurm_submit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_options_reach_the_batch_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # submitit's own SLURM executor, but for the call of sbatch, of which the batch file is kept.
    monkeypatch.chdir(tmp_path)
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\necho Submitted batch job 77\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    options = ["--partition", "gpu", "--account", "lab", "--minutes", "90", "--memory-gb", "7"]
    assert module().submit([*options, "--", "--config", "minimal", "--out", "run"]) == 0
    (batch,) = (tmp_path / "logs").rglob("*submission.sh")
    text = batch.read_text()
    for option in ("partition=gpu", "account=lab", "time=90", "mem=7GB", "requeue", "job-name=run"):
        assert f"#SBATCH --{option}" in text


def test_a_job_at_its_time_limit_submits_the_same_run_again() -> None:
    again = module().Run(["--config", "minimal"]).checkpoint()
    assert isinstance(again, submitit.helpers.DelayedSubmission)
    assert vars(again.function) == {"arguments": ["--config", "minimal"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "local", "--", "--config", "minmal"], "unknown preset minmal; perhaps you meant minimal"),
        (["--cluster", "local", "--", "--config", "minimal", "--train.batch-size", "0"], "train.batch_size needs"),
        (["--cluster", "local", "--", "--config", "minimal", "--method.rho", "0"], "needs rho > 0"),
        (["--cluster", "local", "--", "--config", "minimal", "--out", "/dev/null"], "/dev/null is a file"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = submit(tmp_path, *arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []
