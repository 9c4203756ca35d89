"""Files that version 0.1.0 wrote (commit 379a582, preset minimal) are resumed, sampled and loaded for ever.

Version 0.1.0 computed the expected values: names, shapes and two sums of each tensor. They are compared to 1e-5, since
last bits depend on the processor.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.training_state import load_checkpoint
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample.__main__ import main as sample

FIXTURES = Path(__file__).parents[1] / "fixtures"
OLD = FIXTURES / "version_0_1"
EXPECTED: dict[str, Any] = json.loads((OLD / "expected.json").read_text())


def summary(tensor: Shaped[Tensor, "..."]) -> list[Any]:
    """Return shape, norm, and a sum in which every place counts differently."""
    flat = tensor.double().reshape(-1)
    return [list(tensor.shape), float(flat.norm()), float((flat * torch.cos(torch.arange(len(flat)).double())).sum())]


def assert_like(tensors: dict[str, Tensor], expected: dict[str, Any]) -> None:
    """Assert names, shapes and values."""
    assert sorted(tensors) == sorted(expected)
    for name, tensor in tensors.items():
        shape, norm, total = summary(tensor)
        assert shape == expected[name][0], name
        assert [norm, total] == pytest.approx(expected[name][1:], rel=1e-5, abs=1e-5 * max(1e-3, norm)), name


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the old run, resumed after step 20 and trained to its end."""
    run = tmp_path_factory.mktemp("old") / "run_final"
    shutil.copytree(OLD / "run", run)
    assert launch(["--config", "minimal", "--out", str(run)]) == 0
    return run


def test_an_old_run_is_resumed_and_ends_as_it_would_have_ended(resumed: Path) -> None:
    checkpoint = load_checkpoint(resumed / "checkpoint-00000040.safetensors")
    assert checkpoint.step == EXPECTED["step"]
    assert_like(dict(checkpoint.tensors), EXPECTED["tensors"])
    steps = [json.loads(line)["step"] for line in (resumed / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 41))
    scores = json.loads((resumed / "scores.json").read_text())["scores"]
    assert [score["name"] for score in scores] == [score["name"] for score in EXPECTED["scores"]]
    for score, expected in zip(scores, EXPECTED["scores"], strict=True):
        assert score["frechet_distance"] == pytest.approx(expected["frechet_distance"], rel=1e-3)


def test_an_old_run_is_sampled(resumed: Path, tmp_path: Path) -> None:
    options = ["--count", "20", "--seed", "3", "--sigmas", "80", "0.821", "--out", str(tmp_path / "samples.npz")]
    assert sample([str(resumed), *options]) == 0
    with np.load(tmp_path / "samples.npz") as made, np.load(OLD / "samples.npz") as expected:
        assert made.files == expected.files
        assert np.abs(made["arr_0"].astype(int) - expected["arr_0"]).max() <= 1
        assert np.array_equal(made["arr_1"], expected["arr_1"])
    recipe, expected_recipe = (
        json.loads(path.read_text()) for path in (tmp_path / "samples.npz.json", OLD / "samples.npz.json")
    )
    assert set(recipe) == {*expected_recipe, "format"}


def test_an_old_checkpoint_is_sampled_before_its_run_ends() -> None:
    model = load_pretrained(OLD / "run")
    assert model.name.endswith("run after step 20")
    assert (model.event, model.classes) == ((1, 8, 8), 10)


def test_an_old_network_file_is_loaded() -> None:
    network = load_exported(OLD / "network.safetensors")
    expected = EXPECTED["network"]
    assert [network.classes, network.size, network.channels] == [expected[k] for k in ("classes", "size", "channels")]
    assert_like(dict(network.state), expected["tensors"])
    x = torch.linspace(-1, 1, 128, dtype=torch.float64).reshape(2, 1, 8, 8)
    sigma = torch.tensor([0.5, 10.0], dtype=torch.float64)
    with torch.no_grad():
        answer = network.model(torch.float64)(x, sigma, torch.tensor([3, 7]), None)
    assert answer.flatten().tolist() == pytest.approx(expected["answer"], rel=1e-5, abs=1e-6)


def test_a_job_that_was_queued_before_the_packages_moved_ends_with_one_line(tmp_path: Path) -> None:
    shutil.copy(OLD / "queued_job.pkl", tmp_path / "17_submitted.pkl")
    job = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "17", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    command = [sys.executable, "-m", "submitit.core._submit", str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, **job}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if not line.startswith("submitit INFO")]
    assert lines == [
        "ict_ref: this job was submitted by another version of ict_ref; submit it again by the same command: it "
        "continues from what is saved"
    ]
