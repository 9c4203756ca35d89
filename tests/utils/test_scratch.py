"""Scratch folders: those of killed processes are deleted, and those of anyone else are not."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ict_ref.utils.locks import lock_file
from ict_ref.utils.scratch import LOCK, remove_abandoned, scratch_folder


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an empty temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def aged(folder: Path) -> Path:
    """Let a folder be two minutes old."""
    os.utime(folder, (folder.stat().st_atime - 120, folder.stat().st_mtime - 120))
    return folder


def test_the_folder_of_a_killed_process_is_deleted(tmp_path: Path) -> None:
    code = "import os, signal\nfrom ict_ref.utils.scratch import scratch_folder\n"
    code += "with scratch_folder() as place: (place / 'log').touch(); os.kill(os.getpid(), signal.SIGKILL)"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == -9
    (left,) = tmp_path.iterdir()
    with scratch_folder() as new:
        assert sorted(tmp_path.iterdir()) == sorted([left, new])  # it may be that of a process that begins
    aged(left)
    with scratch_folder() as new:
        assert list(tmp_path.iterdir()) == [new]
    assert list(tmp_path.iterdir()) == []


def test_folders_in_use_and_of_others_stay(tmp_path: Path) -> None:
    used, unlocked, linked = tmp_path / "ict_ref-used", tmp_path / "ict_ref-plain", tmp_path / "elsewhere"
    for folder in (used, unlocked, linked):
        folder.mkdir()
    (linked / LOCK).touch()
    (tmp_path / "ict_ref-link").symlink_to(linked)
    with lock_file(used / LOCK):
        for folder in (used, unlocked, linked):
            aged(folder)
        before = sorted(tmp_path.rglob("*"))
        remove_abandoned(tmp_path)
        assert sorted(tmp_path.rglob("*")) == before
