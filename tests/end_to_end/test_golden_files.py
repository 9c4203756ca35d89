"""Golden files of each format, of preset minimal, are resumed, sampled, scored and searched for ever.

format_1 has the files of the last version before files had a format number. The expected values are those of version
0.1.0, whose run is the same; they are compared to 1e-5, since last bits depend on the processor.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.end_to_end.test_old_files import EXPECTED, FIXTURES, assert_like
from tests.support.runs import unchecked

from ict_ref.checkpoint.ema_weights import load_ema
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.run_dir import read_run
from ict_ref.checkpoint.training_state import load_checkpoint
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample.__main__ import main as sample
from ict_ref.search.__main__ import main as search

REFERENCE = ["--reference", "digits:held-out"]


@pytest.fixture(scope="module", params=["format_1", "format_2"])
def golden(request: pytest.FixtureRequest) -> Path:
    """Return the folder of a format."""
    return FIXTURES / str(request.param)


@pytest.fixture(scope="module")
def resumed(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run, resumed after step 20 and trained to its end."""
    run = tmp_path_factory.mktemp(golden.name) / "run"
    shutil.copytree(golden / "run", run)
    with unchecked():
        assert launch(["--config", "minimal", "--record.milestone-every", "20", "--out", str(run)]) == 0
    return run


def test_the_run_is_resumed_and_written_in_today_s_format(golden: Path, resumed: Path) -> None:
    checkpoint = load_checkpoint(resumed / "checkpoint-00000040.safetensors")
    assert_like(dict(checkpoint.tensors), EXPECTED["tensors"])
    assert checkpoint.config == read_run(golden / "run").identities[0] == read_run(resumed).identities[0]
    content = json.loads((resumed / "config.json").read_text())
    assert (content["format"], content["images"]["size"]) == (2, 8)
    steps = [json.loads(line)["step"] for line in (resumed / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))
    scores, expected = (json.loads((place / "scores.json").read_text()) for place in (resumed, golden))
    for score, known in zip(
        scores["scores"], expected if golden.name == "format_1" else expected["scores"], strict=True
    ):
        assert score["frechet_distance"] == pytest.approx(known["frechet_distance"], rel=1e-3)


def test_its_checkpoint_is_used_before_the_run_ends(golden: Path) -> None:
    weights = load_ema(golden / "run")
    assert weights.step == load_ema(golden / "run" / "checkpoint-00000020.safetensors").step == 20
    assert (weights.network.channels, weights.network.size, weights.network.classes) == (1, 8, 10)
    assert weights.network.class_names == tuple("0123456789")


def test_its_network_file_is_sampled(golden: Path, tmp_path: Path) -> None:
    assert_like(dict(load_exported(golden / "network.safetensors").state), EXPECTED["network"]["tensors"])
    out = tmp_path / "samples.npz"
    options = ["--count", "20", "--seed", "3", "--sigmas", "80", "0.821", "--out", str(out)]
    assert sample([str(golden / "network.safetensors"), *options]) == 0
    with np.load(out) as made, np.load(golden / "samples.npz") as expected:
        assert np.abs(made["arr_0"].astype(int) - expected["arr_0"]).max() <= 1
        assert np.array_equal(made["arr_1"], expected["arr_1"])
    assert evaluate([str(out), "--reference", str(golden / "statistics.npz"), "--json", str(tmp_path / "s.json")]) == 0
    scores = [json.loads(path.read_text())["scores"] for path in (tmp_path / "s.json", golden / "evaluate.json")]
    assert scores[0]["frechet_distance"] == pytest.approx(EXPECTED_DISTANCE, rel=1e-2)
    assert scores[1]["frechet_distance"] > 0


EXPECTED_DISTANCE = 37.7
"""Frechet distance by pixels of the twenty samples to the reference, by version 0.1.0's `evaluate`."""


def test_its_search_is_read_and_not_repeated(
    golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(golden / "search", tmp_path / "search")
    monkeypatch.setattr("ict_ref.search.find.frechet_distance", None)  # a score would be computed by it
    options = [*REFERENCE, "--count", "50", "--nodes", "5", "--out", str(tmp_path / "search")]
    assert search([str(golden / "network.safetensors"), *options]) == 0
    assert "node 2 of 5" in capsys.readouterr().out
    assert (tmp_path / "search" / "scores.csv").read_text() == (golden / "search" / "scores.csv").read_text()


def test_its_curve_is_continued(golden: Path, resumed: Path, tmp_path: Path) -> None:
    if (golden / "curve.json").exists():  # there were no curves before format 2
        shutil.copy(golden / "curve.json", tmp_path / "curve.json")
    options = [*REFERENCE, "--count", "50", "--every-milestone", "--json", str(tmp_path / "curve.json")]
    assert evaluate([str(resumed), *options]) == 0
    points, expected = (
        json.loads(path.read_text())["points"]
        for path in (tmp_path / "curve.json", FIXTURES / "format_2" / "curve.json")
    )
    assert [(point["step"], point["levels"]) for point in points] == [(20, 81), (30, 321), (40, 1281)]
    for point, known in zip(points, expected, strict=True):
        assert point["scores"]["frechet_distance"] == pytest.approx(known["scores"]["frechet_distance"], rel=1e-3)
