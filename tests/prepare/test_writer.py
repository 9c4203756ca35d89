"""Prepared folders: resumed to the same bytes after any stop, and never another folder's files."""

import errno
import hashlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.support.datasets import (
    random_images,
    write_images,
)
from tests.support.files import contents
from tests.support.preparing import about, prepare

from ict_ref.prepare.sources import image_folder


def test_without_out_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_images(tmp_path / "source", random_images(1, 3, 9, 9))
    monkeypatch.chdir(tmp_path)
    before = contents(tmp_path)
    assert prepare(source, "--size", 4) == 0
    shown = capsys.readouterr().out
    assert "found 1 images of 3x4x4 without classes" in shown
    assert "BOX while the short side is >= 8, BICUBIC to a short side of 4" in shown
    assert "EXIF orientation is not applied" in shown
    assert contents(tmp_path) == before


def test_what_is_made_does_not_depend_on_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "IMAGES_PER_PART", 3)
    monkeypatch.setattr("ict_ref.prepare.writer.AHEAD", 3)
    source = write_images(tmp_path / "source", random_images(40, 3, 8, 8), [k % 3 for k in range(40)])
    for workers in (1, 5):
        assert prepare(source, "--size", 5, "--workers", workers, "--out", tmp_path / str(workers)) == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "5")


def test_whatever_moment_it_is_stopped_at_the_same_command_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Stopped before the k-th time that something is made safe, renamed or deleted, for every k.
    monkeypatch.setattr(image_folder, "IMAGES_PER_PART", 4)
    source = write_images(tmp_path / "source", random_images(10, 3, 4, 4), [k % 2 for k in range(10)])
    assert prepare(source, "--out", tmp_path / "whole") == 0
    moments = 0
    for moment in itertools.count():
        out, calls = tmp_path / str(moment), itertools.count()

        def stopping(function: Callable[..., object], moment: int = moment, calls: "itertools.count[int]" = calls):  # type: ignore[no-untyped-def]
            def call(*arguments: object, **options: object) -> object:
                if next(calls) == moment:
                    raise KeyboardInterrupt
                return function(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", stopping(os.fsync))
            for name in ("replace", "rename", "unlink"):
                patch.setattr(Path, name, stopping(getattr(Path, name)))
            status = prepare(source, "--out", out)
        if status == 0:
            break
        assert status == 130
        assert "the same command resumes" in capsys.readouterr().err
        assert prepare(source, "--out", out) == 0
        assert contents(out) == contents(tmp_path / "whole"), moment
        moments += 1
    assert moments > 20


def running(source: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the command as a process of its own, with parts of 8 images."""
    code = "import sys\nfrom ict_ref.prepare import __main__ as prepare\n"
    code += "from ict_ref.prepare.sources import image_folder\n"
    code += "image_folder.IMAGES_PER_PART = 8\nsys.exit(prepare.main())"
    command = [sys.executable, "-c", code, str(source), "--size", "32", "--out", str(out)]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def done(out: Path) -> int:
    """Return how many images the journal says are safe."""
    try:
        return int(json.loads((out / "journal.partial").read_bytes())["done"])
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was_and_ends_with_the_same_bytes(tmp_path: Path) -> None:
    # 1 600 images in 200 parts; the process is stopped three times, each time at least a part further.
    source = write_images(tmp_path / "source", random_images(16, 3, 40, 50))
    for k, copy in itertools.product(range(16), range(99)):
        shutil.copy(source / f"{k:05d}.png", source / f"{k:05d}-{copy}.png")
    assert prepare(source, "--size", 32, "--out", tmp_path / "whole") == 0
    out, seen = tmp_path / "out", [0]
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        process = running(source, out)
        deadline = time.monotonic() + 60
        while done(out) <= seen[-1]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1].decode()
        assert process.returncode == (130 if number == signal.SIGINT else -9), err
        assert "Traceback" not in err
        seen.append(done(out))
        assert not (out / "data.json").exists()
    assert seen == sorted(set(seen))
    assert prepare(source, "--size", 32, "--out", out) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_images_that_the_journal_promises_and_the_disk_has_lost_are_made_again(tmp_path: Path) -> None:
    source = write_images(tmp_path / "source", random_images(1100, 3, 4, 4))
    assert prepare(source, "--out", tmp_path / "whole") == 0
    out = tmp_path / "out"
    out.mkdir()
    recipe = about(tmp_path / "whole")["recipe"]
    (out / "journal.partial").write_text(json.dumps({"recipe": recipe, "done": 1024}))
    (out / "images.npy.partial").write_bytes((tmp_path / "whole" / "images.npy").read_bytes()[: 128 + 48 * 600])
    assert prepare(source, "--out", out) == 0
    assert contents(out) == contents(tmp_path / "whole")


def read_of(file: Path) -> tuple[object, ...]:
    """Return the SHA-256 of a file, its size, and the times in ns at which content and status changed."""
    found = os.stat(file)  # noqa: PTH116
    return hashlib.sha256(file.read_bytes()).hexdigest(), found.st_size, found.st_mtime_ns, found.st_ctime_ns


@pytest.mark.parametrize("name", ["images.npy.partial", "images.npy"])
@pytest.mark.parametrize("flipped", [None, 5, 128, 128 + 48 * 700])
def test_images_of_a_stopped_command_are_kept_only_if_their_bytes_are_those_it_wrote(
    tmp_path: Path, name: str, flipped: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_images(tmp_path / "source", random_images(1100, 3, 4, 4))
    assert prepare(source, "--out", tmp_path / "whole") == 0
    whole, out = (tmp_path / "whole" / "images.npy").read_bytes(), tmp_path / "out"
    out.mkdir()
    count = 1024 if name.endswith(".partial") else 1100
    written = bytearray(whole[: 128 + 48 * count])
    digest = hashlib.sha256(written[128:]).hexdigest()
    lines = "".join(json.dumps([f"{k:05d}.png", *read_of(source / f"{k:05d}.png")]) + "\n" for k in range(count))
    (out / "files.partial").write_text(lines + '["after the jour')
    journal = {"recipe": about(tmp_path / "whole")["recipe"], "done": count, "sha256": digest}
    journal |= {"files": count, "files_sha256": hashlib.sha256(lines.encode()).hexdigest()}
    (out / "journal.partial").write_text(json.dumps(journal))
    if flipped is not None:
        written[flipped] ^= 4
    (out / name).write_bytes(written)
    capsys.readouterr()
    assert prepare(source, "--out", out) == 0
    assert contents(out) == contents(tmp_path / "whole")
    assert ("is damaged" in capsys.readouterr().err) == (flipped is not None)


def test_a_full_disk_is_one_line_and_the_command_goes_on_once_there_is_room(tmp_path: Path) -> None:
    # A limit of 600 000 bytes a file fails the write itself, in the second of three parts.
    source = write_images(tmp_path / "source", random_images(1100, 3, 16, 16))
    command = [sys.executable, "-m", "ict_ref.prepare", str(source), "--out", str(tmp_path / "out")]
    limited = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert limited.returncode == 2
    line = limited.stderr.splitlines()[-1]  # on a slow machine a progress bar is before it
    assert f"cannot use {tmp_path / 'out'}: {os.strerror(errno.EFBIG)}. Fix this; then the same" in line
    assert done(tmp_path / "out") == 512
    assert prepare(source, "--out", tmp_path / "out") == 0
    assert prepare(source, "--out", tmp_path / "whole") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_too_small_a_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ict_ref.prepare.writer.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    source = write_images(tmp_path / "source", random_images(3, 3, 4, 4))
    assert prepare(source, "--out", tmp_path / "out") == 2
    assert "of free space for" in capsys.readouterr().err
    assert contents(tmp_path / "out") == {}


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    source = write_images(tmp_path / "source", random_images(3, 3, 4, 4))
    out = tmp_path / "out"
    assert prepare(source, "--out", out) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare(source, "--out", out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


@pytest.mark.parametrize("kind", ["images", "batches"])
def test_a_finished_folder_is_named_and_files_that_are_newer_are_counted(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    if kind == "images":
        write_images(source, random_images(3, 3, 4, 4))
    else:
        source.mkdir()
        for number in (1, 2, 3):
            np.savez(source / f"train_data_batch_{number}.npz", data=np.full((2, 192), number, np.uint8), labels=[1, 2])
    assert prepare(source, "--out", out) == 0
    written = (out / "data.json").stat().st_mtime_ns
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:
        os.utime(path, ns=(written, written))
    capsys.readouterr()
    assert prepare(source, "--out", out) == 0
    line = f"ict_ref: note: {out} is prepared already, from files of these names and sizes; "
    assert capsys.readouterr().err == f"{line}their content is not read again\n"
    for path in files[1:]:
        os.utime(path, ns=(written + 1, written + 1))
    assert prepare(source, "--out", out) == 0
    line = f"ict_ref: warning: {out} was prepared before 2 of 3 files of the source were written, such as "
    found = capsys.readouterr()
    assert found.err.startswith(f"{line}{files[1].relative_to(source)}. ")
    assert found.err.count("\n") == 1
    assert f"prepared in {out}, checksum " in found.out


def more_images(source: Path, out: Path) -> list[str]:
    """Add an image to the source."""
    write_images(source, random_images(5, 3, 4, 4))
    return []


def a_stranger(source: Path, out: Path) -> list[str]:
    """Put a file into the prepared folder."""
    (out / "thesis.tex").write_text("Chapter 1")
    return []


def another_size(source: Path, out: Path) -> list[str]:
    """Ask for images of another size."""
    return ["--size", "2"]


def a_cut(source: Path, out: Path) -> list[str]:
    """Lose the last byte of the images."""
    (out / "images.npy").write_bytes((out / "images.npy").read_bytes()[:-1])
    return []


def no_about(source: Path, out: Path) -> list[str]:
    """Lose data.json."""
    (out / "data.json").unlink()
    return []


def bad_about(source: Path, out: Path) -> list[str]:
    """Cut data.json."""
    (out / "data.json").write_bytes((out / "data.json").read_bytes()[:-9])
    return []


def begun_otherwise(source: Path, out: Path) -> list[str]:
    """Leave the unfinished work of another recipe."""
    recipe = json.loads((out / "data.json").read_text())["recipe"]
    (out / "data.json").unlink()
    (out / "images.npy").rename(out / "images.npy.partial")
    (out / "journal.partial").write_text(json.dumps({"recipe": recipe | {"size": 9}, "done": 0}))
    return []


def bad_journal(source: Path, out: Path) -> list[str]:
    """Leave a journal that says nothing."""
    (out / "data.json").rename(out / "journal.partial")
    (out / "journal.partial").write_text("{}")
    return []


def infinite_journal(source: Path, out: Path) -> list[str]:
    """Leave a journal with a number that is not an integer."""
    (out / "data.json").rename(out / "journal.partial")
    (out / "journal.partial").write_text('{"recipe": {}, "done": Infinity}')
    return []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (more_images, "has another recipe: expected files "),
        (another_size, "has another recipe: expected size 2, got None. Choose another --out"),
        (a_cut, "images.npy is truncated or damaged"),
        (a_stranger, " with thesis.tex. Choose another --out."),
        (no_about, "expected data.json or a journal beside images.npy, got neither"),
        (bad_about, "data.json is damaged"),
        (begun_otherwise, "has another recipe: expected size None, got 9"),
        (bad_journal, "journal.partial is damaged"),
        (infinite_journal, "journal.partial is damaged (done: expected an integer, got inf)"),
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(
    change: Callable[[Path, Path], list[str]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "source", random_images(3, 3, 4, 4)), tmp_path / "out"
    assert prepare(source, "--out", out) == 0
    options = change(source, out)
    before = contents(out)
    capsys.readouterr()
    assert prepare(source, "--out", out, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert contents(out) == before


def test_temporary_files_of_a_killed_command_are_accepted_and_removed(tmp_path: Path) -> None:
    source, out = write_images(tmp_path / "source", random_images(3, 3, 4, 4)), tmp_path / "out"
    assert prepare(source, "--out", tmp_path / "whole") == 0
    out.mkdir()
    for name in ("journal.partial", "labels.npy", "data.json"):
        (out / f".{name}.0123456789abcdef.tmp").write_text("cut")
        (out / f"{name}.tmp").write_text("cut by version 0.1.0")
    assert prepare(source, "--out", out) == 0
    old = {f"{name}.tmp": b"cut by version 0.1.0" for name in ("journal.partial", "labels.npy", "data.json")}
    assert contents(out) == contents(tmp_path / "whole") | old


@pytest.mark.parametrize("name", ["images.npy", "images.npy.partial", "journal.partial", "data.json"])
def test_nothing_is_written_through_a_link(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write_images(tmp_path / "source", random_images(3, 3, 4, 4)), tmp_path / "out"
    assert prepare(source, "--out", tmp_path / "whole") == 0
    out.mkdir()
    recipe = about(tmp_path / "whole")["recipe"]
    journal = json.dumps({"recipe": recipe, "done": 0})
    kept = tmp_path / "kept"
    if name.startswith("images"):
        (out / "journal.partial").write_text(journal)
    if name != "images.npy":  # its link leads nowhere
        kept.write_text(journal if name == "journal.partial" else "mine")
    (out / name).symlink_to(kept)
    before = contents(tmp_path)
    capsys.readouterr()
    assert prepare(source, "--out", out) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert contents(tmp_path) == before
    assert (out / name).is_symlink()


@pytest.mark.parametrize("name", ["images.npy", "images.npy.partial", "journal.partial", "data.json"])
def test_a_pipe_in_an_unfinished_folder_is_rejected(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "source", random_images(3, 3, 4, 4)), tmp_path / "out"
    assert prepare(source, "--out", out) == 0
    journal = json.dumps({"recipe": about(out)["recipe"], "done": 3})
    if name != "data.json":
        (out / "data.json").unlink()
        (out / "journal.partial").write_text(journal)
    (out / name).unlink(missing_ok=True)
    os.mkfifo(out / name)
    capsys.readouterr()
    assert prepare(source, "--out", out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{name}: expected a regular file, got a pipe" in line


def test_two_commands_do_not_write_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "source", random_images(3, 3, 4, 4)), tmp_path / "out"
    statuses = []

    def second(*_: object) -> None:
        monkeypatch.undo()
        statuses.append(prepare(source, "--out", out))

    monkeypatch.setattr("ict_ref.prepare.writer._refuse_full_disk", second)
    assert prepare(source, "--out", out) == 0
    assert statuses == [2]
    assert "is in use by another process" in capsys.readouterr().err
