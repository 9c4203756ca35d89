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


def test_a_submitted_run_trains_in_a_process_of_its_own_and_returns_its_status(tmp_path: Path) -> None:
    run = ["--config", "minimal", "--train.steps", "8", "--bars.accuracy", "0.99", "--out", "run"]
    command = [sys.executable, str(SCRIPT), "--cluster", "local", "--wait", "--", *run]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1, done.stderr  # below its bar, as it must be
    assert "run folder run" in done.stdout
    assert len(json.loads((tmp_path / "run" / "scores.json").read_text())) == 5
    (log,) = (tmp_path / "logs").glob("*/*_log.out")
    assert "one-step samples fail" in log.read_text()


def test_a_time_limit_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        module().submit(["--cluster", "local", "--minutes", "0", "--", "--config", "minimal"])
    assert stop.value.code == 2
    assert "argument --minutes: invalid positive value: '0'" in capsys.readouterr().err


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
        (["--cluster", "local", "--", "--config", "minimal", "--method.rho", "0"], "needs 0 < rho < infinity"),
        (["--cluster", "local", "--", "--config", "minimal", "--out", "/dev/null"], "/dev/null is a file"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert module().submit(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []
