import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ict_ref.checkpoint.run_dir import open_run
from ict_ref.checkpoint.training_state import Checkpoint, save_checkpoint
from ict_ref.config import minimal
from ict_ref.training.metrics_log import forget_metrics_after
from ict_ref.utils.atomic import atomically, write_atomically


def full(_: int) -> None:
    raise OSError(28, "No space left on device")


def begin(folder: Path) -> None:
    with open_run(folder, minimal()):
        pass


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("file", lambda folder: write_atomically(folder / "file", b"new and longer")),
        (
            "checkpoint-00000004.safetensors",
            lambda folder: save_checkpoint(folder, Checkpoint(4, {"w": torch.ones(2)}, "abc")),
        ),
        ("metrics.jsonl", lambda folder: forget_metrics_after(folder, 0)),
        ("config.json", begin),
    ],
)
def test_a_failed_write_leaves_the_old_file(
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


def test_a_file_is_on_disk_before_it_replaces_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_failed_block_leaves_the_old_file_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def half() -> None:
        with atomically(path) as aside:
            aside.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
