"""Distillation: Eq. (3) with the score of a denoiser. Oracle: closed forms for normal data."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.support.runs import images
from tests.support.sampled_noise import sample_noise
from torch import Tensor, nn

from ict_ref.checkpoint.network_file import export
from ict_ref.config import Config, Method, minimal
from ict_ref.data.dataset import to_float
from ict_ref.launch.__main__ import main
from ict_ref.networks.model import build_model
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.training.discretization import discretization
from ict_ref.training.distillation import load_score
from ict_ref.training.loss import training_loss
from ict_ref.training.trainer import Trainer

EVENT = (1, 8, 8)
CPU = torch.device("cpu")


class Normal(nn.Module):
    """The denoiser of N(0.3, 0.4^2) data: (x 0.16 + 0.3 sigma^2) / (0.16 + sigma^2)."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        square = sigma.reshape(-1, 1, 1, 1) ** 2
        return (0.16 * x + 0.3 * square) / (0.16 + square)


class Labelled(nn.Module):
    """Data that are the point label / 10."""

    def forward(self, x: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        return torch.zeros_like(x) + labels.reshape(-1, 1, 1, 1) / 10


def written(module: nn.Module, folder: Path) -> str:
    """Return the file of a module."""
    path = folder / "denoiser.pt"
    torch.jit.script(module).save(str(path))  # type: ignore[no-untyped-call]
    return str(path)


def distilling(denoiser: str, *, labels: bool) -> Config:
    """Return the minimal run as a distillation, in float64."""
    preset = minimal()
    return dataclasses.replace(
        preset,
        data=dataclasses.replace(preset.data, labels=labels),
        method=Method(objective="distillation", denoiser=denoiser),
        train=dataclasses.replace(preset.train, precision="float64"),
    )


def test_the_score_is_that_of_the_denoiser(tmp_path: Path) -> None:
    # grad log N(0.3, 0.4^2 + sigma^2) = (0.3 - x) / (0.16 + sigma^2).
    method = Method(objective="distillation", denoiser=written(Normal(), tmp_path))
    score = load_score(method, EVENT, labels=False, dtype=torch.float64, device=CPU)
    x, sigma = torch.linspace(-2, 2, 3 * 64).double().reshape(3, *EVENT), torch.tensor([0.1, 1.0, 20.0]).double()
    torch.testing.assert_close(score(x, sigma, None), (0.3 - x) / (0.16 + sigma.reshape(-1, 1, 1, 1) ** 2))


def test_the_score_may_depend_on_the_label(tmp_path: Path) -> None:
    method = Method(objective="distillation", denoiser=written(Labelled(), tmp_path))
    score = load_score(method, EVENT, labels=True, dtype=torch.float64, device=CPU)
    x, sigma = torch.ones(2, *EVENT).double(), torch.tensor([1.0, 2.0]).double()
    value = score(x, sigma, torch.tensor([3, 7]))
    torch.testing.assert_close(value[:, 0, 0, 0], torch.tensor([0.3 - 1, (0.7 - 1) / 4]).double())


@pytest.mark.parametrize("labels", [False, True])
def test_the_loss_compares_both_ends_of_an_euler_step(tmp_path: Path, labels: bool) -> None:
    chosen = distilling(written(Labelled() if labels else Normal(), tmp_path), labels=labels)
    trainer = Trainer(chosen, images())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.student.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    trainer.step = 30
    pixels, classes = images().batch(30, batch_size=16, seed=0)
    x, of_class = to_float(pixels).double(), classes if labels else None
    noise = sample_noise(30, range(4), chosen, event=EVENT, sites=trainer.student.network.dropout_sites())
    sigmas = discretization(30, chosen).sigmas
    low, high = (sigmas[noise.index + k] for k in (0, 1))
    column = (-1, 1, 1, 1)
    noisy = x + high.reshape(column) * noise.z
    if labels:
        score = (classes.reshape(column) / 10 - noisy) / high.reshape(column) ** 2
    else:
        score = (0.3 - noisy) / (0.16 + high.reshape(column) ** 2)
    # One step of Euler's method down dx/dsigma = -sigma score.
    lower = noisy + (low - high).reshape(column) * -high.reshape(column) * score
    student = trainer.student(noisy, high, of_class, noise.masks)
    teacher = trainer.student(lower, low, of_class, noise.masks)
    c = 0.00054 * 8
    expected = (((student - teacher) ** 2).sum((1, 2, 3)) + c**2).sqrt() - c
    trainer.update()
    torch.testing.assert_close(trainer.loss, (expected / (high - low)).mean().detach())


def test_an_imported_network_is_a_denoiser_with_the_coefficients_of_edm(tmp_path: Path) -> None:
    # EDM, Table 1: c_skip = sd^2 / (s^2 + sd^2), c_out = s sd / sqrt(s^2 + sd^2), c_in = 1 / sqrt(s^2 + sd^2).
    model = build_model(distilling("", labels=True), event=EVENT, classes=10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    path = tmp_path / "network.safetensors"
    state = {name: value.float() for name, value in model.network.state_dict().items()}
    export(NetworkCheckpoint(options=minimal().network, channels=1, size=8, classes=10, state=state), path)
    method = Method(objective="distillation", denoiser=str(path))
    score = load_score(method, EVENT, labels=True, dtype=torch.float32, device=CPU)
    x, sigma = torch.randn(3, *EVENT, generator=generator), torch.tensor([0.01, 1.0, 30.0])
    labels = torch.tensor([1, 2, 3])
    s = sigma.reshape(-1, 1, 1, 1)
    free = model.network.float()(x / (s**2 + 0.25).sqrt(), sigma.log() / 4, labels)
    clean = 0.25 / (s**2 + 0.25) * x + 0.5 * s / (s**2 + 0.25).sqrt() * free
    # Divided by s^2 = 1e-4, the difference D - x has few digits left in float32.
    torch.testing.assert_close(score(x, sigma, labels) * s**2, clean.detach() - x, rtol=1e-4, atol=1e-5)


def test_the_denoiser_gets_no_gradient_and_is_not_saved_with_the_run(tmp_path: Path) -> None:
    trainer = Trainer(distilling(written(Normal(), tmp_path), labels=False), images())
    trainer.update()
    assert {name.split("/")[0] for name in trainer.checkpoint().tensors} == {"student", "average", "optimizer"}


def test_distillation_needs_its_score() -> None:
    chosen = distilling("", labels=False)
    model = build_model(chosen, event=EVENT, classes=0)
    noise = sample_noise(0, range(4), chosen, event=EVENT, sites=model.network.dropout_sites())
    with pytest.raises(ValueError, match=r"score: expected the score to distil, got None"):
        training_loss(model, torch.zeros(16, *EVENT).double(), None, noise, discretization(0, chosen), chosen.method)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "--method.denoiser: expected a denoiser to distil, got nothing"),
        ("nowhere.pt", "--method.denoiser: expected a file, got nowhere.pt"),
        ("text.pt", "--method.denoiser: expected TorchScript or a network file. text.pt is damaged"),
        ("labelled.pt", "--method.denoiser: expected D(x, sigma) for images of shape (1, 8, 8), got labelled.pt"),
    ],
)
def test_a_bad_denoiser_is_rejected_before_training(
    name: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pt").write_text("no TorchScript")
    Path(written(Labelled(), tmp_path)).rename("labelled.pt")
    command = ["--config", "minimal", "--data.no-labels", "--method.objective", "distillation", "--out", "run"]
    assert main([*command, *(["--method.denoiser", name] if name else [])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not Path("run").exists()
