"""Damaged or hostile inputs and wrong options: one line, status 2, nothing executed."""

import contextlib
import gzip
import io
import os
import pickle
import subprocess
import sys
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
from tests.support.files import contents
from tests.support.preparing import INNER, LABELS, PIXELS, parquet, prepare

from ict_ref.data.prepared import open_arrays
from ict_ref.prepare.__main__ import main


def cut(content: bytes, share: float) -> bytes:
    """Return the beginning of a file."""
    return content[: int(len(content) * share)]


class Evil:
    """Pickled, it executes a command when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def bomb(place: Path) -> Path:
    """Write an archive of 1 MB that decompresses to 1 GB of zeros."""
    with gzip.open(place / "a.tar.gz", "wb") as file:
        for _ in range(1024):
            file.write(bytes(2**20))
    return place / "a.tar.gz"


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
    (lambda place: place, "expected images (.bmp, .dib, .gif"),
    (lambda place: write_folder(place / "a", {"notes.txt": b""}) / "notes.txt", "expected a folder, .tar.gz, .npz or"),
    *((lambda place, share=share: cut_archive(place, share), "a.tar.gz") for share in (0, 0.001, 0.3, 0.7, 0.999)),
    (lambda place: archive_with(place, data_batch_2=b""), "data_batch_2 in"),
    (bomb, "a.tar.gz cannot be used: expected at most 268435456 bytes in the archive"),
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
        "data_batch_3 cannot be used: expected 52224 bytes in a string4",
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
        "data_batch_3 cannot be used: expected one entry data, got 0",
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
    source = write_archive(tmp_path / "a.tar.gz", INNER["python"], content)
    assert prepare(source, "--unknown-files", "--out", tmp_path / "out") == 0
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
        (["images", "--unknown-files"], "--unknown-files: expected CIFAR-10's archive or batches, got images"),
        (["--check", "a", "--out", "b"], "--out: expected --check alone, got --out too. Leave --out out."),
        (["--check", "a", "--grey"], "--grey: expected --check alone, got --grey too"),
        (["--check", "a", "--split", "test"], "--split: expected --check alone, got --split too"),
        (["--check", "a", "--size", "8"], "--size: expected --check alone, got --size too"),
        (["images", "--out", "a.tar.gz"], "--out: expected a folder, got the file a.tar.gz"),
        (["images", "--out", "images"], "--out: expected a folder outside SOURCE, got images in images"),
        (["images", "--out", "./images/x/y"], "--out: expected a folder outside SOURCE, got images/x/y in images"),
        (["images", "--out", "others"], "--out: expected an empty folder or prepared data, got others with 00000.png"),
        (["a.tar.gz", "--unknown-files", "--size", "64"], "--size and --grey: expected a folder of images"),
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
    before = contents(tmp_path)
    assert main(options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert contents(tmp_path) == before


def test_parquet_without_pyarrow_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    source = write_folder(tmp_path / "a", {"train-00000-of-00001.parquet": b""})
    assert prepare(source, "--out", tmp_path / "out") == 2
    assert "Run pip install 'pyarrow>=18'." in capsys.readouterr().err


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

    def forbidden(path: Path, *_: object, **__: object) -> None:
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
