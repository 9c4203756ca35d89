"""Locks: one holder, nothing truncated or followed, with and without flock."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ict_ref.utils import locks
from ict_ref.utils.locks import OWNER, lock_file, refuse_locked

HOLD = "import sys, pathlib\nfrom ict_ref.utils.locks import lock_file\n"
HOLD += "with lock_file(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()\n"


@pytest.fixture(params=[0, errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system with flock (0), or one whose flock has this error."""

    def missing(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    if request.param:
        monkeypatch.setattr(fcntl, "flock", missing)


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system without flock."""

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(fcntl, "flock", missing)


@pytest.mark.usefixtures("flock")
def test_one_holds_the_lock_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".a.npz.lock"
    for _ in range(2):
        with lock_file(path) as lock:
            assert not lock.existed
            says = r"/a\.npz is in use by another process\. Wait for it"
            with pytest.raises(ValueError, match=says), lock_file(path):
                pass
            with pytest.raises(ValueError, match=says):
                refuse_locked(path)
        refuse_locked(path)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("flock")
def test_the_file_of_a_killed_process_is_named_and_stays_if_asked(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.touch()
    with lock_file(path) as lock:
        assert lock.existed
        lock.stays = True
    assert path.read_bytes() == b""


@pytest.mark.usefixtures("flock")
def test_a_file_with_content_is_not_a_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text("mine")
    message = r"\.lock: expected a lock file, which is empty, got a file with content\. Move it away\."
    with pytest.raises(ValueError, match=message), lock_file(path):
        pass
    with pytest.raises(ValueError, match=message):
        refuse_locked(path)
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {".lock": "mine"}


@pytest.mark.usefixtures("flock")
def test_a_link_is_neither_followed_nor_changed(tmp_path: Path) -> None:
    mine, path = tmp_path / "mine", tmp_path / ".lock"
    mine.write_text("mine")
    for target in (mine, tmp_path / "nothing"):
        path.symlink_to(target)
        with pytest.raises(ValueError, match=r"\.lock: expected a lock file, got a symbolic link"), lock_file(path):
            pass
        path.unlink()
    assert mine.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [mine]


def test_a_pipe_or_a_folder_is_rejected_at_once(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    os.mkfifo(path)
    with (
        pytest.raises(ValueError, match="expected a lock file, which is empty, got another kind"),
        lock_file(path),
    ):
        pass
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError), lock_file(path):
        pass


def test_a_deleted_file_that_another_process_had_open_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, lock, happened = tmp_path / ".lock", fcntl.flock, list[str]()
    path.touch()

    def late(number: int, how: int) -> None:
        if not happened:  # its holder ends between the opening and the locking of this process
            path.unlink()
            path.touch()
        happened.append("locked")
        lock(number, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock_file(path):
        assert happened == ["locked", "locked"]
        with pytest.raises(ValueError, match="in use"), lock_file(path):
            pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with holder(path) as process:
        with pytest.raises(ValueError, match="in use"), lock_file(path):
            pass
        process.kill()
        process.wait()
        with lock_file(path) as lock:
            assert lock.existed


def test_another_error_of_flock_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", failing)
    with pytest.raises(OSError, match="Input/output error") as caught, lock_file(tmp_path / ".lock"):
        pass
    assert caught.value.filename == str(tmp_path / ".lock")


class holder:  # noqa: N801 (a context manager)
    """A process that holds a lock."""

    def __init__(self, path: Path) -> None:
        self.command = [sys.executable, "-c", HOLD, str(path)]

    def __enter__(self) -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"
        return self.process

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def owner(changed: dict[str, Any]) -> str:
    """Return the content of an owner's file: this process, with these changes."""
    mine = {**locks._here(), "pid": os.getpid(), "started": locks._started(os.getpid()), "token": "abc"}
    return json.dumps(mine | changed)


@pytest.fixture
def ended() -> Iterator[tuple[int, int]]:
    """Return the number and the start of a process that has ended, but was not waited for."""
    child = os.fork()
    if child == 0:
        time.sleep(0.2)
        os._exit(0)
    started = locks._started(child)
    assert started is not None
    deadline = time.monotonic() + 20
    while locks._started(child) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield child, started
    os.waitpid(child, 0)


@pytest.mark.usefixtures("no_flock")
def test_the_file_of_a_process_that_has_ended_is_replaced(
    tmp_path: Path, ended: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    path, pid = tmp_path / ".lock", os.getpid()
    number, started = ended
    mine = locks._started(pid)
    assert mine is not None
    for content in (
        owner({"pid": number, "started": started}),
        owner({"started": mine - 1}),
        owner({"pid": 2**22 + 1}),
    ):
        (tmp_path / f".lock{OWNER}").write_text(content)
        with lock_file(path) as lock:
            assert lock.existed
            assert json.loads((tmp_path / f".lock{OWNER}").read_text())["pid"] == pid
            with pytest.raises(ValueError, match="in use"), lock_file(path):
                pass
        assert list(tmp_path.iterdir()) == []
        note = f"ict_ref: note: {tmp_path} has no file locks (Function not implemented); .lock.owner is the lock\n"
        assert capsys.readouterr().err == note


MACHINE = {"host": "n1", "machine": "0123", "boot": "b2", "pids": "pid:[4026531836]"}
"""A machine, seen from a process outside of containers."""


@pytest.mark.usefixtures("no_flock")
def test_the_file_of_a_process_before_a_restart_of_this_machine_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ict_ref.utils.locks._here", lambda: MACHINE)
    file = tmp_path / ".lock.owner"
    file.write_text(owner({**MACHINE, "boot": "b1"}))
    refuse_locked(tmp_path / ".lock")
    with lock_file(tmp_path / ".lock") as lock:
        assert lock.existed
        assert json.loads(file.read_text())["boot"] == "b2"
    assert not file.exists()


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({}, {"boot": "b1", "machine": "4567"}),  # another machine of this name
        ({}, {"boot": "b1", "host": "n2"}),
        ({}, {"boot": "b1", "machine": None}),  # of an earlier version
        ({"machine": ""}, {"boot": "b1", "machine": ""}),
        ({"pids": "pid:[4026532201]"}, {"boot": "b1", "pids": "pid:[4026532201]"}),  # containers of one image
        ({}, {"boot": "b1", "pids": "pid:[4026532201]"}),
        ({}, {"boot": ""}),
        ({"boot": ""}, {"boot": "b1"}),
    ],
)
def test_a_process_that_may_run_on_another_machine_keeps_its_lock(
    here: dict[str, str], there: dict[str, str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ict_ref.utils.locks._here", lambda: MACHINE | here)
    file = tmp_path / ".lock.owner"
    content = {name: value for name, value in json.loads(owner({**MACHINE, **there})).items() if value is not None}
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is the lock of process \d+ on host n"), lock_file(tmp_path / ".lock"):
        pass
    assert json.loads(file.read_text()) == content


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize("where", ["host", "pids"])
def test_the_file_of_another_host_is_named_and_stays(where: str, tmp_path: Path) -> None:
    file = tmp_path / f".lock{OWNER}"
    file.write_text(owner({where: "n017"}))
    whose = r"\.lock\.owner is the lock of process \d+ on host \S+\. Wait for it, or delete the file if that process"
    with pytest.raises(ValueError, match=whose), lock_file(tmp_path / ".lock"):
        pass
    with pytest.raises(ValueError, match=whose):
        refuse_locked(tmp_path / ".lock")
    assert json.loads(file.read_text())[where] == "n017"


@pytest.mark.usefixtures("no_flock")
@pytest.mark.parametrize(
    "content", ["", "{}", "[" * 10_000, owner({"token": "../a"}), owner({"pid": "1"}), owner({"started": -1})]
)
def test_a_damaged_file_is_named_and_stays(content: str, tmp_path: Path) -> None:
    file = tmp_path / f".lock{OWNER}"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"\.lock\.owner"), lock_file(tmp_path / ".lock"):
        pass
    assert file.read_text() == content


@pytest.mark.usefixtures("no_flock")
def test_of_two_that_replace_the_same_file_one_gets_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, refuse, nested = tmp_path / f".lock{OWNER}", locks._refuse_living, list[bool]()
    file.write_text(owner({"started": 1}))

    def meanwhile(path: Path, there: Any) -> None:
        refuse(path, there)
        if not nested:  # another process sees the same and is faster
            nested.append(True)
            file.unlink()
            file.write_text(owner({"token": "def"}))

    monkeypatch.setattr(locks, "_refuse_living", meanwhile)
    with pytest.raises(ValueError, match="in use"), lock_file(tmp_path / ".lock"):
        pass
    assert json.loads(file.read_text())["token"] == "def"  # noqa: S105
