import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ict_ref.checkpoint.run_dir import open_run
from ict_ref.checkpoint.training_state import Checkpoint, save_checkpoint
from ict_ref.config import minimal
from ict_ref.training.loggers import JsonLines
from ict_ref.training.metrics_log import forget_metrics_after
from ict_ref.utils.atomic import (
    atomically,
    lock_of,
    remove_leftovers,
    temporary,
    write_atomically,
    write_under_lock,
    written_name,
)
from ict_ref.utils.locks import lock_file


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


def test_files_beside_with_the_end_tmp_stay(tmp_path: Path) -> None:
    kept, linked = tmp_path / "kept", tmp_path / "file.tmp"
    kept.write_text("mine")
    linked.symlink_to(kept)
    write_atomically(tmp_path / "file", b"content")
    with pytest.raises(KeyboardInterrupt), atomically(tmp_path / "file"):
        raise KeyboardInterrupt
    assert (kept.read_text(), linked.readlink()) == ("mine", kept)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", "file", "file.tmp"}


def test_the_temporary_file_is_new_and_its_name_is_not_known_before(tmp_path: Path) -> None:
    with atomically(tmp_path / "file") as one, atomically(tmp_path / "file") as other:
        assert one.read_bytes() == other.read_bytes() == b""
        assert one != other
        assert {written_name(path.name) for path in tmp_path.iterdir()} == {"file"}


def test_an_existing_temporary_file_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "0" * 16)
    temporary(tmp_path / "file").symlink_to(tmp_path / "kept")
    with pytest.raises(FileExistsError, match="file"):
        write_atomically(tmp_path / "file", b"content")
    assert [path.is_symlink() for path in tmp_path.iterdir()] == [True]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"content")
        save_checkpoint(tmp_path, Checkpoint(4, {"w": torch.ones(2)}, "abc"))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~mask}


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_is_neither_replaced_nor_followed(tmp_path: Path, there: bool) -> None:
    kept = tmp_path / "kept"
    if there:
        kept.write_text("mine")
    (tmp_path / "file").symlink_to("kept")
    message = r"file: expected a regular file, got a symbolic link to kept\. Replace the link by the file\."
    with pytest.raises(ValueError, match=message):
        write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").is_symlink()
    assert kept.exists() == there
    assert len(list(tmp_path.iterdir())) == 1 + there


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "folder" / "file", b"content")
    assert caught.value.filename == str(tmp_path / "folder" / "file")


def test_leftovers_of_the_chosen_files_alone_are_removed(tmp_path: Path) -> None:
    left, folder, others = (temporary(tmp_path / name) for name in ("file", "folder", "others"))
    left.touch()
    folder.mkdir()
    (folder / "part").touch()
    link = temporary(tmp_path / "file")
    link.symlink_to(tmp_path / "others")
    stay = [others, tmp_path / ".file.tmp", tmp_path / "file.tmp", tmp_path / "file", tmp_path / ".file.0123.tmp"]
    for path in stay:
        path.touch()
    remove_leftovers(tmp_path, {"file", "folder"}.__contains__)
    assert set(tmp_path.iterdir()) == {*stay, link}


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    for name in ("checkpoint-00000003.safetensors", "metrics.jsonl", "curve.json"):
        temporary(tmp_path / name).touch()
    (tmp_path / "metrics.jsonl").touch()
    forget_metrics_after(tmp_path, 0)
    save_checkpoint(tmp_path, Checkpoint(4, {"w": torch.ones(2)}, "abc"))
    # Another process may be writing the curve.
    left = {written_name(path.name) for path in tmp_path.iterdir()}
    assert left == {"checkpoint-00000004.safetensors", "metrics.jsonl", "curve.json"}


def test_metrics_are_not_written_through_a_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text('{"step": 1}\n')
    (tmp_path / "metrics.jsonl").symlink_to(kept)
    for write in (lambda: JsonLines(tmp_path), lambda: forget_metrics_after(tmp_path, 0)):
        with pytest.raises(ValueError, match=r"metrics\.jsonl: expected a regular file, got a symbolic link"):
            write()
    assert kept.read_text() == '{"step": 1}\n'


def test_a_file_is_written_under_its_lock_without_the_leftovers_of_killed_processes(tmp_path: Path) -> None:
    path, other = tmp_path / "report", temporary(tmp_path / "another")
    for content in (b"old", b"new"):
        temporary(path).write_bytes(b"cut")
        other.write_bytes(b"of another file")
        write_under_lock(path, content)
        assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
            "report": content,
            other.name: b"of another file",
        }
    with lock_file(lock_of(path)), pytest.raises(ValueError, match="report is in use by another process"):
        write_under_lock(path, b"later")
    assert path.read_bytes() == b"new"
