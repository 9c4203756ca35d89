"""Weights to start from. Oracle: outputs of the authors' public modules, and EDM's and CM's printed coefficients."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.support.datasets import prepared, random_images
from tests.support.one_line import rejection
from tests.support.published import given, imported, relative, state_of
from tests.support.runs import CT, config, images, same, short_run, unchecked
from torch import Tensor

from ict_ref import export_checkpoint, import_checkpoint
from ict_ref.checkpoint.network_file import export, load_exported
from ict_ref.checkpoint.training_state import checkpoint_file, load_checkpoint
from ict_ref.config import Config, Data, Method, minimal
from ict_ref.data.dataset import Images
from ict_ref.launch.__main__ import main as launch
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.training.distillation import load_score
from ict_ref.training.trainer import Trainer


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a network file of the minimal preset, with random weights in all places."""
    state = Trainer(minimal(), images()).student.network.state_dict()
    generator = torch.Generator().manual_seed(0)
    noisy = {name: torch.randn(value.shape, generator=generator) for name, value in state.items()}
    path = tmp_path / "weights.safetensors"
    export(NetworkCheckpoint(options=minimal().network, channels=1, size=8, classes=10, state=noisy), path)
    return path


def test_student_ema_weights_and_teacher_start_from_the_same_file(file: Path) -> None:
    chosen = config(init=str(file), ema_decay=(0.9, 0.5), ema_sigmas=(0.1,), precision="float64")
    trainer = Trainer(dataclasses.replace(chosen, method=CT), images())
    expected = load_exported(file).state
    tensors = trainer.checkpoint().tensors
    kinds = {name.split("/")[0] for name in tensors}
    assert kinds == {"student", "average", "average-0.5", "power-0.1", "teacher"}
    for kind in kinds:
        for name, value in expected.items():
            assert torch.equal(tensors[f"{kind}/network.{name}"], value.double())


def test_the_first_update_is_one_of_these_weights(file: Path) -> None:
    start, random = (Trainer(config(init=init), images()) for init in (str(file), ""))
    for trainer in (start, random):
        trainer.update()
    assert float(start.loss) != float(random.loss)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose weights others start from."""
    return short_run(tmp_path_factory.mktemp("first") / "run")


def saved(state: dict[str, Tensor], folder: Path) -> str:
    """Return a file of torch.save."""
    torch.save(state, folder / "theirs.pt")
    return str(folder / "theirs.pt")


def edm_config(network: NetworkCheckpoint, path: str, **data: object) -> Config:
    """Return a distillation from EDM's network that starts from its weights."""
    return dataclasses.replace(
        minimal(),
        data=Data(name="folder", labels=False, **data),  # type: ignore[arg-type]
        network=network.options,
        method=Method(objective="distillation", denoiser=path),
        train=dataclasses.replace(minimal().train, precision="float64", batch_size=4, init=path),
    )


def test_edm_s_network_has_its_own_coefficients_as_a_denoiser_and_cm_s_as_a_student(tmp_path: Path) -> None:
    # EDM, Table 1, for the denoiser; CM, Appendix C, for the student. F is that of the author's SongUNet.
    network = imported("ncsnpp_small")
    export(network, tmp_path / "edm.safetensors")
    config = edm_config(network, str(tmp_path / "edm.safetensors"))
    examples = Images(random_images(4, 3, 16, 16), torch.zeros(4, dtype=torch.int64), classes=1)
    trainer = Trainer(config, examples)
    scaled, sigma, free = (given("ncsnpp_small", name) for name in ("x", "sigma", "out"))
    assert scaled is not None
    assert sigma is not None
    assert free is not None
    s = sigma.reshape(-1, 1, 1, 1)
    x = scaled * (s**2 + 0.25).sqrt()
    e, root = 0.002, (s**2 + 0.25).sqrt()
    denoised = 0.25 / (s**2 + 0.25) * x + s * 0.5 / root * free
    consistent = 0.25 / ((s - e) ** 2 + 0.25) * x + 0.5 * (s - e) / root * free
    for model in (trainer.student, trainer.ema):
        assert relative(model(x, sigma), consistent.numpy()) < 1e-6  # the file has float32
    score = load_score(config.method, (3, 16, 16), labels=False, dtype=torch.float64, device=torch.device("cpu"))
    assert relative(score(x, sigma, None) * s**2 + x, denoised.numpy()) < 1e-6
    # Far above sigma_min both are the same function, and a student that starts from the teacher is nearly trained.
    assert relative(trainer.student(x, sigma)[2:], denoised[2:].numpy()) < 1e-4


def test_an_imported_edm_network_is_distilled_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert import_checkpoint.main([saved(state_of("ncsnpp_small"), tmp_path), "--out", "edm"]) == 0
    data = prepared(tmp_path / "data", random_images(12, 3, 16, 16))
    options = load_exported(Path("edm/network.safetensors")).options
    command = [
        "--config", "minimal", "--data.name", "folder", "--data.path", str(data), "--data.no-labels",
        "--network.architecture", "ncsnpp", "--network.embedding", "fourier", "--network.width", str(options.width),
        "--network.multipliers", "2", "2", "2", "--network.blocks", "2", "--network.attention-resolutions", "8",
        "--network.head-channels", "0", "--network.groups", "32", "--method.objective", "distillation",
        "--method.denoiser", "edm/network.safetensors", "--train.init", "edm/network.safetensors",
        "--train.steps", "8", "--train.batch-size", "4", "--record.save-every", "4", "--out", "run",
    ]  # fmt: skip
    with unchecked():
        assert launch(command) == 0
    stored = json.loads(Path("run/config.json").read_text())
    assert stored["files"]["train.init"] == stored["files"]["method.denoiser"]
    assert Path("run/samples.png").exists()


@pytest.mark.parametrize("kind", ["network file", "checkpoint"])
def test_a_run_starts_from_a_network_file_or_a_checkpoint_of_another(kind: str, first: Path, tmp_path: Path) -> None:
    init = checkpoint_file(first, 30)
    if kind == "network file":
        init = tmp_path / "net.safetensors"
        assert export_checkpoint.main([str(first), "--out", str(init)]) == 0
    trainer = Trainer(config(init=str(init)), images())
    tensors = load_checkpoint(checkpoint_file(first, 30)).tensors
    for name, value in trainer.student.state_dict().items():
        assert torch.equal(value, tensors[f"average/{name}"])


def test_a_run_is_tied_to_the_content_of_its_weights_and_resumes_without_them(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for step in ("10", "30"):
        assert export_checkpoint.main([str(first), "--step", step, "--out", f"{step}.safetensors"]) == 0
    command = [
        "--config", "minimal", "--train.steps", "8", "--record.save-every", "4", "--record.milestone-every", "4",
        "--out", "second", "--train.init",
    ]  # fmt: skip
    assert launch([*command, "30.safetensors"]) == 0
    last = checkpoint_file(Path("second"), 8)
    whole = load_checkpoint(last)
    last.unlink()
    shutil.copy("30.safetensors", "moved.safetensors")
    shutil.copy("10.safetensors", "30.safetensors")
    capsys.readouterr()
    assert launch([*command, "30.safetensors"]) == 2
    line = rejection(capsys, "ict_ref.launch")
    assert line.startswith("ict_ref.launch: --train.init: expected the file with SHA-256 ")
    assert launch([*command, "moved.safetensors"]) == 0
    assert "resumed after step 4 of 8" in capsys.readouterr().out
    last.unlink()
    Path("moved.safetensors").unlink()
    assert launch([*command, "moved.safetensors"]) == 0
    assert same(load_checkpoint(last), whole)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            ["--network.width", "16"],
            "--train.init: expected the tensors of this run's network, got weights.safetensors: "
            "embedding.linear0.weight has the shape (32, 8) instead of (64, 16), ",
        ),
        (["--network.width", "16"], "more. Give --network.width 8."),
        (
            ["--network.multipliers", "1", "1", "--network.adaptive-norm"],
            "Give --network.multipliers 1 2 --network.no-",
        ),
        (["--data.no-labels"], "embedding.label.weight is unknown. Train on images of 1 x 8 x 8 with 10 classes, or"),
        (["--network.time-scale", "1000"], "--network.time-scale: expected 1.0 as in the weights of weights.safeten"),
        (["--network.head-channels", "4"], "--network.head-channels: expected 8 as in the weights of weights.safeten"),
        (["--method.sigma-data", "0.6"], "--method.sigma-data: expected 0.5 as in the weights of weights.safeten"),
        (["--train.init", "no.safetensors"], "--train.init: expected a network file or a checkpoint, got no.safetens"),
        (["--train.init", "text"], "--train.init: expected a network file or a checkpoint. text is damaged or not"),
    ],
)
def test_weights_that_do_not_fit_are_rejected_by_name_before_training(
    options: list[str], says: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    Path("text").write_text("not a network")
    assert launch(["--config", "minimal", "--train.init", file.name, *options, "--out", "run"]) == 2
    assert says in rejection(capsys, "ict_ref.launch")
    assert not Path("run").exists()


def test_dropout_and_the_scale_of_the_frequencies_may_differ(tmp_path: Path) -> None:
    options = dataclasses.replace(minimal().network, embedding="fourier", fourier_scale=16.0)
    start = Trainer(dataclasses.replace(minimal(), network=options), images()).student.network.state_dict()
    path = tmp_path / "fourier.safetensors"
    export(NetworkCheckpoint(options=options, channels=1, size=8, classes=10, state=start), path)
    other = dataclasses.replace(options, fourier_scale=0.02, dropout=0.5)
    trainer = Trainer(dataclasses.replace(config(init=str(path)), network=other), images())
    name = "embedding.features.frequencies"
    assert torch.equal(trainer.student.network.state_dict()[name], start[name])
