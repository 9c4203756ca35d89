"""New files of a command: one commit point, nothing overwritten, nothing left over."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.kills import contents, unclean

from ict_ref.utils import atomic
from ict_ref.utils.atomic import lock_of, new_files, refuse_outputs, rename_new


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def two(end: str = "") -> None:
    """Write two files, the second last."""
    with new_files(Path("a.json"), Path("a.npz")) as new:
        new.write(Path("a.json"), b"about" + end.encode())
        with new.file(Path("a.npz")).open("wb") as file:
            file.write(b"content")


def folder() -> None:
    """Write a folder with a folder in it."""
    with new_files(Path("a")) as new:
        aside = new.folder(Path("a"))
        (aside / "b").mkdir()
        for name in ("b/1", "b/2", "c"):
            (aside / name).write_bytes(name.encode())


def without_renameat2(*_: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


def without_link(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["renameat2", "link", "rename"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a file system with all calls, without renameat2, or without link too, as NFS and FAT."""
    if request.param != "renameat2":
        monkeypatch.setattr(atomic, "_rename_noreplace", without_renameat2)
    if request.param == "rename":
        monkeypatch.setattr("os.link", without_link)


def emptied() -> None:
    """Empty the folder of work."""
    for path in Path().iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("action", [two, folder])
def test_after_a_kill_before_any_change_the_same_command_makes_the_same(action: Callable[[], None]) -> None:
    assert unclean(Path.cwd(), action, emptied) == []


@pytest.mark.usefixtures("way")
def test_whole_files_alone_are_left() -> None:
    two()
    folder()
    named = {"a.json": b"about", "a.npz": b"content", "a": None, "a/b": None}
    assert contents(Path()) == named | {f"a/{name}": name.encode() for name in ("b/1", "b/2", "c")}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_what_appears_in_the_meantime_is_not_overwritten(kind: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")

    def appear() -> None:
        if kind == "file":
            Path("a").write_text("mine")
        elif kind == "folder":
            Path("a").mkdir()
        else:
            Path("a").symlink_to(mine if kind == "link" else tmp_path / "nothing")

    def make(what: str) -> None:
        with new_files(Path("a")) as new:
            appear()
            (new.file if what == "file" else new.folder)(Path("a"))

    for what in ("file", "folder"):
        with pytest.raises(ValueError, match="--out: expected a new path, got a"):
            make(what)
        assert (mine.read_text(), list(Path().iterdir())) == ("mine", [Path("a")])
        emptied()


def test_after_a_kill_files_with_other_content_are_not_overwritten() -> None:
    lock_of(Path("a.npz")).touch()
    Path("a.npz").write_text("mine")
    refuse_outputs(Path("a.npz"))
    with pytest.raises(ValueError, match=r"--out: expected a new path, got a\.npz"):
        two()
    assert Path("a.npz").read_text() == "mine"


@pytest.mark.parametrize("place", ["second lock", "leftovers"])
def test_after_a_kill_an_error_before_the_work_leaves_the_locks(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two()
    locks = [lock_of(Path(name)) for name in ("a.json", "a.npz")]
    for lock in locks:
        lock.touch()  # the process was killed after both files had their names
    full, real = OSError(errno.ENOSPC, "No space left on device"), atomic.locked_output

    def failing(path: Path) -> object:
        if path.name == "a.npz":
            raise full
        return real(path)

    def failing_removal(*_: object) -> None:
        raise full

    with monkeypatch.context() as patch:
        name, action = ("locked_output", failing) if place == "second lock" else ("remove_leftovers", failing_removal)
        patch.setattr(atomic, name, action)
        with pytest.raises(OSError, match="No space left"):
            two()
    assert all(lock.exists() for lock in locks)
    two()
    assert sorted(path.name for path in Path().iterdir()) == ["a.json", "a.npz"]


def test_existing_files_are_rejected_under_their_option() -> None:
    Path("b").touch()
    with pytest.raises(ValueError, match="--json: expected a new path, got b"):
        refuse_outputs(Path("b"), options={Path("b"): "--json"})
    with (
        pytest.raises(ValueError, match="--json: expected a new path, got b"),
        new_files(Path("b"), options={Path("b"): "--json"}),
    ):
        pass
    assert list(Path().iterdir()) == [Path("b")]


def test_the_same_files_may_exist_where_a_command_says_so() -> None:
    def write(content: bytes) -> None:
        with new_files(Path("a"), Path("b"), again=True) as new:
            for name in ("a", "b"):
                new.write(Path(name), content)

    Path("b").write_bytes(b"1")
    write(b"1")
    with pytest.raises(ValueError, match="--out: expected a new path, got a"):
        write(b"2")
    assert contents(Path()) == {"a": b"1", "b": b"1"}


@pytest.mark.parametrize("paths", [("a", "b"), ("b", "a"), ("b",)])
def test_of_two_at_once_one_is_rejected(paths: tuple[str, ...]) -> None:
    with (
        new_files(Path("b"), Path("c")) as new,
        pytest.raises(ValueError, match=r"^b is in use by another process"),
        new_files(*map(Path, paths)),
    ):
        pass
    new.remove()
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("kept", [False, True])
def test_a_command_that_fails_leaves_no_folder_that_it_created(kept: bool) -> None:
    def fail() -> None:
        with new_files(Path("mine/b/c/file")):
            if kept:
                Path("mine/b/other").touch()
            raise KeyboardInterrupt

    Path("mine").mkdir()
    with pytest.raises(KeyboardInterrupt):
        fail()
    assert contents(Path()) == {"mine": None, **({"mine/b": None, "mine/b/other": b""} if kept else {})}


def test_files_of_two_commands_in_one_folder_do_not_disturb_each_other() -> None:
    with new_files(Path("a")) as one:
        one.write(Path("a"), b"1")
        with new_files(Path("b")) as other:
            other.write(Path("b"), b"2")
    assert contents(Path()) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("call", ["fsync", "rename", "link"])
def test_an_error_names_the_file_and_the_same_command_ends_the_work(
    number: int, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        if call == "rename":
            patch.setattr(atomic, "_rename_noreplace", failing)
        else:
            patch.setattr(atomic, "_rename_noreplace", without_renameat2)
            patch.setattr(f"os.{call}", failing)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            two()
        assert str(caught.value.filename) == "a.json"
        assert list(Path().iterdir()) == []
    two()
    assert contents(Path()) == {"a.json": b"about", "a.npz": b"content"}


def test_after_an_error_between_two_files_the_same_command_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = atomic._rename_noreplace

    def full(old: Path, new: Path) -> None:
        if new.name == "a.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        whole(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "_rename_noreplace", full)
        with pytest.raises(OSError, match="No space left") as caught:
            two()
    assert str(caught.value.filename) == "a.npz"
    refuse_outputs(Path("a.json"))
    with pytest.raises(ValueError, match=r"--out: expected a new path, got a\.json"):
        two("another")
    assert Path("a.json").read_bytes() == b"about"
    two()
    assert contents(Path()) == {"a.json": b"about", "a.npz": b"content"}


def test_an_error_in_a_temporary_folder_names_the_final_one() -> None:
    with pytest.raises(FileNotFoundError) as caught, new_files(Path("a")) as new:
        (new.folder(Path("a")) / "no" / "file").write_text("x")
    assert caught.value.filename == "a"


def test_numpy_s_error_of_a_full_disk_names_the_file() -> None:
    def full() -> None:
        with new_files(Path("a")) as new:
            new.file(Path("a"))
            raise OSError("38400 requested and 36736 written")

    with pytest.raises(OSError, match="not written, 38400 requested") as named:
        full()
    assert (named.value.filename, list(Path().iterdir())) == ("a", [])


def test_a_rename_replaces_not_even_an_empty_folder(way: None) -> None:
    Path("old").mkdir()
    Path("new").mkdir()
    with pytest.raises(FileExistsError):
        rename_new(Path("old"), Path("new"))
    assert sorted(contents(Path())) == ["new", "old"]
