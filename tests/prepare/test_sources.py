"""Published data sets and folders of images: their order, labels and pixels."""

import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.support.datasets import (
    cifar,
    python_batch,
    random_images,
    write_archive,
    write_folder,
    write_images,
)
from tests.support.files import contents
from tests.support.preparing import INNER, LABELS, PIXELS, about, parquet, prepare

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
        assert prepare(source, "--split", split, "--unknown-files", "--out", out) == 0
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
    pixels, labels = npz(tmp_path / "npz", list(range(1, 11)))
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
        assert sorted(contents(out)) == ["data.json", "images.npy"]
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


def test_transparency_in_parquet_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(parquet(tmp_path / "clear", opacity=255), "--out", tmp_path / "a") == 0
    assert "dropped from" not in capsys.readouterr().out
    assert prepare(parquet(tmp_path / "faint", opacity=100), "--out", tmp_path / "b") == 0
    assert "transparency dropped from 14 images (" in capsys.readouterr().out
    assert np.array_equal(np.load(tmp_path / "a" / "images.npy"), np.load(tmp_path / "b" / "images.npy"))
