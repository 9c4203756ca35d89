"""The thread that writes checkpoints: what it writes, when it is waited for, and where its errors appear."""

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ict_ref.checkpoint.training_state import Checkpoint, checkpoints, load_checkpoint, save_checkpoint
from ict_ref.checkpoint.writer import CheckpointWriter


def numbered(step: int) -> Checkpoint:
    """Return a checkpoint whose tensors hold its step, one of them with channels innermost."""
    image = torch.arange(48.0).reshape(1, 3, 4, 4) + step
    tensors = {"w": torch.full((3,), float(step)), "x": image.to(memory_format=torch.channels_last)}
    return Checkpoint(step, tensors, "abc")


def on_files(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Call `action` before each file is synchronised with the disk."""
    sync = os.fsync

    def fsync(number: int) -> None:
        if stat.S_ISREG(os.fstat(number).st_mode):
            action()
        sync(number)

    monkeypatch.setattr("os.fsync", fsync)


def full() -> None:
    raise OSError(28, "No space left on device", "checkpoint")


def test_the_file_has_the_bits_of_the_moment_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    expected = save_checkpoint(tmp_path / "other", numbered(3)).read_bytes()
    changed = threading.Event()
    on_files(monkeypatch, lambda: changed.wait(20))
    checkpoint = numbered(3)
    with CheckpointWriter(tmp_path, keep=1) as writer:
        writer.save(checkpoint)
        assert checkpoints(tmp_path) == {}
        for tensor in checkpoint.tensors.values():
            tensor.fill_(9.0)
        changed.set()
    assert checkpoints(tmp_path)[3].read_bytes() == expected


def test_a_later_save_waits_for_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release, seen = threading.Event(), list[list[int]]()
    on_files(monkeypatch, lambda: release.wait(0.2))
    with CheckpointWriter(tmp_path, keep=2) as writer:
        for step in (1, 2, 3):
            writer.save(numbered(step))
            seen.append(sorted(checkpoints(tmp_path)))
    assert seen == [[], [1], [1, 2]]
    assert sorted(checkpoints(tmp_path)) == [2, 3]


def test_milestones_are_kept(tmp_path: Path) -> None:
    with CheckpointWriter(tmp_path, keep=1, milestones=(2,)) as writer:
        for step in (1, 2, 3, 4):
            writer.save(numbered(step))
    assert sorted(checkpoints(tmp_path)) == [2, 4]


@pytest.mark.parametrize("end", ["save", "wait", "exit"])
def test_an_error_of_the_thread_is_raised_once_in_the_thread_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    on_files(monkeypatch, full)
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.save(numbered(1))
    actions: dict[str, Callable[[], None]] = {"save": lambda: writer.save(numbered(2)), "wait": writer.wait}
    with pytest.raises(OSError, match="No space left"), writer:
        actions.get(end, lambda: None)()
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    with writer:
        writer.save(numbered(3))
    assert list(checkpoints(tmp_path)) == [3]


def test_an_error_of_the_block_waits_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_files(monkeypatch, lambda: threading.Event().wait(0.2))
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.save(numbered(1))
    with pytest.raises(KeyboardInterrupt), writer:
        raise KeyboardInterrupt
    assert load_checkpoint(checkpoints(tmp_path)[1]).step == 1


def test_an_error_of_the_block_stays_and_that_of_the_thread_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_files(monkeypatch, full)
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.save(numbered(1))
    with pytest.raises(FloatingPointError, match="loss"), writer:
        raise FloatingPointError("loss")
    assert capsys.readouterr().err == "ict_ref: warning: checkpoint was not written: No space left on device\n"


@pytest.mark.parametrize("error", [RuntimeError("a defect"), ValueError("a defect"), MemoryError("a defect")])
def test_any_error_of_the_thread_is_printed_beside_an_error_of_the_block(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ict_ref.checkpoint.writer.save_checkpoint", failing)
    writer = CheckpointWriter(tmp_path, keep=1)
    writer.save(numbered(1))
    with pytest.raises(FloatingPointError, match="loss"), writer:
        raise FloatingPointError("loss")
    line = f"ict_ref: warning: the checkpoint in {tmp_path} was not written: {type(error).__name__}: a defect\n"
    assert capsys.readouterr().err == line
    writer.save(numbered(1))
    with pytest.raises(type(error), match="a defect"), writer:
        pass


class Copies(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not annotate it
    """A mode that notes operations which allocate."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names = list[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.names.append(str(func))
        return result


def test_each_tensor_is_copied_once_and_keeps_its_strides(tmp_path: Path) -> None:
    # A mode sees the operations of its own thread, which are those of the run.
    checkpoint, mode = numbered(1), Copies()
    with CheckpointWriter(tmp_path, keep=1) as writer, mode:
        writer.save(checkpoint)
    assert mode.names == ["aten._to_copy.default"] * len(checkpoint.tensors)
