"""Errors and signals as one line and an exit status, for all commands."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ict_ref.distributed.process_group import _lost_processes_named
from ict_ref.utils.command_line import guarded, refuse_place
from ict_ref.utils.signals import LostProcessError


def allocate() -> int:
    """Ask torch for more memory than there is."""
    return len(torch.empty(1 << 60))


def raises(error: BaseException) -> int:
    """Raise it."""
    raise error


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (ValueError("give\nmore"), 2, "give more"),
        (MemoryError("1 TiB"), 2, "not enough memory on this machine: 1 TiB"),
        (PermissionError(13, "Permission denied", "/x/y"), 2, "cannot use /x/y: Permission denied"),
        (OSError("odd"), 2, "cannot use a file or standard output: odd"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to\nallocate"), 2, "CUDA out of memory"),
        (KeyboardInterrupt(), 130, "stopped"),
        (KeyboardInterrupt(15), 143, "stopped"),
        (LostProcessError("Connection closed"), 3, "another process was lost (Connection closed)"),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    error: BaseException, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded("ict_ref.it", lambda: raises(error)) == status
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ict_ref.it: ")
    assert says in line


def test_more_memory_than_there_is_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded("ict_ref.it", allocate) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not enough memory" in line


def test_of_gloo_s_errors_a_lost_process_is_one_and_a_defect_is_not() -> None:
    with pytest.raises(LostProcessError, match="closed by peer"), _lost_processes_named():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    with pytest.raises(LostProcessError, match="store"), _lost_processes_named():
        raise torch.distributed.DistStoreError("store")
    with pytest.raises(RuntimeError, match="ours"), _lost_processes_named():
        raise RuntimeError("ours")


def test_a_defect_is_not_hidden() -> None:
    for error in (RuntimeError("ours"), TypeError("ours"), KeyError("ours")):
        with pytest.raises(type(error), match="ours"):
            guarded("ict_ref.it", lambda error=error: raises(error))  # type: ignore[misc]


def test_a_place_is_new_and_can_be_written_to(tmp_path: Path) -> None:
    refuse_place(tmp_path / "a" / "b" / "c.png")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link"):
        with pytest.raises(ValueError, match="Existing files are not overwritten; choose another --out"):
            refuse_place(tmp_path / name)
    with pytest.raises(ValueError, match=r"--json: expected a path in a writable folder"):
        refuse_place(tmp_path / "file" / "x", "--json")


@pytest.mark.parametrize("size", ["1", "2"])
def test_a_process_that_leaves_has_said_everything(size: str) -> None:
    code = "from ict_ref.utils.command_line import leave\nprint('all', end='')\nleave(5)"
    environment = {**os.environ, "WORLD_SIZE": size}
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, env=environment)
    assert (done.returncode, done.stdout) == (5, b"all")


def test_who_reads_no_more_is_no_error() -> None:
    code = (
        "from ict_ref.utils.command_line import guarded, leave\n"
        "def it():\n    while True: print('y' * 999)\n"
        "leave(guarded('it', it))"
    )
    done = subprocess.run(
        ["bash", "-c", f'{sys.executable} -c "$CODE" | head -1 > /dev/null; exit ${{PIPESTATUS[0]}}'],  # noqa: S607
        check=False,
        capture_output=True,
        env={**os.environ, "CODE": code},
    )
    assert (done.returncode, done.stderr) == (141, b"")
