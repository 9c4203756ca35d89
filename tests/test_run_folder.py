import dataclasses
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from tests.configs import variants

import ict_ref
from ict_ref.config import Config, minimal
from ict_ref.files import write_atomically
from ict_ref.run_folder import (
    Checkpoint,
    forget_metrics_after,
    load_checkpoint,
    open_run,
    save_checkpoint,
)


def saved(folder: Path) -> Path:
    """Save a checkpoint of step 3 and return its file."""
    tensors = {"student/w": torch.arange(6.0).reshape(2, 3), "optimizer/step/w": torch.tensor(3.0)}
    save_checkpoint(folder, Checkpoint(3, tensors, "abc"))
    return folder / "checkpoint.safetensors"


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path)
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 3
    assert torch.equal(checkpoint.tensors["student/w"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(checkpoint.tensors["optimizer/step/w"], torch.tensor(3.0))


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    contents = {saved(tmp_path).read_bytes() for _ in range(5)}
    assert len(contents) == 1


@pytest.mark.parametrize(
    "about", ["", "[]", "{}", '{"step": "x", "config": "", "sha256": ""}', '{"step": 3, "sha256": ""}', '{"step": 3}']
)
def test_a_checkpoint_that_does_not_say_its_step_and_checksum_is_refused(tmp_path: Path, about: str) -> None:
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "checkpoint.safetensors", {"ict_ref": about})
    with pytest.raises(ValueError, match="not a checkpoint of ict_ref"):
        load_checkpoint(tmp_path)


def test_no_checkpoint_yet_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("length", [0, 5, 200, -1])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, length: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is damaged"):
        load_checkpoint(tmp_path)


def test_every_changed_byte_of_the_numbers_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path)
    content = path.read_bytes()
    for position in range(len(content) - 28, len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            load_checkpoint(tmp_path)


def test_a_folder_in_the_checkpoint_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").mkdir()
    with pytest.raises(ValueError, match="is not a file"):
        load_checkpoint(tmp_path)


def test_somebody_else_s_safetensors_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint of ict_ref"):
        load_checkpoint(tmp_path)


def test_a_pickle_is_refused_without_being_executed(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(tmp_path)


def forged(tensors: dict[str, torch.Tensor], **about: object) -> bytes:
    """Return a checkpoint file with the checksum of the one that `saved` saves, and something else changed."""
    original = {"student/w": torch.arange(6.0).reshape(2, 3), "optimizer/step/w": torch.tensor(3.0)}
    with (
        tempfile.TemporaryDirectory() as folder,
        safetensors.safe_open(saved(Path(folder)), framework="pt") as file,
    ):
        metadata = json.loads(file.metadata()["ict_ref"])
    return safetensors.torch.save(original | tensors, {"ict_ref": json.dumps(metadata | about)})


def test_the_checksum_covers_step_names_shapes_and_dtypes(tmp_path: Path) -> None:
    numbers = torch.arange(6.0)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(forged({}))
    assert load_checkpoint(tmp_path) is not None
    for content in (
        forged({}, step=4),
        forged({}, config="abd"),
        forged({"student/w": numbers.reshape(3, 2)}),
        forged({"student/w": numbers.reshape(2, 3).view(torch.int32)}),
        forged({"student/v": numbers}),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="its checksum differs"):
            load_checkpoint(tmp_path)
    renamed = safetensors.torch.load(forged({}))
    renamed["student/v"] = renamed.pop("student/w")
    metadata = json.dumps({"step": 3, "config": "abc", "sha256": hashlib.sha256(b"").hexdigest()})
    path.write_bytes(safetensors.torch.save(renamed, {"ict_ref": metadata}))
    with pytest.raises(ValueError, match="its checksum differs"):
        load_checkpoint(tmp_path)


def full(_: int) -> None:
    raise OSError(28, "No space left on device")


def begin(folder: Path) -> None:
    with open_run(folder, minimal()):
        pass


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("file", lambda folder: write_atomically(folder / "file", b"new and longer")),
        ("checkpoint.safetensors", lambda folder: save_checkpoint(folder, Checkpoint(4, {"w": torch.ones(2)}, "abc"))),
        ("metrics.jsonl", lambda folder: forget_metrics_after(folder, 0)),
        ("config.json", begin),
    ],
)
def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, write: Callable[[Path], None]
) -> None:
    if name != "config.json":
        (tmp_path / name).write_bytes(b'{"step": 1}\n')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    after.pop(".lock", None)
    assert after == before


def test_a_file_is_on_disk_before_it_takes_the_old_one_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []
    sync, replace = os.fsync, Path.replace

    def fsync(number: int) -> None:
        happened.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else "file")
        sync(number)

    def rename(self: Path, target: Path) -> Path:
        happened.append("rename")
        return replace(self, target)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    write_atomically(tmp_path / "file", b"content")
    assert happened == ["file", "rename", "folder"]


@pytest.mark.parametrize("line", ["{}", "[1]", "nonsense", '{"step": "x"}', ""])
def test_damaged_metrics_are_refused_and_kept(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n{{"step": 3}}\n')
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"metrics\.jsonl is damaged in line 2"):
        forget_metrics_after(tmp_path, 5)
    assert path.read_bytes() == before


def test_metrics_after_a_step_and_a_cut_off_line_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for cut_off in ('{"st', '{"step": 4}', ""):
        path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n' + cut_off)
        forget_metrics_after(tmp_path, 2)
        assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_a_new_folder_gets_the_configuration_and_is_opened_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with open_run(folder, minimal()):
        pass
    written = json.loads((folder / "config.json").read_text())
    assert written["config"] == json.loads(minimal().to_json())
    with open_run(folder, minimal()):
        pass


def test_the_run_of_another_configuration_is_refused_and_the_field_named(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    before = (tmp_path / "config.json").read_bytes()
    other = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, batch_size=32))
    with pytest.raises(ValueError, match=r"train\.batch_size is 16 there and 32 here"), open_run(tmp_path, other):
        pass
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_that_was_killed_while_beginning_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / "config.json.tmp").write_text('{"con')
    with open_run(tmp_path, minimal()):
        pass
    assert json.loads((tmp_path / "config.json").read_text())["ict_ref"] == ict_ref.__version__


@pytest.mark.parametrize("config", variants(), ids=lambda config: config.digest())
def test_a_difference_in_any_field_is_refused(tmp_path: Path, config: Config) -> None:
    with open_run(tmp_path, minimal()):
        pass
    with (
        pytest.raises(ValueError, match=r"is the run of another configuration: \w+\.\w+ is"),
        open_run(tmp_path, config),
    ):
        pass


def test_a_field_that_only_one_side_knows_is_refused(tmp_path: Path) -> None:
    with open_run(tmp_path, minimal()):
        pass
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["config"]["train"]["warm_up"] = 5
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"train\.warm_up is 5 there and None here"), open_run(tmp_path, minimal()):
        pass
    del content["config"]["train"]["warm_up"], content["config"]["train"]["seed"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"train\.seed is None there and 0 here"), open_run(tmp_path, minimal()):
        pass


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="not a run folder"), open_run(tmp_path, minimal()):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("precious")
    with pytest.raises(ValueError, match="is a file"), open_run(tmp_path / "run", minimal()):
        pass


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, minimal()),
        pytest.raises(ValueError, match="in use by another process"),
        open_run(tmp_path, minimal()),
    ):
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"config": 3}'])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"), open_run(tmp_path, minimal()):
        pass
