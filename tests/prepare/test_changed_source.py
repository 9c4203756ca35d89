"""A source that has changed between a stop of `prepare` and the same command again is found and named."""

import itertools
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.datasets import cifar, random_images, write_archive, write_folder, write_images
from tests.support.files import contents
from tests.support.preparing import INNER, prepare

from ict_ref.data.prepared import sha256
from ict_ref.prepare.journal import write_journal
from ict_ref.prepare.sources import image_folder


def options(source: Path) -> tuple[str | int, ...]:
    """Return the options of one worker, with that for files of CIFAR-10 whose hashes are not the published ones."""
    return (*(("--unknown-files",) if "cifar" in source.name else ()), "--workers", 1)


def stopped(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, parts: int) -> None:
    """Stop the command after this number of parts is in its journal."""
    calls, real = itertools.count(), write_journal

    def note(*arguments: object) -> None:
        real(*arguments)  # type: ignore[arg-type]
        if next(calls) == parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ict_ref.prepare.writer.write_journal", note)
        assert prepare(source, *options(source), "--out", out) == 130


def folder(place: Path, seed: int) -> Path:
    """Write 12 images of random pixels without compression, so that all files have one size."""
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 8, 8, 3), np.uint8)
    source = place / "pictures"
    source.mkdir(parents=True)
    for k, image in enumerate(pixels):
        Image.fromarray(image).save(source / f"{k:02d}.bmp")
    return source


def batches(place: Path, seed: int) -> Path:
    """Write the batches of the downsampled ImageNet."""
    source = place / "npz"
    source.mkdir(parents=True)
    for number in (1, 2, 3):
        pixels = np.random.default_rng([seed, number]).integers(0, 256, (4, 192), np.uint8)
        np.savez(source / f"train_data_batch_{number}.npz", data=pixels, labels=np.arange(1, 5) + number)
    return source


def unpacked(place: Path, seed: int) -> Path:
    """Write CIFAR-10's batches."""
    pixels = np.random.default_rng(seed).integers(0, 256, (17, 3, 32, 32), np.uint8)
    return write_folder(place / INNER["python"], cifar("python", pixels, [k % 10 for k in range(17)]))


def archive(place: Path, seed: int) -> Path:
    """Write CIFAR-10's archive without compression, so that its size is that of another content."""
    pixels = np.random.default_rng(seed).integers(0, 256, (17, 3, 32, 32), np.uint8)
    place.mkdir(parents=True)
    return write_archive(place / "cifar-10-binary.tar.gz", INNER["binary"], cifar("binary", pixels, [1] * 17))


SOURCES = {"folder": folder, "batches": batches, "unpacked": unpacked, "archive": archive}
FIRST = {
    "folder": "00.bmp",
    "batches": "train_data_batch_1.npz",
    "unpacked": "data_batch_1",
    "archive": "cifar-10-binary.tar.gz",
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "IMAGES_PER_PART", 3)


def everything(there: Path, other: Path) -> None:
    """Replace each file by another with the same times."""
    for file in sorted(there.rglob("*")) if there.is_dir() else [there]:
        new = other / file.name if other.is_dir() else other
        status = file.stat()
        shutil.copyfile(new, file)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize("kind", ["folder", "batches", "unpacked"])
@pytest.mark.parametrize("parts", [1, 2, "all"])
def test_a_source_that_was_replaced_is_named(
    kind: str, parts: int | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, other, out = SOURCES[kind](tmp_path / "a", 1), SOURCES[kind](tmp_path / "b", 2), tmp_path / "out"
    count = {"folder": 4, "batches": 3, "unpacked": 5}[kind] if parts == "all" else parts
    stopped(source, out, monkeypatch, int(count))
    everything(source, other)
    before = contents(out)
    capsys.readouterr()
    assert prepare(source, *options(source), "--out", out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"SOURCE: expected {source / FIRST[kind]} as it was read before the stop, got other content." in line
    assert f"Restore it, or delete {out} to prepare the data again." in line
    assert contents(out) == before


def test_an_archive_of_the_same_size_that_was_replaced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = archive(tmp_path / "a", 1), tmp_path / "out"
    stopped(source, out, monkeypatch, 2)
    write_archive(source, INNER["binary"], cifar("binary", random_images(17, 3, 32, 32), [1] * 17))
    capsys.readouterr()
    assert prepare(source, *options(source), "--out", out) == 2
    assert f"SOURCE: expected {source} as it was read before the stop, got other content." in capsys.readouterr().err


def test_the_one_file_that_changed_is_named_and_restored_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = folder(tmp_path / "a", 1), tmp_path / "out"
    assert prepare(source, *options(source), "--out", tmp_path / "whole") == 0
    stopped(source, out, monkeypatch, 2)
    whole = (source / "04.bmp").read_bytes()
    (source / "04.bmp").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    capsys.readouterr()
    assert prepare(source, *options(source), "--out", out) == 2
    assert f"expected {source / '04.bmp'} as it was read" in capsys.readouterr().err
    (source / "04.bmp").write_bytes(whole)
    assert prepare(source, *options(source), "--out", out) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_a_file_that_was_not_yet_read_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, other, out = folder(tmp_path / "a", 1), folder(tmp_path / "b", 2), tmp_path / "out"
    stopped(source, out, monkeypatch, 2)
    shutil.copyfile(other / "06.bmp", source / "06.bmp")
    assert prepare(source, *options(source), "--out", out) == 0
    assert prepare(source, *options(source), "--out", tmp_path / "whole") == 0
    assert contents(out) == contents(tmp_path / "whole")


@pytest.mark.parametrize("kind", SOURCES)
def test_a_copy_of_the_source_is_the_same_source(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Such as one that each job copies to its node.
    source, out = SOURCES[kind](tmp_path / "a", 1), tmp_path / "out"
    assert prepare(source, *options(source), "--out", tmp_path / "whole") == 0
    stopped(source, out, monkeypatch, 2)
    copied = tmp_path / "node" / source.name
    copied.parent.mkdir()
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, copied)
    shutil.rmtree(tmp_path / "a")
    assert prepare(copied, *options(copied), "--out", out) == 0
    assert contents(out) == contents(tmp_path / "whole")


def test_files_that_did_not_change_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = folder(tmp_path / "a", 1), tmp_path / "out"
    stopped(source, out, monkeypatch, 2)
    read: list[str] = []

    def noted(path: Path) -> str:
        read.append(path.name)
        return sha256(path)

    monkeypatch.setattr("ict_ref.prepare.read_files.sha256", noted)
    assert prepare(source, *options(source), "--out", out) == 0
    assert read == [f"{k:02d}.bmp" for k in range(6, 12)]


@pytest.mark.parametrize("damage", ["a digit", "cut", "missing", "no entry in the journal"])
def test_without_a_whole_list_of_files_the_images_are_written_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = folder(tmp_path / "a", 1), tmp_path / "out"
    assert prepare(source, *options(source), "--out", tmp_path / "whole") == 0
    stopped(source, out, monkeypatch, 2)
    file, journal = out / "files.partial", out / "journal.partial"
    whole = file.read_bytes()
    if damage == "a digit":
        file.write_bytes(whole.replace(b"8", b"9", 1))
    elif damage == "cut":
        file.write_bytes(whole[:-40])
    elif damage == "missing":
        file.unlink()
    else:
        tree = json.loads(journal.read_text())
        journal.write_text(json.dumps({name: tree[name] for name in ("recipe", "done", "sha256")}))
    capsys.readouterr()
    assert prepare(source, *options(source), "--out", out) == 0
    assert "images.npy.partial is damaged, or of an earlier version" in capsys.readouterr().err
    assert contents(out) == contents(tmp_path / "whole")


def test_a_file_that_changes_while_it_is_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, real = folder(tmp_path / "a", 1), image_folder._decoded

    def changing(*arguments: object) -> object:
        pixels = real(*arguments)  # type: ignore[arg-type]
        if "05.bmp" in str(arguments[1]):
            (source / "05.bmp").write_bytes((source / "04.bmp").read_bytes())
        return pixels

    monkeypatch.setattr(image_folder, "_decoded", changing)
    assert prepare(source, *options(source), "--out", tmp_path / "out") == 2
    assert f"SOURCE: expected {source / '05.bmp'} to stay as it is" in capsys.readouterr().err


def test_images_read_through_links_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, other = folder(tmp_path / "a", 1), folder(tmp_path / "b", 2)
    source, out = tmp_path / "linked", tmp_path / "out"
    source.mkdir()
    (source / "class").symlink_to(real)
    write_images(source, random_images(2, 3, 8, 8), [1, 2])
    stopped(source, out, monkeypatch, 3)
    (source / "class").unlink()
    (source / "class").symlink_to(other)
    assert prepare(source, *options(source), "--out", out) == 2
    assert f"expected {source / 'class' / '00.bmp'} as it was read" in capsys.readouterr().err
