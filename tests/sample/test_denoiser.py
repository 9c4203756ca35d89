"""Images from a denoiser, and what becomes of a run that trains one. Oracle: the ODE for normal data."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.support.one_line import rejection
from tests.support.runs import images, short_run, unchecked
from torch import Tensor, nn

from ict_ref.checkpoint.ema_weights import load_ema
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.config import Config, Method, minimal
from ict_ref.data.dataset import to_uint8
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.export_checkpoint import main as export
from ict_ref.launch.__main__ import main as launch
from ict_ref.networks.dropout import Masks
from ict_ref.networks.model import ConsistencyModel
from ict_ref.sample.__main__ import main as sample
from ict_ref.sample.denoiser import LEVELS, images_of_run
from ict_ref.sample.images import noise
from ict_ref.training.distillation import load_score
from ict_ref.training.trainer import Trainer

DENOISING = ["--method.objective", "denoising", "--method.p-mean", "-1.2", "--method.p-std", "1.2"]
EVENT = (1, 8, 8)


class Normal(ConsistencyModel):
    """The denoiser of N(label / 20, 0.2^2) data, which counts its calls."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.unused, self.calls = nn.Parameter(torch.zeros(1).double()), 0

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None, masks: Masks | None = None) -> Tensor:
        assert labels is not None
        self.calls += 1
        square, mean = (each.reshape(-1, 1, 1, 1) for each in (sigma**2, labels / 20))
        return (0.04 * x + square * mean) / (0.04 + square)


def test_the_ode_of_normal_data_is_solved_by_heun_s_method() -> None:
    # dx/dsigma = a (x - m) with a = sigma / (s^2 + sigma^2): each step multiplies x - m by a number.
    config = dataclasses.replace(minimal(), method=Method(objective="denoising"))
    denoiser, labels = Normal(), torch.arange(6)
    [(title, made)] = images_of_run(denoiser, labels, config, count=6, event=EVENT).items()
    assert title == "18 levels of the ODE"
    start = 80 * noise(config.train.seed, range(6), EVENT).double()
    mean = (labels / 20).reshape(-1, 1, 1, 1).double()
    levels = [(0.002 ** (1 / 7) + j / 17 * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7 for j in reversed(range(18))]
    factor = 1.0
    for high, low in pairwise(levels):
        a, b = (sigma / (0.04 + sigma**2) for sigma in (high, low))
        factor *= 1 + (low - high) / 2 * (a + b * (1 + (low - high) * a))
    factor *= 0.04 / (0.04 + levels[-1] ** 2)
    assert int((made.int() - to_uint8(mean + factor * (start - mean)).int()).abs().max()) <= 1
    # The exact solution shrinks x - m like sqrt(s^2 + sigma^2).
    assert abs(factor / (0.2 / (0.04 + 80.0**2) ** 0.5) - 1) < 0.1
    assert denoiser.calls == 2 * (LEVELS - 1) + 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a denoiser's run."""
    return short_run(tmp_path_factory.mktemp("denoiser") / "run", *DENOISING)


def test_a_run_trains_samples_scores_and_resumes_a_denoiser(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = json.loads((run / "scores.json").read_text())["scores"]
    assert scores[0]["name"] == "18 levels of the ODE"
    assert (run / "samples.png").exists()
    thresholds = ["--acceptance.recall", "1.0"]
    with unchecked():
        assert launch(["--config", "minimal", "--train.steps", "30", *DENOISING, *thresholds, "--out", str(run)]) == 1
    output = capsys.readouterr()
    assert "resumed after step 30" in output.out
    assert "\nict_ref.launch: samples miss acceptance thresholds: recall " in output.err


def test_a_denoiser_is_not_sampled_as_a_consistency_model(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "denoiser.safetensors"
    assert export([str(run), "--out", str(file)]) == 0
    assert load_exported(file).is_denoiser
    for model in (run, file, run / "checkpoint-00000030.safetensors"):
        capsys.readouterr()
        assert sample([str(model), "--count", "2", "--out", str(tmp_path / "s.npz")]) == 2
        line = rejection(capsys, "ict_ref.sample")
        assert line.startswith(f"ict_ref.sample: RUN|FILE: expected a consistency model, got the denoiser {model}")
        assert "--method.objective distillation" in line
    assert evaluate([str(run), "--reference", "digits:held-out"]) == 2


def test_its_exported_network_is_the_score_to_distil_and_the_weights_to_start_from(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "denoiser.safetensors"
    assert export([str(run), "--out", str(file)]) == 0
    method = Method(objective="distillation", denoiser=str(file))
    score = load_score(method, EVENT, labels=True, dtype=torch.float32, device=torch.device("cpu"))
    trained = dataclasses.replace(minimal(), method=Method(objective="denoising"))
    ema = Trainer(trained, images()).ema
    ema.network.load_state_dict(dict(load_ema(run).network.state))
    x, sigma, labels = torch.randn(3, *EVENT), torch.tensor([0.1, 1.0, 30.0]), torch.tensor([1, 2, 3])
    expected = (ema(x, sigma, labels) - x) / sigma.reshape(-1, 1, 1, 1) ** 2
    torch.testing.assert_close(score(x, sigma, labels), expected)
    started = dataclasses.replace(minimal().train, init=str(file), steps=8)
    student = Trainer(Config(**vars(minimal()) | {"method": method, "train": started}), images()).student
    for name, value in load_exported(file).state.items():
        assert torch.equal(student.network.state_dict()[name], value)
