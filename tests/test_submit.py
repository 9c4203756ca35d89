import json
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cluster", "local", "--", "--config", "minmal"], "unknown preset minmal; perhaps you meant minimal"),
        (["--cluster", "local", "--", "--config", "minimal", "--train.batch-size", "0"], "train.batch_size needs"),
        (["--cluster", "local", "--", "--config", "minimal", "--method.rho", "0"], "needs rho > 0"),
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
