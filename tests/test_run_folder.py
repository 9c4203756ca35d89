import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ict_ref.config import minimal
from ict_ref.run_folder import (
    Checkpoint,
    forget_metrics_after,
    load_checkpoint,
    open_run,
    save_checkpoint,
    write_atomically,
)


def saved(folder: Path) -> Path:
    """Save a checkpoint of step 3 and return its file."""
    tensors = {"student/w": torch.arange(6.0).reshape(2, 3), "optimizer/step/w": torch.tensor(3.0)}
    save_checkpoint(folder, Checkpoint(3, tensors))
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


@pytest.mark.parametrize("about", ["", "[]", "{}", '{"step": "x", "sha256": ""}', '{"step": 3}'])
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


def test_somebody_else_s_safetensors_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="not a checkpoint of ict_ref"):
        load_checkpoint(tmp_path)


def test_a_pickle_is_refused_without_being_executed(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1)}, tmp_path / "checkpoint.safetensors")
    with pytest.raises(ValueError, match="damaged"):
        load_checkpoint(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"


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
