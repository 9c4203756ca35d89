"""A trained model is used without its training data: from another folder, and from a copy of its run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch
from tests.support.datasets import prepared, random_images
from tests.support.one_line import rejection
from tests.support.runs import unchecked
from tests.support.stored import read_stored

from ict_ref import export_checkpoint
from ict_ref.checkpoint.load import load_pretrained
from ict_ref.checkpoint.network_file import load_exported
from ict_ref.checkpoint.run_dir import load_config, read_run
from ict_ref.checkpoint.safetensors_io import checksum
from ict_ref.edit.__main__ import main as edit
from ict_ref.evaluate.__main__ import main as evaluate
from ict_ref.figures.__main__ import main as figures
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample.__main__ import main as sample
from ict_ref.search.__main__ import main as search

OPTIONS = ["--config", "minimal", "--train.steps", "8", "--train.batch-size", "4", "--data.name", "folder"]
LABELS = [0, 0, 1, 1, 2, 2, 2, 2]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the copy of a run, whose data have been moved, and a reference."""
    place = tmp_path_factory.mktemp("moved")
    prepared(place / "data", random_images(8, 1, 8, 8), LABELS)
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.chdir(place)
        assert launch([*OPTIONS, "--data.path", "data", "--out", "original"]) == 0
    (place / "data").rename(place / "elsewhere")
    shutil.move(place / "original", place / "laptop")
    prepared(place / "reference", random_images(8, 1, 8, 8, seed=1))
    return place


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work in another folder than that of the run."""
    monkeypatch.chdir(tmp_path)
    with unchecked():
        yield


def test_config_json_describes_the_images_and_has_an_absolute_path(place: Path) -> None:
    content = json.loads((place / "laptop" / "config.json").read_text())
    images = content["images"]
    assert (images["channels"], images["size"], images["classes"]) == (1, 8, 3)
    assert images["class_names"] == ["c0", "c1", "c2"]
    assert images["source"].startswith("images, grey, of their own size")
    assert content["config"]["data"]["path"] == str(place / "data")


def test_every_command_uses_the_model(place: Path) -> None:
    run, reference = str(place / "laptop"), str(place / "reference")
    assert sample([run, "--count", "4", "--out", "samples.npz"]) == 0
    assert sample([run, "--step", "8", "--count", "4", "--out", "same.npz"]) == 0
    assert Path("samples.npz").read_bytes() == Path("same.npz").read_bytes()
    assert evaluate([run, "--reference", reference, "--count", "6", "--json", "scores.json"]) == 0
    assert search([run, "--reference", reference, "--count", "4", "--nodes", "4", "--out", "search"]) == 0
    assert edit([run, "samples.npz", "--task", "inpaint", "--labels", "0", "--out", "edited"]) == 0
    assert figures(["--run", run, "--sheet", "3", "2", "--out", "sheets"]) == 0
    assert export_checkpoint.main([run, "--out", "network.safetensors"]) == 0
    network = load_exported(Path("network.safetensors"))
    assert network.class_names == ("c0", "c1", "c2")
    assert network.source == json.loads((place / "laptop" / "config.json").read_text())["images"]["source"]


def test_a_checkpoint_alone_is_enough(place: Path) -> None:
    shutil.copy(place / "laptop" / "checkpoint-00000008.safetensors", "alone.safetensors")
    assert sample(["alone.safetensors", "--count", "4", "--out", "alone.npz"]) == 0
    assert sample([str(place / "laptop"), "--count", "4", "--out", "run.npz"]) == 0
    assert Path("alone.npz").read_bytes() == Path("run.npz").read_bytes()
    assert export_checkpoint.main(["alone.safetensors", "--out", "network.safetensors"]) == 0
    model = load_pretrained(Path("alone.safetensors"))
    assert (model.event, model.classes, model.class_names) == ((1, 8, 8), 3, ("c0", "c1", "c2"))


def test_a_resumed_run_takes_the_new_path_of_its_data(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(place / "laptop", "run")
    assert launch([*OPTIONS, "--data.path", str(place / "data"), "--out", "run"]) == 2
    assert "/data" in rejection(capsys, "ict_ref.launch")
    assert launch([*OPTIONS, "--data.path", str(place / "elsewhere"), "--out", "run"]) == 0
    assert load_config(Path("run")).data.path == str(place / "elsewhere")
    assert read_run(Path("run")).identities == read_run(place / "laptop").identities


def test_a_run_of_format_1_without_its_data_is_rejected_with_the_remedy(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(place / "laptop", "old")
    file = Path("old/config.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({"ict_ref": "0.1.0", "config": content["config"]}))
    for checkpoint in Path("old").glob("checkpoint-*"):
        _as_format_1(checkpoint)
    assert sample(["old", "--count", "4"]) == 2
    line = rejection(capsys, "ict_ref.sample")
    assert "--data.path: version 0.1.0 stored the images' shape with the data only" in line
    assert "Resume the run once with --data.path" in line
    (place / "elsewhere").rename(place / "data")
    try:
        assert sample(["old", "--count", "4"]) == 0
    finally:
        (place / "data").rename(place / "elsewhere")


def _as_format_1(path: Path) -> None:
    """Write a checkpoint as version 0.1.0 did."""
    about, tensors = read_stored(path)
    kept = {name: about[name] for name in ("config", "step", "skipped")}
    digest = checksum(f"{kept['step']} {kept['config']} {kept['skipped']}", tensors)
    old = {"version": "0.1.0", **kept, "sha256": digest}
    path.write_bytes(safetensors.torch.save(tensors, {"ict_ref": json.dumps(old)}))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("7", "--step: expected the step of a checkpoint in "),
        ("-1", "--step: expected the step of a checkpoint in "),
        ("x", "--step: expected an integer, got x"),
    ],
)
def test_a_step_without_a_checkpoint_is_rejected(
    step: str, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample([str(place / "laptop"), "--step", step]) == 2
    assert message in rejection(capsys, "ict_ref.sample")


def test_a_step_is_for_run_folders_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file in ("checkpoint-00000008.safetensors", "network.safetensors"):
        path = place / "laptop" / file
        if not path.exists():
            assert export_checkpoint.main([str(place / "laptop"), "--out", file]) == 0
            path = Path(file)
            capsys.readouterr()
        assert sample([str(path), "--step", "8"]) == 2
        assert "--step: expected a run folder, got " in rejection(capsys, "ict_ref.sample")
