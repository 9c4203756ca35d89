"""Every stage of the measurements on a GPU, with small networks on a CPU, and the page that is written from them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.gpu import checkpoints, equality, kernels, masks, page, rates, rounding, speed
from benchmarks.gpu.__main__ import NAMES
from benchmarks.gpu.device import median_seconds
from benchmarks.gpu.networks import POLICIES, Case
from benchmarks.gpu.notes import Notes, Row, read_rows
from tests.support.one_line import rejection

from ict_ref.config import PRESETS
from ict_ref.plan.measured import measured_share

pytestmark = pytest.mark.usefixtures("unchecked")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    """Return notes in a new folder."""
    return Notes(tmp_path / "stage.json")


def rows(notes: Notes, what: str) -> list[Row]:
    """Return the rows of this kind."""
    return [row for row in read_rows(notes.file) if row["what"] == what]


def test_the_device_and_its_rates_are_noted(notes: Notes) -> None:
    rates.measure(notes, tiny=True)
    assert [row["precision"] for row in rows(notes, "product")] == ["float32", "tf32", "bfloat16", "float16"]
    assert all(0 < row["tflops"] < 100 for row in rows(notes, "product"))
    (machine,) = rows(notes, "machine")
    assert machine["tiny"]


def test_a_speed_is_consistent_with_its_time(notes: Notes) -> None:
    speed.measure_case(notes, Case("cifar10", "float32", 512), 0.5, tiny=True)
    (row,) = rows(notes, "speed")
    assert row["images_per_second"] == pytest.approx(row["batch"] / row["milliseconds"] * 1000, rel=1e-3)
    assert row["share"] == pytest.approx(row["tflops"] / 0.5, rel=1e-3)
    assert row["skipped"] == 0


def test_cases_have_the_presets_networks_and_begin_with_the_targets() -> None:
    found = speed.cases()
    assert len(found) == len(set(found)) == 4 * 2 * (3 + 2)
    assert found[:2] == [
        Case("cifar10", "float16", 512, compiled=True),
        Case("imagenet64", "float16", 128, compiled=True),
    ]
    for case in found:
        config = case.config(tiny=False)
        assert config.train.noise_shards == PRESETS[case.preset]().train.noise_shards == 64
        assert config.network == PRESETS[case.preset]().network
        assert (config.train.batch_size, config.train.precision) == (case.batch, case.precision)


def test_masks_are_timed_for_both_presets(notes: Notes) -> None:
    masks.measure(notes, tiny=True)
    assert [row["preset"] for row in rows(notes, "masks")] == ["cifar10", "imagenet64"]
    assert all(row["milliseconds"] > 0 for row in rows(notes, "masks"))


def test_a_cpu_equals_itself(notes: Notes) -> None:
    equality.measure(notes, tiny=True)
    assert [(row["precision"], row["loss"], row["parameter"]) for row in rows(notes, "updates")] == [
        ("float64", 0.0, 0.0),
        ("float32", 0.0, 0.0),
    ]
    assert rows(notes, "pixels") == [{"what": "pixels", "differing": 0}]


def test_the_top_kernels_are_sorted_by_their_time(notes: Notes) -> None:
    kernels.measure(notes, tiny=True)
    shares = [row["share"] for row in rows(notes, "kernel")]
    assert shares == sorted(shares, reverse=True)
    assert 0.3 < sum(shares) <= 1
    (row,) = rows(notes, "kernels")
    assert row["launches"] > 100


def test_a_checkpoint_is_copied_and_then_written(notes: Notes) -> None:
    checkpoints.measure(notes, tiny=True)
    assert [row["preset"] for row in rows(notes, "checkpoint")] == ["cifar10", "imagenet64"]
    assert all(0 < row["copy_s"] <= row["write_s"] for row in rows(notes, "checkpoint"))


def test_rounding_grows_with_fewer_bits(notes: Notes) -> None:
    rounding.measure(notes, tiny=True)
    found = rows(notes, "rounding")
    assert len(found) == 5
    worst = [max(row[policy] for row in found) for policy in ("float32", "float16", "bfloat16")]
    assert worst == sorted(worst)


def test_a_median_is_of_the_calls_after_the_first_two() -> None:
    calls = list[int]()
    assert 0 <= median_seconds(lambda: calls.append(1), budget_s=0.0, least=7) < 0.1
    assert len(calls) == 9


@pytest.mark.slow
def test_the_script_runs_every_stage_on_a_cpu(tmp_path: Path) -> None:
    command = ["bash", str(ROOT / "benchmarks" / "gpu_check.sh"), "--tiny", "--limit", "2000", "--out", "found"]
    environment = {**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "found" / "gpu.json").read_text())
    assert {name: stage["status"] for name, stage in found["stages"].items()} == dict.fromkeys(NAMES, "done")
    assert done.returncode == 0, done.stdout + done.stderr
    assert found["tiny"]
    assert all(stage["rows"] for stage in found["stages"].values())
    assert found["gpu"][0]["preset"] == "cifar10"


def test_the_page_is_that_of_the_committed_measurements() -> None:
    assert page.PAGE.read_text("utf-8") == page.page(page.committed())


def test_a_page_without_measurements_has_no_number_of_one() -> None:
    text = page.page(page.Measured({}))
    assert "Nothing on this page is measured yet." in text
    for line in text.splitlines():
        if line.startswith("| `") and "launcher" not in line:
            assert page.NOT_MEASURED in line


def measured(folder: Path, *, tiny: bool = False) -> Path:
    """Write a file of measurements and return its path."""
    case = {"preset": "cifar10", "precision": "float16", "compiled": True, "batch": 512}
    speeds = [{"what": "speed", **case, "milliseconds": 400.0, "tflops": 395.8, "share": 0.5051}]
    machine = {"what": "machine", "gpu": "NVIDIA H100 80GB HBM3", "date": "2026-12-24"}
    failed = {"preset": "imagenet64", "precision": "float16", "compiled": True, "batch": 128}
    stages: dict[str, list[Row]] = {
        "device": [machine],
        "speed": [*speeds, {"what": "speed", **failed, "failed": "OutOfMemoryError: CUDA"}],
        "masks": [{"what": "masks", "preset": "cifar10", "batch": 512, "milliseconds": 8.0}],
        "tests": [{"what": "test", "test": "test_a", "outcome": "failed"}, {"what": "test", "outcome": "passed"}],
        "rounding": [{"what": "rounding", "preset": "cifar10", **dict.fromkeys(POLICIES, k)} for k in (0.5, 1.5)],
    }
    content: dict[str, Any] = {"format": 1, "tiny": tiny, "machine": machine, "gpu": speeds}
    content["stages"] = {name: {"status": "done", "seconds": 3.0, "rows": found} for name, found in stages.items()}
    path = folder / "gpu.json"
    path.write_text(json.dumps(content))
    return path


def test_the_page_has_what_was_measured(tmp_path: Path) -> None:
    text = page.page(page.read(measured(tmp_path)))
    assert "**Measured on NVIDIA H100 80GB HBM3, 2026-12-24.**" in text
    for line in (
        "| `cifar10` | float16 | compiled | 512 | not measured | 400 | 396 | 0.505 | not measured |",
        "| `imagenet64` | float16 | compiled | 128 | out of memory |  |  |  |  |",
        "| `cifar10` | 512 | 8 | 0.02 | missed with 0.02 |",
        "| `cifar10` | 1.5 | 1.5 | 1.5 | 1.5 |",
        "- Target: a share of 0.5 for `cifar10`, compiled, float16, batch 512: met with 0.505.",
        "- Target: a share of 0.5 for `imagenet64`, compiled, float16, batch 128: not measured.",
        "- failed: `test_a`",
        "| masks | done | 3 |",
        "| compile | not measured | not measured |",
    ):
        assert line in text.splitlines()
    assert "1 passed, 1 failed, 0 skipped" in text


def test_a_plan_reads_the_measured_share(tmp_path: Path) -> None:
    assert measured_share(measured(tmp_path), "ncsnpp", compiled=True) == pytest.approx(0.4, rel=1e-3)


def test_a_tiny_run_is_not_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = page.PAGE.read_bytes()
    assert page.main([str(measured(tmp_path, tiny=True))]) == 2
    assert "expected a measurement, got a run with --tiny" in rejection(capsys, "benchmarks.gpu.page")
    assert page.PAGE.read_bytes() == before
