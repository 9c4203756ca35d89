"""The EMA weights of checkpoints: which file is read, and what of it must fit."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from tests.support.one_line import rejection
from tests.support.runs import short_run
from tests.support.stored import read_stored

from ict_ref import export_checkpoint
from ict_ref.checkpoint.ema_weights import described_by, load_ema
from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.safetensors_io import metadata
from ict_ref.checkpoint.training_state import FORMAT, checkpoint_file, checkpoints
from ict_ref.config import minimal
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample.__main__ import main as sample

RESUMED = ["--config", "minimal", "--train.steps", "30", "--out", "run"]


pytestmark = pytest.mark.usefixtures("copied_run")


def rewritten(path: Path, **changes: object) -> None:
    """Write a checkpoint again with other entries and a right checksum."""
    about, tensors = read_stored(path)
    kept = {name: value for name, value in about.items() if name not in ("format", "ict_ref", "sha256")}
    path.write_bytes(safetensors.torch.save(tensors, metadata(kept | changes, tensors, FORMAT)))


@pytest.mark.parametrize("kind", ["nan", "inf", "int8", "complex64"])
def test_weights_that_are_not_finite_floats_are_rejected(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(iter(checkpoints(Path("run")).values()))
    about, tensors = read_stored(path)
    name = next(name for name in tensors if name.startswith("average/"))
    value = tensors[name]
    tensors[name] = value * float(kind) if kind in ("nan", "inf") else value.to(getattr(torch, kind))
    kept = {entry: value for entry, value in about.items() if entry not in ("format", "ict_ref", "sha256")}
    path.write_bytes(safetensors.torch.save(tensors, metadata(kept, tensors, FORMAT)))
    capsys.readouterr()
    assert sample([str(path), "--count", "1", "--out", "a.npz"]) == 2
    has = f"got {name.partition('/')[2].removeprefix('network.')} has"
    assert "EMA weights of finite floats" in (line := rejection(capsys, "ict_ref.sample"))
    assert has in line
    assert not Path("a.npz").exists()


def test_a_file_whose_name_is_not_its_step_is_rejected_and_never_scored_as_that_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copy("run/checkpoint-00000010.safetensors", "run/checkpoint-00000025.safetensors")
    assert sample(["run", "--step", "25", "--count", "2"]) == 2
    line = rejection(capsys, "ict_ref.sample")
    assert "checkpoint-00000025.safetensors holds the state after step 10, not that of its name. Rename it." in line


def test_a_step_is_an_option_of_a_run_folder_and_not_of_a_checkpoint() -> None:
    assert load_ema(Path("run"), 10).step == 10
    with pytest.raises(ValueError, match=r"--step: expected a run folder, got run/checkpoint-00000010\.safetensors"):
        load_ema(Path("run/checkpoint-00000010.safetensors"), 10)


def test_a_renamed_checkpoint_does_not_take_a_finished_run_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = checkpoint_file(Path("run"), 30).read_bytes()
    shutil.copy("run/checkpoint-00000010.safetensors", "run/checkpoint-00000050.safetensors")
    assert launch(RESUMED) == 0
    assert "resumed after step 30 of 30" in capsys.readouterr().out
    assert checkpoint_file(Path("run"), 30).read_bytes() == before


def test_a_network_file_is_sampled_like_its_run() -> None:
    options = ["--method.sigma-max", "40", "--method.rho", "5", "--method.s1", "640", "--sample.no-clip"]
    short_run(Path("other"), *options)
    assert export_checkpoint.main(["other", "--out", "n.safetensors"]) == 0
    run, file = load_pretrained(Path("other")), load_pretrained(Path("n.safetensors"))
    assert not any(parameter.requires_grad for parameter in file.model.parameters())
    assert (file.method.sigma_max, file.method.rho, file.method.s1, file.sample.clip) == (40, 5, 640, False)
    assert (run.method.sigma_max, run.sample.clip) == (40, False)
    for name in ("other", "n.safetensors"):
        assert sample([name, "--count", "4", "--out", f"{name}.npz"]) == 0
    assert Path("other.npz").read_bytes() == Path("n.safetensors.npz").read_bytes()


def test_a_final_discretization_below_the_default_initial_one_is_read() -> None:
    short_run(Path("other"), "--method.s0", "2", "--method.s1", "4")
    assert export_checkpoint.main(["other", "--out", "n.safetensors"]) == 0
    assert load_pretrained(Path("n.safetensors")).method.s1 == 4


def test_milestones_are_kept_whatever_the_options_of_a_later_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--record.keep", "1", "--record.save-every", "10"]
    short_run(Path("kept"), "--record.milestone-every", "15", *options)
    assert sorted(checkpoints(Path("kept"))) == [15, 30]
    checkpoint_file(Path("kept"), 30).unlink()
    assert launch(["--config", "minimal", "--train.steps", "30", *options, "--out", "kept"]) == 0
    assert "resumed after step 15" in capsys.readouterr().out
    assert sorted(checkpoints(Path("kept"))) == [15, 30]


@pytest.mark.parametrize(
    ("option", "old", "new"),
    [
        ("--method.sigma-max", '"sigma_max": 80.0', '"sigma_max": 20.0'),
        ("--network.dropout", '"dropout": 0.1', '"dropout": 0.2'),
    ],
)
def test_a_configuration_that_is_not_that_of_its_checkpoints_is_rejected(
    option: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path("run/config.json")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert sample(["run", "--count", "2"]) == 2
    line = rejection(capsys, "ict_ref.sample")
    assert f"config.json has {option} " in line
    assert line.endswith("Restore the config.json with which the run began.\n")


def test_options_that_may_change_are_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch([*RESUMED, "--sample.no-clip", "--acceptance.recall", "0.0", "--machine.accumulate", "2"]) == 0
    capsys.readouterr()
    assert sample(["run", "--count", "2", "--out", "s.npz"]) == 0
    assert json.loads(Path("s.npz.json").read_text())["clipping"].startswith("of pixels alone")


@pytest.mark.parametrize("width", [4, 16])
def test_a_checkpoint_with_another_network_than_its_weights_is_rejected(
    width: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("run/checkpoint-00000030.safetensors", "alone.safetensors")
    options = read_stored("alone.safetensors")[0]["options"]
    options["network"] |= {"width": width, "head_channels": 0, "groups": 1}
    rewritten(Path("alone.safetensors"), options=options)
    assert sample(["alone.safetensors", "--count", "2"]) == 2
    assert "alone.safetensors has other EMA weights than those of its network: " in rejection(capsys, "ict_ref.sample")


def test_a_pipe_is_rejected_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe")
    assert sample(["pipe", "--count", "2"]) == 2
    assert "pipe is not a file" in rejection(capsys, "ict_ref.sample")


def test_a_denoiser_may_be_moved_but_not_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    distilled = [
        "--config", "minimal", "--train.steps", "8", "--record.save-every", "4", "--record.milestone-every", "4",
        "--method.objective", "distillation", "--out", "distilled", "--method.denoiser",
    ]  # fmt: skip
    for step in ("10", "30"):
        assert export_checkpoint.main(["run", "--step", step, "--out", f"{step}.safetensors"]) == 0
    assert launch([*distilled, "30.safetensors"]) == 0
    checkpoint_file(Path("distilled"), 8).unlink()
    Path("moved").mkdir()
    Path("30.safetensors").rename("moved/denoiser.safetensors")
    capsys.readouterr()
    shutil.copy("10.safetensors", "30.safetensors")
    assert launch([*distilled, "30.safetensors"]) == 2
    line = rejection(capsys, "ict_ref.launch")
    assert line.startswith("ict_ref.launch: --method.denoiser: expected the file with SHA-256 ")
    assert launch([*distilled, "moved/denoiser.safetensors"]) == 0
    assert "resumed after step 4 of 8" in capsys.readouterr().out
    assert json.loads(Path("distilled/config.json").read_text())["config"]["method"]["denoiser"] == (
        "moved/denoiser.safetensors"
    )
    assert sample(["distilled", "--count", "2"]) == 0


def test_a_launch_that_is_rejected_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("run/config.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"identities": ["00000000"]}))
    before = file.read_bytes()
    assert launch([*RESUMED, "--machine.accumulate", "2"]) == 2
    assert "run: the checkpoint is of another configuration" in rejection(capsys, "ict_ref.launch")
    assert file.read_bytes() == before
    assert sorted(checkpoints(Path("run"))) == [10, 20, 30]


@pytest.mark.parametrize("name", ["scores.json", "samples.png"])
def test_a_link_in_place_of_a_result_is_rejected_before_training(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("precious").write_text("mine")
    (Path("run") / name).unlink()
    (Path("run") / name).symlink_to(Path("precious").resolve())
    checkpoint_file(Path("run"), 30).unlink()
    assert launch(RESUMED) == 2
    assert name in rejection(capsys, "ict_ref.launch")
    assert Path("precious").read_text() == "mine"
    assert sorted(checkpoints(Path("run"))) == [10, 20]


def test_a_number_is_the_same_as_an_integer_and_as_a_float(capsys: pytest.CaptureFixture[str]) -> None:
    # Python code may give 80 where the command line gives 80.0.
    file = Path("run/config.json")
    text = file.read_text()
    assert '"sigma_max": 80.0' in text
    file.write_text(text.replace('"sigma_max": 80.0', '"sigma_max": 80'))
    assert sample(["run", "--count", "2", "--out", "s.npz"]) == 0
    assert launch(RESUMED) == 0
    assert "resumed after step 30" in capsys.readouterr().out


def test_a_resumed_run_stores_the_options_that_an_earlier_version_did_not_have() -> None:
    file = Path("run/config.json")
    content = json.loads(file.read_text())
    del content["config"]["method"]["rho"]
    file.write_text(json.dumps(content))
    assert launch(RESUMED) == 0
    assert json.loads(file.read_text())["config"]["method"]["rho"] == 7.0


def test_images_of_an_early_run_on_digits_have_classes_only_with_labels() -> None:
    for labels in (True, False):
        about = described_by(dataclasses.replace(minimal(), data=dataclasses.replace(minimal().data, labels=labels)))
        assert about.event == (1, 8, 8)
        assert (about.classes, about.class_names) == ((10, tuple("0123456789")) if labels else (0, None))
