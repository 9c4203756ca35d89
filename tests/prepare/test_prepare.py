import contextlib
import errno
import io
import itertools
import json
import os
import pickle
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
from PIL import Image
from tests.support.datasets import (
    binary_batch,
    cifar,
    python_2,
    python_batch,
    random_images,
    write_archive,
    write_folder,
    write_images,
)

from ict_ref.data.prepared import open_arrays
from ict_ref.prepare.__main__ import main
from ict_ref.prepare.sources import image_folder

PIXELS, LABELS = random_images(17, 3, 32, 32), [(7 * k) % 10 for k in range(17)]
INNER = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}


def prepare(*arguments: object) -> int:
    """Run the command."""
    return main([str(argument) for argument in arguments])


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def about(folder: Path) -> dict[str, object]:
    """Return what data.json says."""
    content: dict[str, object] = json.loads((folder / "data.json").read_text())
    return content


def parquet(folder: Path) -> Path:
    """Write CIFAR-10 as Hugging Face does, in row groups of 4."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    for name, span in (("train-00000-of-00001", slice(14)), ("test-00000-of-00001", slice(14, None))):
        rows = []
        for image, label in zip(PIXELS[span], LABELS[span], strict=True):
            png = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).save(png, "PNG")
            rows.append({"img": {"bytes": png.getvalue(), "path": None}, "label": label})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet", row_group_size=4)
    return folder


PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "python archive": lambda place: write_archive(
        place / "cifar-10-python.tar.gz", INNER["python"], cifar("python", PIXELS, LABELS)
    ),
    "binary archive": lambda place: write_archive(
        place / "cifar-10-binary.tar.gz", INNER["binary"], cifar("binary", PIXELS, LABELS)
    ),
    "python folder": lambda place: write_folder(place / INNER["python"], cifar("python", PIXELS, LABELS)),
    "binary folder": lambda place: write_folder(place / INNER["binary"], cifar("binary", PIXELS, LABELS)),
    "parquet": lambda place: parquet(place / "plain_text"),
}


@pytest.mark.parametrize("form", PUBLISHED)
def test_cifar_10_is_what_was_published_in_every_form(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = PUBLISHED[form](tmp_path)
    for split, span in (("train", slice(14)), ("test", slice(14, None))):
        out = tmp_path / split
        assert prepare(source, "--split", split, "--out", out) == 0
        assert np.array_equal(np.load(out / "images.npy", mmap_mode="r"), PIXELS[span])
        labels = np.load(out / "labels.npy")
        assert labels.dtype == np.int64
        assert labels.tolist() == LABELS[span]
        said = about(out)
        assert (said["count"], said["shape"], said["classes"]) == (len(PIXELS[span]), [3, 32, 32], 10)
        assert said["names"] == "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905
        shown = capsys.readouterr().out
        assert f"found {len(PIXELS[span])} images of 3x32x32 in 10 classes (airplane, automobile, bird, ...)" in shown
        assert prepare("--check", out) == 0


def test_published_pickles_are_what_the_test_writes() -> None:
    # The first bytes of a batch of cifar-10-batches-py after its label, by `pickletools`; NumPy reads the whole.
    batch = python_batch(PIXELS, LABELS)
    assert batch.startswith(b"\x80\x02}(U\x0bbatch_label")
    loaded = pickle.loads(batch.replace(b"numpy.core.", b"numpy._core."), encoding="bytes")  # noqa: S301
    assert np.array_equal(loaded[b"data"].reshape(-1, 3, 32, 32), PIXELS)
    assert loaded[b"labels"] == LABELS


def test_the_checksums_are_sha256sum_s(tmp_path: Path) -> None:
    assert prepare(PUBLISHED["binary folder"](tmp_path), "--out", tmp_path / "out") == 0
    said = subprocess.run(
        ["/usr/bin/env", "sha256sum", "images.npy", "labels.npy"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert about(tmp_path / "out")["sha256"] == {said[1]: said[0], said[3]: said[2]}


def npz(folder: Path, numbers: list[int], side: int = 64) -> tuple[list[np.ndarray], list[list[int]]]:
    """Write ImageNet batches of three images each, and return their images and labels from 1."""
    folder.mkdir(exist_ok=True)
    pixels = [random_images(3, 3, side, side, seed=number) for number in numbers]
    labels = [[number, 1000, 500 + number] for number in numbers]
    for number, data, classes in zip(numbers, pixels, labels, strict=True):
        file = folder / f"train_data_batch_{number}.npz"
        np.savez(file, data=data.reshape(3, -1), labels=np.array(classes), mean=np.zeros(3 * side**2))
    return pixels, labels


def test_imagenet_s_batches_come_in_the_order_of_their_numbers_and_labels_count_from_0(tmp_path: Path) -> None:
    pixels, labels = npz(tmp_path / "npz", [1, 2, 10])
    np.savez(tmp_path / "npz" / "val_data.npz", data=np.zeros((1, 12288), np.uint8), labels=np.array([7]))
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 0
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), np.concatenate(pixels))
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [k - 1 for some in labels for k in some]
    assert (about(tmp_path / "out")["classes"], about(tmp_path / "out")["names"]) == (1000, None)
    assert prepare(tmp_path / "npz", "--split", "test", "--out", tmp_path / "val") == 0
    assert np.load(tmp_path / "val" / "labels.npy").tolist() == [6]
    assert prepare(tmp_path / "npz" / "train_data_batch_2.npz", "--out", tmp_path / "one") == 0
    assert np.array_equal(np.load(tmp_path / "one" / "images.npy"), pixels[1])


def test_a_folder_of_classes_is_sorted_and_its_pixels_are_those_of_the_files(tmp_path: Path) -> None:
    pixels, labels = random_images(9, 3, 8, 8), [2, 0, 1, 0, 2, 2, 1, 0, 1]
    source = write_images(tmp_path / "source", pixels, labels)
    (source / ".hidden").mkdir()
    (source / "c0" / "readme.txt").write_text("no image")
    (source / "c0" / ".thumbnail.png").write_text("no image")
    assert prepare(source, "--out", tmp_path / "out") == 0
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), pixels[[1, 3, 7, 2, 6, 8, 0, 4, 5]])
    assert about(tmp_path / "out")["names"] == ["c0", "c1", "c2"]


def test_a_flat_folder_has_no_labels_and_images_of_the_size_pass_unchanged(tmp_path: Path) -> None:
    pixels = random_images(5, 3, 9, 9)
    source = write_images(tmp_path / "source", pixels)
    for options in ([], ["--size", "9"]):
        out = tmp_path / f"out{len(options)}"
        assert prepare(source, *options, "--out", out) == 0
        assert np.array_equal(np.load(out / "images.npy"), pixels)
        assert sorted(files(out)) == ["data.json", "images.npy"]
        assert (about(out)["classes"], about(out)["names"]) == (0, None)


def test_grey_images_have_one_channel_and_grey_files_are_made_rgb(tmp_path: Path) -> None:
    pixels = random_images(4, 1, 6, 6)
    source = write_images(tmp_path / "source", pixels)
    assert prepare(source, "--grey", "--out", tmp_path / "grey") == 0
    assert np.array_equal(np.load(tmp_path / "grey" / "images.npy"), pixels)
    assert prepare(source, "--out", tmp_path / "rgb") == 0
    assert np.array_equal(np.load(tmp_path / "rgb" / "images.npy"), pixels.repeat(3, axis=1))


def test_halving_takes_the_mean_of_four_pixels_and_the_crop_the_middle(tmp_path: Path) -> None:
    # 8 x 16 pixels to 2: halved to 4 x 8 and to 2 x 4, both by means that are whole; columns 1 and 2 of 4 remain.
    means = np.arange(8, dtype=np.uint8).reshape(2, 4) * 20 + 30
    once = means.repeat(2, axis=0).repeat(2, axis=1) + np.tile(np.array([[8, 4], [0, -12]], np.int8), (2, 4))
    twice = once.repeat(2, axis=0).repeat(2, axis=1) + np.tile(np.array([[3, -5], [1, 1]], np.int8), (4, 8))
    write_images(tmp_path / "source", twice.astype(np.uint8)[None, None])
    assert prepare(tmp_path / "source", "--size", 2, "--grey", "--out", tmp_path / "out") == 0
    assert np.load(tmp_path / "out" / "images.npy")[0, 0].tolist() == [[50, 70], [130, 150]]


def test_a_jpeg_of_odd_sizes_is_halved_resized_and_cropped_step_by_step(tmp_path: Path) -> None:
    # 121 x 75 pixels: red rises by 2 a column, green by 3 a row, blue is 128.
    y, x = np.mgrid[:75, :121]
    ramp = Image.fromarray(np.stack([2 * x, 3 * y, 0 * x + 128], axis=-1).astype(np.uint8))
    (tmp_path / "source").mkdir()
    # Orientation 6, "turn by 90 degrees", is not applied.
    exif = Image.Exif()
    exif[0x0112] = 6
    ramp.save(tmp_path / "source" / "a.JPEG", exif=exif)
    assert prepare(tmp_path / "source", "--size", 16, "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "source" / "a.JPEG") as image:
        half = image.resize((60, 37), Image.Resampling.BOX)  # 75 >= 32, and 37 >= 32: once more
        quarter = half.resize((30, 18), Image.Resampling.BOX)
        # 30 * 16 / 18 = 26.7; (27 - 16) // 2 = 5
        small = np.asarray(quarter.resize((27, 16), Image.Resampling.BICUBIC))[:, 5:21]
    made = np.load(tmp_path / "out" / "images.npy")[0]
    assert np.array_equal(made, small.transpose(2, 0, 1))
    # Without Pillow: means of ramps are ramps. Pixel (r, c) lies at ((c + 5.5) 121/27 - 1/2, (r + 1/2) 75/16 - 1/2),
    # and its neighbours are 9 and 14 levels away.
    red, green = 2 * ((np.arange(16) + 5.5) * 121 / 27 - 0.5), 3 * ((np.arange(16) + 0.5) * 75 / 16 - 0.5)
    inner = slice(2, 14)  # at the borders there is nothing to take the mean with
    assert np.abs(made[0] - red)[inner].max() < 4
    assert np.abs(made[1] - green[:, None])[inner].max() < 8
    assert np.abs(made[2] - 128.0).max() < 6


def test_images_smaller_than_the_size_are_enlarged(tmp_path: Path) -> None:
    write_images(tmp_path / "source", np.full((1, 3, 5, 7), 77, np.uint8))
    assert prepare(tmp_path / "source", "--size", 8, "--out", tmp_path / "out") == 0
    assert np.array_equal(np.load(tmp_path / "out" / "images.npy"), np.full((1, 3, 8, 8), 77))


def test_without_out_nothing_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_images(tmp_path / "source", random_images(1, 3, 9, 9))
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    assert prepare(source, "--size", 4) == 0
    shown = capsys.readouterr().out
    assert "found 1 images of 3x4x4 without classes" in shown
    assert "BOX while the short side is >= 8, BICUBIC to a short side of 4" in shown
    assert "EXIF orientation is not applied" in shown
    assert files(tmp_path) == before


def test_what_is_made_does_not_depend_on_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_folder, "IMAGES_PER_PART", 3)
    monkeypatch.setattr("ict_ref.prepare.writer.AHEAD", 3)
    source = write_images(tmp_path / "source", random_images(40, 3, 8, 8), [k % 3 for k in range(40)])
    for workers in (1, 5):
        assert prepare(source, "--size", 5, "--workers", workers, "--out", tmp_path / str(workers)) == 0
    assert files(tmp_path / "1") == files(tmp_path / "5")


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
        assert files(out) == files(tmp_path / "whole"), moment
        moments += 1
    assert moments > 20


def running(source: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start the command as a process of its own, with parts of 8 images."""
    code = "import sys\nfrom ict_ref.prepare import __main__ as prepare\n"
    code += "from ict_ref.prepare.sources import image_folder\n"
    code += "image_folder.IMAGES_PER_PART = 8\nsys.exit(prepare.main())"
    command = [sys.executable, "-c", code, str(source), "--size", "32", "--out", str(out)]
    # Where the tests run in the background, SIGINT is ignored, and would be here.
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
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
    assert files(out) == files(tmp_path / "whole")


def test_images_that_the_journal_promises_and_the_disk_has_lost_are_made_again(tmp_path: Path) -> None:
    source = write_images(tmp_path / "source", random_images(1100, 3, 4, 4))
    assert prepare(source, "--out", tmp_path / "whole") == 0
    out = tmp_path / "out"
    out.mkdir()
    recipe = about(tmp_path / "whole")["recipe"]
    (out / "journal.partial").write_text(json.dumps({"recipe": recipe, "done": 1024}))
    (out / "images.npy.partial").write_bytes((tmp_path / "whole" / "images.npy").read_bytes()[: 128 + 48 * 600])
    assert prepare(source, "--out", out) == 0
    assert files(out) == files(tmp_path / "whole")


def test_a_full_disk_is_one_line_and_the_command_goes_on_once_there_is_room(tmp_path: Path) -> None:
    # A limit of 20 000 bytes a file fails the write itself, in the second of three parts.
    source = write_images(tmp_path / "source", random_images(1100, 3, 4, 4))
    command = [sys.executable, "-m", "ict_ref.prepare", str(source), "--out", str(tmp_path / "out")]
    limited = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert limited.returncode == 2
    (line,) = limited.stderr.splitlines()
    assert f"cannot use {tmp_path / 'out'}: {os.strerror(errno.EFBIG)}. Fix this; then the same" in line
    assert done(tmp_path / "out") == 512
    assert prepare(source, "--out", tmp_path / "out") == 0
    assert prepare(source, "--out", tmp_path / "whole") == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_too_small_a_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ict_ref.prepare.writer.shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    source = write_images(tmp_path / "source", random_images(3, 3, 4, 4))
    assert prepare(source, "--out", tmp_path / "out") == 2
    assert "of free space for" in capsys.readouterr().err
    assert files(tmp_path / "out") == {}


def test_a_finished_folder_is_left_alone(tmp_path: Path) -> None:
    source = write_images(tmp_path / "source", random_images(3, 3, 4, 4))
    out = tmp_path / "out"
    assert prepare(source, "--out", out) == 0
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert prepare(source, "--out", out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


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
    ],
)
def test_a_folder_of_something_else_is_refused_and_left_as_it_is(
    change: Callable[[Path, Path], list[str]], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write_images(tmp_path / "source", random_images(3, 3, 4, 4)), tmp_path / "out"
    assert prepare(source, "--out", out) == 0
    options = change(source, out)
    before = files(out)
    capsys.readouterr()
    assert prepare(source, "--out", out, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert files(out) == before


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


def cut(content: bytes, share: float) -> bytes:
    """Return the beginning of a file."""
    return content[: int(len(content) * share)]


class Evil:
    """Pickled, it executes a command when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def archive_with(place: Path, **members: bytes) -> Path:
    """Write an archive of the python kind in which some files are others."""
    return write_archive(place / "a.tar.gz", INNER["python"], cifar("python", PIXELS, LABELS) | members)


def python_with(place: Path, content: bytes) -> Path:
    """Write a folder of the python kind whose third batch is this."""
    return write_folder(place / "a", cifar("python", PIXELS, LABELS) | {"data_batch_3": content})


def binary_with(place: Path, content: bytes) -> Path:
    """Write a folder of the binary kind whose third batch is this."""
    return write_folder(place / "a", cifar("binary", PIXELS, LABELS) | {"data_batch_3.bin": content})


def cut_archive(place: Path, share: float) -> Path:
    """Write an archive and cut it."""
    path = archive_with(place)
    path.write_bytes(cut(path.read_bytes(), share))
    return path


def npz_with(place: Path, **content: object) -> Path:
    """Write an ImageNet batch in which some arrays are others."""
    whole = {"data": np.zeros((2, 12288), np.uint8), "labels": np.array([1, 2])} | content
    np.savez(place / "train_data_batch_1.npz", **whole)  # type: ignore[arg-type]
    return place / "train_data_batch_1.npz"


def cut_npz(place: Path, share: float) -> Path:
    """Write an ImageNet batch and cut it."""
    path = npz_with(place)
    path.write_bytes(cut(path.read_bytes(), share))
    return path


def images_with(place: Path, name: str, content: bytes) -> Path:
    """Write a folder of images, one of them with this content."""
    source = write_images(place / "a", random_images(3, 3, 8, 8))
    (source / name).parent.mkdir(exist_ok=True)
    (source / name).write_bytes(content)
    return source


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> bytes:
    """Return a file of an image."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind)
    return file.getvalue()


def noise(kind: str) -> bytes:
    """Return a file of an image that does not compress."""
    file = io.BytesIO()
    Image.fromarray(random_images(1, 3, 8, 8)[0].transpose(1, 2, 0)).save(file, kind)
    return file.getvalue()


def with_empty_class(folder: Path) -> Path:
    """Write two class folders of which one is empty."""
    (write_images(folder, random_images(1, 3, 4, 4), [0]) / "empty").mkdir()
    return folder


BAD: list[tuple[Callable[[Path], Path], str]] = [
    (lambda place: place / "nowhere", "nowhere, which does not exist"),
    (lambda place: place, "expected images (.bmp, .gif"),
    (lambda place: write_folder(place / "a", {"notes.txt": b""}) / "notes.txt", "expected a folder, .tar.gz, .npz or"),
    *((lambda place, share=share: cut_archive(place, share), "a.tar.gz") for share in (0, 0.001, 0.3, 0.7, 0.999)),
    (lambda place: archive_with(place, data_batch_2=b""), "data_batch_2 in"),
    (
        lambda place: write_archive(place / "a.tar.gz", "cifar-10-batches-py/..", cifar("python", PIXELS, LABELS)),
        "expected the member",
    ),
    (
        lambda place: write_archive(place / "a.tgz", "cifar-100-python", {"train": b""}),
        "the member cifar-10-batches-",
    ),
    (
        lambda place: python_with(place, cut(python_batch(PIXELS, LABELS), 0.5)),
        "data_batch_3 cannot be used: pickle data",
    ),
    (
        lambda place: python_with(place, pickle.dumps(Evil(), 2)),
        "data_batch_3 cannot be used: expected a pickle of NumPy arrays, got the name posix.sy",
    ),
    (
        lambda place: python_with(place, b"\x80\x02cnumpy\nload\n."),
        "data_batch_3 cannot be used: expected a pickle of NumPy arrays, got the name numpy",
    ),
    (lambda place: python_with(place, b"\x80\x02]."), "data_batch_3 cannot be used"),
    (
        lambda place: python_with(place, b"\x80\x02" + python_2({b"labels": [1]}) + b"."),
        "data_batch_3 cannot be used: b'da",
    ),
    (lambda place: python_with(place, python_batch(PIXELS[:, :, :16], LABELS)), "expected uint8 data of 3072 columns"),
    (
        lambda place: python_with(place, python_batch(PIXELS, LABELS[1:])),
        "expected a list of 17 integer labels",
    ),
    (
        lambda place: python_with(place, python_batch(PIXELS, [10, *LABELS[1:]])),
        "expected images with labels from 0 to 9",
    ),
    (
        lambda place: binary_with(place, binary_batch(PIXELS, LABELS)[:-1]),
        "data_batch_3.bin cannot be used: expected rows",
    ),
    (lambda place: binary_with(place, binary_batch(PIXELS, [10, *LABELS[1:]])), "data_batch_3.bin cannot be used"),
    (lambda place: binary_with(place, b""), "data_batch_3.bin cannot be used"),
    (lambda place: write_folder(place / "a", {"data_batch_1": b""}), "expected data_batch_2 in this folder"),
    *((lambda place, share=share: cut_npz(place, share), "batch_1.npz") for share in (0, 0.1, 0.5, 0.95)),
    (lambda place: npz_with(place, labels=np.array([Evil(), 1])), "batch_1.npz cannot be used: Object arrays cannot"),
    (
        lambda place: npz_with(place, data=np.array([[Evil(), 1]])),
        "batch_1.npz cannot be used: expected `data`",
    ),
    (lambda place: npz_with(place, labels=np.array([0, 1])), "expected `labels` from 1 to 1000, got 0 to 1"),
    (lambda place: npz_with(place, labels=np.array([1, 1001])), "expected `labels` from 1 to 1000, got 1 to 1001"),
    (lambda place: npz_with(place, labels=np.array([1])), "expected `labels` of 2 integers"),
    (lambda place: npz_with(place, labels=np.array([0.5, 1])), "expected `labels` of 2 integers"),
    (
        lambda place: npz_with(place, data=np.zeros((2, 12287), np.uint8)),
        "expected rows of three square channels",
    ),
    (lambda place: npz_with(place, data=np.zeros((2, 12288))), "expected `data` of uint8 (images, bytes), got float64"),
    (lambda place: write_folder(place / "a", {"x.npz": b""}), "expected files train....npz, got other files"),
    (
        lambda place: write_images(place / "a", random_images(2, 3, 8, 9)),
        "00000.png: expected a square image, got 9x8. Crop it with --s",
    ),
    (
        lambda place: images_with(place, "x.png", encoded("PNG", size=(9, 9))),
        "x.png: expected 8x8 like the images before it, got 9x9. Give --size",
    ),
    (lambda place: images_with(place, "x.png", cut(noise("PNG"), 0.6)), "x.png is not an image that can be used"),
    (lambda place: images_with(place, "x.jpg", cut(noise("JPEG"), 0.8)), "x.jpg is not an image that can be used"),
    (lambda place: images_with(place, "x.png", b""), "x.png is not an image that can be used"),
    (lambda place: images_with(place, "x.png", encoded("PNG", "I;16")), "mode I;16 has more than 8 bits per channel"),
    (
        lambda place: images_with(place, "c/x.png", encoded("PNG")),
        "expected class folders or images, got both: c and 00000",
    ),
    (lambda place: write_images(place / "a" / "b", random_images(1, 3, 4, 4), [0]).parent, "got a folder c0"),
    (lambda place: with_empty_class(place / "a"), "empty: expected the images of one class, got no images"),
]


@pytest.mark.parametrize(("write", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_is_one_line_with_the_file_s_name_and_status_2(
    write: Callable[[Path], Path],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "place").mkdir()
    source = write(tmp_path / "place")
    assert prepare(source, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ict_ref.prepare: ")
    assert message in line
    assert not (tmp_path / "out" / "data.json").exists()
    assert not (tmp_path / "executed").exists()


def test_a_member_that_would_leave_the_folder_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = cifar("python", PIXELS, LABELS) | {"../../escaped": b"here"}
    assert prepare(write_archive(tmp_path / "a.tar.gz", INNER["python"], content), "--out", tmp_path / "out") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "out"]
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "SOURCE: expected either SOURCE or --check, got nothing"),
        (["a", "--check", "b"], "SOURCE: expected either SOURCE or --check, got both"),
        (["--sizes", "3", "a"], "unknown option --sizes; perhaps you meant --size"),
        (["--size", "0", "a"], "--size: expected an integer >= 1, got 0"),
        (["--workers", "x", "a"], "--workers: expected an integer, got x"),
        (["--split", "val", "a"], "--split: expected one of train, test, got val"),
        (["--check", "nowhere"], "expected a prepared folder, got nowhere, which does not exist"),
        (["images", "--split", "test"], "--split: expected a published file, got the folder of images images"),
        (["images", "--out", "a.tar.gz"], "--out: expected a folder, got the file a.tar.gz"),
        (["images", "--out", "images"], "--out: expected a folder outside SOURCE, got images in images"),
        (["images", "--out", "./images/x/y"], "--out: expected a folder outside SOURCE, got images/x/y in images"),
        (["images", "--out", "others"], "--out: expected an empty folder or prepared data, got others with 00000.png"),
        (["a.tar.gz", "--size", "64"], "--size and --grey: expected a folder of images"),
        (["images", "--out", "/proc/nowhere"], "cannot use /proc/nowhere: No such file"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("images", "others"):
        write_images(tmp_path / name, random_images(2, 3, 4, 4))
    archive_with(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    assert main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert files(tmp_path) == before


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    source = write_folder(tmp_path / "a", {"train-00000-of-00001.parquet": b""})
    assert prepare(source, "--out", tmp_path / "out") == 2
    assert "Install it with python -m pip install 'ict_ref[parquet]'." in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_parquet_is_refused_by_name(share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = parquet(tmp_path / "a") / "train-00000-of-00001.parquet"
    file.write_bytes(cut(file.read_bytes(), share))
    assert prepare(file, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "train-00000-of-00001.parquet cannot be used" in line


def test_what_may_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_images(tmp_path / "source", random_images(2, 3, 4, 4))

    def forbidden(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("PIL.Image.open", forbidden)
    assert prepare(source, "--size", 4, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"cannot use {source / '00000.png'}: Permission denied" in line


def test_help_needs_no_torch_and_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for expected in ("cifar-10-python.tar.gz --out", "ILSVRC2012/train --size 64", "EXIF", "--check", "exit status"):
        assert expected in shown
    code = "import sys, ict_ref.prepare.__main__\nassert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_check_finds_a_changed_byte_and_opening_a_truncated_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert prepare(write_images(tmp_path / "source", random_images(9, 3, 4, 4), [0] * 9), "--out", out) == 0
    monkeypatch.setattr("ict_ref.data.prepared.SMALL", 0)
    for name in ("images.npy", "labels.npy"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with contextlib.suppress(ValueError):
            open_arrays(out)  # of a large file only the size is looked at
        assert prepare("--check", out) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{name} is damaged: its checksum is not that of data.json" in line or "expected labels from 0" in line
        for wrong in (whole[:-1], whole[:50], b"", whole + b"x"):
            (out / name).write_bytes(wrong)
            with pytest.raises(ValueError, match=rf"{name}(:| is truncated or damaged)"):
                open_arrays(out)
        (out / name).unlink()
        with pytest.raises(ValueError, match=f"{name} is missing"):
            open_arrays(out)
        (out / name).write_bytes(whole)
    open_arrays(out)
    assert prepare("--check", out) == 0
