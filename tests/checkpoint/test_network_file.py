import dataclasses
import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.support.networks import VARIANTS, configured, inputs, small
from tests.support.runs import updated

from ict_ref import export_checkpoint
from ict_ref.checkpoint.network_file import FORMAT, description, export, load_exported
from ict_ref.checkpoint.run_dir import open_run
from ict_ref.checkpoint.safetensors_io import metadata
from ict_ref.config import minimal
from ict_ref.data.dataset import load
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.training.loop import fit, resume
from ict_ref.training.trainer import Trainer


def weights_of(kind: str) -> NetworkCheckpoint:
    """Return the weights of a small network, in float64."""
    model = small(**VARIANTS[kind])
    return NetworkCheckpoint(
        options=configured(**VARIANTS[kind]).network,
        channels=1,
        size=8,
        classes=10,
        state={name: value.clone() for name, value in model.network.state_dict().items()},
        sigma_min=0.003,
        sigma_data=0.4,
    )


@pytest.mark.parametrize("kind", VARIANTS)
def test_a_network_is_read_back_as_it_was_written(kind: str, tmp_path: Path) -> None:
    weights = weights_of(kind)
    export(weights, tmp_path / "network.safetensors")
    again = load_exported(tmp_path / "network.safetensors")
    assert dataclasses.replace(again, state={}) == dataclasses.replace(weights, state={})
    x, sigma, labels = inputs()
    assert torch.equal(again.model(torch.float64)(x, sigma, labels), weights.model(torch.float64)(x, sigma, labels))
    assert (again.model().sigma_min, again.model().sigma_data) == (0.003, 0.4)
    assert next(again.model().parameters()).dtype == torch.float32
    assert next(again.model().parameters()).requires_grad


def test_equal_networks_are_equal_files_and_files_are_not_overwritten(tmp_path: Path) -> None:
    weights = weights_of("NCSN++")
    for name in ("a", "b"):
        export(weights, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match=r"expected a new path, got .*Existing files are not overwritten"):
        export(weights_of("ADM"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_half_precision_is_kept(tmp_path: Path) -> None:
    weights = weights_of("ADM")
    halved = dataclasses.replace(weights, state={name: value.bfloat16() for name, value in weights.state.items()})
    export(halved, tmp_path / "network")
    assert {value.dtype for value in load_exported(tmp_path / "network").state.values()} == {torch.bfloat16}


def test_damaged_and_foreign_files_are_rejected(tmp_path: Path) -> None:
    file = tmp_path / "network"
    with pytest.raises(ValueError, match="does not exist"):
        load_exported(file)
    weights = weights_of("ADM")
    export(weights, file)
    whole = file.read_bytes()
    for bad, complaint in (
        (whole[:-9], "is damaged or not safetensors"),
        (b"", "is damaged or not safetensors"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "its checksum differs"),
        (whole.replace(b'\\"sigma_min\\": 0.003', b'\\"sigma_min\\": 0.004'), "its checksum differs"),
        (whole.replace(b'\\"dropout\\": 0.1', b'\\"dropped\\": 0.1'), "is not a network file of this version"),
        (safetensors.torch.save({"a": torch.zeros(1)}), "is not a network file of this version"),
        (safetensors.torch.save({"a": torch.zeros(1)}, {"ict_ref": "[1]"}), "is not a network file of this version"),
    ):
        assert bad != whole
        file.write_bytes(bad)
        with pytest.raises(ValueError, match=complaint) as caught:
            load_exported(file)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["nan", "inf", "int8", "bool", "complex64"])
def test_a_file_with_tensors_that_are_not_finite_floats_is_rejected(kind: str, tmp_path: Path) -> None:
    weights, file = weights_of("ADM"), tmp_path / "network"
    name = next(iter(weights.state))
    value = weights.state[name]
    changed = value * float(kind) if kind in ("nan", "inf") else value.to(getattr(torch, kind))
    tensors = {**weights.state, name: changed}
    if kind == "complex64" and version("safetensors").startswith("0.5."):
        pytest.skip("safetensors 0.5 does not write complex numbers")
    file.write_bytes(safetensors.torch.save(tensors, metadata(description(weights), tensors, FORMAT)))
    has = f"{name} has {'a NaN or an infinity' if kind in ('nan', 'inf') else kind}"
    with pytest.raises(ValueError, match=rf"network: expected tensors of finite floats, got {re.escape(has)}\. Import"):
        load_exported(file)


def test_a_file_with_other_tensors_than_those_of_its_network_is_rejected(tmp_path: Path) -> None:
    weights = weights_of("ADM")
    fewer = {name: value for name, value in weights.state.items() if name != "stem.bias"}
    export(dataclasses.replace(weights, state=fewer), tmp_path / "network")
    with pytest.raises(ValueError, match="other tensors than its network"):
        load_exported(tmp_path / "network")


@pytest.mark.parametrize("kind", ["ADM", "NCSN++"])
def test_the_ema_weights_of_a_run_are_exported(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = configured("float32", **VARIANTS[kind])
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, sigma_data=0.4))
    run, file = tmp_path / "run", tmp_path / "out" / "network.safetensors"
    trainer = Trainer(config, load(config.data).train)
    with open_run(run, config):
        assert export_checkpoint.main([str(run), "--out", str(file)]) == 2
        assert "has no checkpoint yet" in capsys.readouterr().err
        assert not fit(trainer, run, lambda: trainer.step >= 3)
    assert export_checkpoint.main([str(run), "--out", str(file)]) == 0
    assert "after step 3" in capsys.readouterr().out
    model = load_exported(file).model()
    x, sigma, labels = inputs(dtype=torch.float32)
    assert torch.equal(model(x, sigma, labels), trainer.ema(x, sigma, labels))
    assert not torch.equal(model(x, sigma, labels), trainer.student(x, sigma, labels))
    assert export_checkpoint.main([str(run), "--out", str(file)]) == 2
    assert "expected a new path, got " in capsys.readouterr().err


def test_a_folder_that_is_not_a_run_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_checkpoint.main([str(tmp_path), "--out", str(tmp_path / "network")]) == 2
    assert "is not a run folder" in capsys.readouterr().err
    for text in ("{", "[]", '{"config": {"nothing": {}}}', '{"config": {"train": {"steps": 0}}}'):
        (tmp_path / "config.json").write_text(text)
        assert export_checkpoint.main([str(tmp_path), "--out", str(tmp_path / "network")]) == 2
        error = capsys.readouterr().err
        assert "config.json is damaged" in error
        assert len(error.splitlines()) == 1
    (tmp_path / "config.json").write_text(json.dumps({"config": json.loads(minimal().to_json())}))
    (tmp_path / "checkpoint-00000001.safetensors").write_bytes(b"nothing")
    assert export_checkpoint.main([str(tmp_path), "--out", str(tmp_path / "network")]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_frequencies_are_saved_with_the_run_and_restored_from_it(tmp_path: Path) -> None:
    config = configured("float32", **VARIANTS["NCSN++"])
    images = load(config.data).train
    trainer = Trainer(config, images)
    frequencies = torch.arange(8) / 8
    for model in (trainer.student, trainer.ema):
        model.network.embedding.features.frequencies.copy_(frequencies)
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 2)
    again = Trainer(config, images)
    assert not torch.equal(again.student.network.embedding.features.frequencies, frequencies)
    resume(again, tmp_path)
    for model in (again.student, again.ema):
        assert torch.equal(model.network.embedding.features.frequencies, frequencies)
    assert updated(again) == updated(trainer)
