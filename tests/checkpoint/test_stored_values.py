"""Values of another type in a stored configuration or network file: one line names the file and the entry."""

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from tests.support.files import contents
from tests.support.networks import small_weights
from tests.support.one_line import rejection

from ict_ref.checkpoint.network_file import FORMAT, description, export, load_exported
from ict_ref.checkpoint.run_dir import read_run
from ict_ref.checkpoint.safetensors_io import metadata
from ict_ref.launch.__main__ import main as launch
from ict_ref.sample.__main__ import main as sample
from ict_ref.utils.json_file import shown

BIG = 10**400
RESUMED = ["--config", "minimal", "--train.steps", "30", "--out", "run"]
OPTIONS: list[tuple[str, Any, str]] = [
    ("network.embedding", "foo", "--network.embedding: expected one of positional, fourier, got foo"),
    ("network.blocks", 1.5, "--network.blocks: expected an integer, got 1.5"),
    ("network.width", 8.0, "--network.width: expected an integer, got 8.0"),
    ("network.width", BIG, "--network.width: expected an integer below 2^128, got 1000"),
    ("network.attention_resolutions", 5, "--network.attention-resolutions: expected a list, got 5"),
    ("network.attention_resolutions", ["4"], "--network.attention-resolutions[0]: expected an integer, got '4'"),
    ("network.adaptive_norm", "no", "--network.adaptive-norm: expected true or false, got 'no'"),
    ("network.dropout", None, "--network.dropout: expected a number, got None"),
    ("network.fourier_scale", BIG, "--network.fourier-scale: expected a number, got 1000"),
    ("method.curriculum", "foo", "--method.curriculum: expected one of exponential, sqrt, "),
    ("method.mu0", "0.9", "--method.mu0: expected a number or null, got '0.9'"),
    ("method.s1", float("inf"), "--method.s1: expected an integer, got inf"),
    ("data.labels", "no", "--data.labels: expected true or false, got 'no'"),
    ("data.flip", 1, "--data.flip: expected true or false, got 1"),
    ("data.path", 5, "--data.path: expected a string, got 5"),
    ("train.seed", 1.5, "--train.seed: expected an integer, got 1.5"),
    ("train.seed", True, "--train.seed: expected an integer, got True"),
    ("train.learning_rate", True, "--train.learning-rate: expected a number, got True"),
    ("sample.clip", "no", "--sample.clip: expected true or false, got 'no'"),
    ("acceptance.recall", [], "--acceptance.recall: expected a number or null, got []"),
    ("machine.device", "gpu", "--machine.device: expected one of auto, cpu, cuda, got gpu"),
    ("record.keep", "3", "--record.keep: expected an integer, got '3'"),
    ("record", 5, "--record: expected an object, got 5"),
]
ENTRIES: list[tuple[str, Any, str]] = [
    ("config", 5, "config: expected an object, got 5"),
    ("images.channels", float("inf"), "images.channels: expected an integer, got inf"),
    ("images.channels", 0, "images.channels: expected an integer >= 1, got 0"),
    ("images.size", 8.0, "images.size: expected an integer, got 8.0"),
    ("images.classes", -1, "images.classes: expected an integer >= 0, got -1"),
    ("images.class_names", "ab", "images.class_names: expected a list or null, got 'ab'"),
    ("images.source", 5, "images.source: expected a string, got 5"),
    ("images", 5, "images: expected an object, got 5"),
    ("images", {}, "images.channels: expected an entry, got none"),
    ("identities", 5, "identities: expected a list, got 5"),
    ("identities", None, "identities: expected a list, got None"),
    ("identities", [5], "identities[0]: expected a string, got 5"),
    ("identities", [], "identities: expected one or more, got none"),
    ("digest_of_0_1_0", 5, "digest_of_0_1_0: expected a string or null, got 5"),
    ("format", BIG, "expected format 2 or lower, got 1000"),
]


pytestmark = pytest.mark.usefixtures("copied_run")


def changed(name: str, value: Any, within: str = "") -> None:
    """Change an entry of config.json."""
    content = json.loads(Path("run/config.json").read_text())
    place = content[within] if within else content
    *groups, last = name.split(".")
    for group in groups:
        place = place[group]
    place[last] = value
    Path("run/config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "value", "complaint", "within"),
    [
        *(pytest.param(*case, "config", id=f"{case[0]}-{shown(case[1])}") for case in OPTIONS),
        *(pytest.param(*case, "", id=f"{case[0]}-{shown(case[1])}") for case in ENTRIES),
    ],
)
@pytest.mark.parametrize(("command", "main", "options"), [("sample", sample, ["run"]), ("launch", launch, RESUMED)])
def test_a_value_of_another_type_in_config_json_is_rejected(
    name: str, value: Any, complaint: str, within: str, command: str, main: Any, options: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    changed(name, value, within)
    before = Path("run/config.json").read_bytes()
    capsys.readouterr()
    assert main(options) == 2
    line = rejection(capsys, f"ict_ref.{command}")
    assert "run/config.json" in line
    assert complaint in line
    assert len(line) < 400
    assert Path("run/config.json").read_bytes() == before


@pytest.mark.parametrize("text", [b"[" * 100_000, b"\xff", b"{", b"[]"], ids=["deep", "bytes", "cut", "list"])
@pytest.mark.parametrize(("command", "main", "options"), [("sample", sample, ["run"]), ("launch", launch, RESUMED)])
def test_a_config_json_that_is_not_an_object_is_rejected(
    text: bytes, command: str, main: Any, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/config.json").write_bytes(text)
    before = contents(Path("run"))
    capsys.readouterr()
    assert main(options) == 2
    assert "run/config.json is damaged: it is not a JSON object." in rejection(capsys, f"ict_ref.{command}")
    assert contents(Path("run")) == before


def test_an_integer_for_a_number_is_kept_as_it_is() -> None:
    changed("network.time_scale", 1, "config")
    assert type(read_run(Path("run")).config.network.time_scale) is int


NETWORK: list[tuple[str, Any, str]] = [
    ("size", "8", "size: expected an integer, got '8'"),
    ("size", 7, "f.safetensors "),
    ("size", 10**30, "f.safetensors "),
    ("channels", -1, "channels: expected an integer >= 1, got -1"),
    ("channels", 1.0, "channels: expected an integer, got 1.0"),
    ("channels", 10**30, "f.safetensors "),
    ("classes", True, "classes: expected an integer, got True"),
    ("classes", 10**30, "f.safetensors "),
    ("classes", BIG, "classes: expected an integer below 2^128, got 1000"),
    ("sigma_min", "x", "sigma_min: expected a number, got 'x'"),
    ("sigma_min", -1, "--method.sigma-min: expected 0 < sigma_min"),
    ("sigma_data", float("nan"), "--method.sigma-data: expected 0 < sigma_data"),
    ("sigma_max", 1e300, "--method.sigma-max: expected 0 < sigma < infinity in float32, got 1e+300"),
    ("sigma_min", 1e-60, "--method.sigma-min: expected 0 < sigma < infinity in float32, got 1e-60"),
    (
        "sigma_data",
        1e300,
        "--method.sigma-data: expected a number that float32 can square without an overflow, got",
    ),
    ("class_names", [5], "class_names[0]: expected a string, got 5"),
    ("source", None, "source: expected a string, got None"),
    ("network.blocks", 1.5, "--network.blocks: expected an integer, got 1.5"),
    ("network.blocks", 10**30, "--network.blocks: expected an integer between 1 and 64, got 1"),
    ("network.embedding", "foo", "--network.embedding: expected one of positional, fourier, got foo"),
    ("network", 5, "--network: expected an object, got 5"),
    ("state", {}, "is not a network file"),
    ("options", {}, "is not a network file"),
    ("format", BIG, "expected format 2 or lower, got 1000"),
]


def exported(name: str, value: Any) -> None:
    """Write a network file with another value in its description, and a checksum that fits."""
    checkpoint = small_weights(channels=1, classes=10)
    about = description(checkpoint)
    place = about["network"] if name.startswith("network.") else about
    place[name.removeprefix("network.")] = value
    tensors = dict(checkpoint.state)
    described = metadata(about, tensors, FORMAT)
    Path("f.safetensors").write_bytes(safetensors.torch.save(tensors, described))


@pytest.mark.parametrize(
    ("name", "value", "complaint"), NETWORK, ids=[f"{case[0]}-{shown(case[1])}" for case in NETWORK]
)
def test_a_value_of_another_type_in_a_network_file_is_rejected(
    name: str, value: Any, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    exported(name, value)
    assert sample(["f.safetensors", "--count", "1"]) == 2
    line = rejection(capsys, "ict_ref.sample")
    assert "f.safetensors" in line
    assert complaint in line
    assert len(line) < 400


def test_integer_tensors_in_a_network_file_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = small_weights(channels=1, classes=10)
    export(checkpoint, Path("whole.safetensors"))
    assert load_exported(Path("whole.safetensors")).classes == checkpoint.classes
    tensors = {name: tensor.to(torch.int64) for name, tensor in checkpoint.state.items()}
    described = metadata(description(checkpoint), tensors, FORMAT)
    Path("f.safetensors").write_bytes(safetensors.torch.save(tensors, described))
    assert sample(["f.safetensors", "--count", "1"]) == 2
    line = rejection(capsys, "ict_ref.sample")
    assert "f.safetensors: " in line
    assert "expected tensors of finite floats, got " in line


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, "{"], ids=["deep", "long", "cut"])
def test_a_description_that_is_not_json_is_not_one_of_ict_ref(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {"a": torch.zeros(1)}
    Path("f.safetensors").write_bytes(safetensors.torch.save(tensors, {"ict_ref": text}))
    assert sample(["f.safetensors", "--count", "1"]) == 2
    assert "f.safetensors is not a network file" in rejection(capsys, "ict_ref.sample")
