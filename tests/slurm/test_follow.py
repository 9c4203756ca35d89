"""The progress of a followed job, without a SLURM; tests/slurm_cluster follows jobs of a real one."""

import json
import re
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ict_ref.launch.options import parse
from ict_ref.launch.submit import as_slurm_task
from ict_ref.slurm.follow import job_bar, show
from ict_ref.slurm.worker import SlurmTask

NEWER = {"share_of_peak": 0.38, "peak_memory_bytes": 61_000_000_000, "skipped_steps": 0}


def task(folder: Path) -> SlurmTask:
    """Return a run of 400 steps as a SLURM task."""
    return as_slurm_task(parse(["--config", "minimal", "--train.steps", "400", "--out", str(folder)]))


def reach(folder: Path, step: int, **values: float) -> None:
    """Write a line of metrics, by default one of an earlier version."""
    line = {"step": step, "levels": 11, "loss": 0.5, "gradient_norm": 1.0, "images_per_second": 1830.2, **values}
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps(line) + "\n")


def after(seconds: float, shown: "tqdm[Any]", state: str, work: SlurmTask) -> str:
    """Return what a wide terminal shows this many seconds later."""
    shown.start_t -= seconds
    shown.last_print_t -= seconds
    shown.ncols = 200
    show(shown, state, work)
    return str(shown)


def seconds_left(line: str) -> int:
    """Return the remaining time that a line shows."""
    found = re.search(r"(\d+):(\d+) left", line)
    assert found is not None, line
    return 60 * int(found[1]) + int(found[2])


def test_a_job_shows_the_last_line_of_its_metrics(tmp_path: Path) -> None:
    work = task(tmp_path)
    with job_bar("19233022", work) as shown:
        assert after(5, shown, "PENDING (Priority)", work).endswith("| ? left, PENDING (Priority)")
        reach(tmp_path, 100, **NEWER)
        with (tmp_path / "metrics.jsonl").open("a") as metrics:
            metrics.write('{"step": 101, "lev')  # still being written
        line = after(10, shown, "RUNNING", work)
    assert line.startswith("job 19233022 100/400 steps |")
    assert line.endswith(" left, RUNNING, N 11, loss 0.5, 1830 images/s, 38 % of peak, 61 GB")


def test_the_remaining_time_counts_the_steps_of_the_running_job_only(tmp_path: Path) -> None:
    # An earlier job made 300 steps. This one waits 500 s, then makes a step every 2 s.
    work = task(tmp_path)
    reach(tmp_path, 300)
    with job_bar("7", work) as shown:
        assert "300/400 steps" in after(0, shown, "PENDING (Priority)", work)
        after(500, shown, "PENDING (Priority)", work)
        assert "? left" in after(2, shown, "RUNNING", work)
        reach(tmp_path, 320)
        assert 160 <= seconds_left(after(38, shown, "RUNNING", work)) < 180
        assert 160 <= seconds_left(after(0, shown, "UNKNOWN", work)) < 180
        reach(tmp_path, 360)
        assert 80 <= seconds_left(after(80, shown, "RUNNING", work)) < 90


def test_a_restarted_job_is_measured_from_its_checkpoint(tmp_path: Path) -> None:
    work = task(tmp_path)
    reach(tmp_path, 180)
    with job_bar("7", work) as shown:
        reach(tmp_path, 200)
        assert 400 <= seconds_left(after(40, shown, "RUNNING", work)) < 410
        (tmp_path / "metrics.jsonl").unlink()
        reach(tmp_path, 150)
        assert "150/400 steps" in after(1000, shown, "RUNNING", work)
        reach(tmp_path, 160)
        assert 240 <= seconds_left(after(10, shown, "RUNNING", work)) < 260
        reach(tmp_path, 400)
        assert "400/400 steps" in after(10, shown, "ended", work)
        assert seconds_left(str(shown)) == 0
