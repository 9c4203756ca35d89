"""Published sets that `prepare` recognises, their class order, and the lines that it prints to continue with."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.prepare.test_sources import PUBLISHED, npz
from tests.support.datasets import (
    binary_batch,
    cifar,
    python_batch,
    random_images,
    write_archive,
    write_folder,
    write_images,
)
from tests.support.files import contents
from tests.support.preparing import INNER, LABELS, PIXELS, about, prepare

from ict_ref.data.dataset import load
from ict_ref.data.prepared import read_about
from ict_ref.launch.__main__ import main
from ict_ref.launch.options import parse
from ict_ref.prepare.next_steps import toml_string
from ict_ref.prepare.sources.cifar import BATCH_MD5, MD5

ORDER = "order of the downsampled set's labels, 1 to 1000, not sorted synsets"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the lines on standard output."""
    return capsys.readouterr().out.splitlines()


def full_size() -> dict[str, bytes]:
    """Return CIFAR-10's binary batches with as many images per class as published: image k is white or black."""
    images = np.zeros((10_000, 3, 32, 32), np.uint8)
    images[::2] = 255
    batch = binary_batch(images, [k % 10 for k in range(10_000)])
    return {f"data_batch_{k}.bin": batch for k in range(1, 6)} | {"test_batch.bin": batch}


def test_an_archive_of_full_size_is_recognised_by_its_counts_or_its_md5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_archive(tmp_path / "cifar-10-binary.tar.gz", INNER["binary"], full_size())
    md5 = subprocess.run(["/usr/bin/env", "md5sum", source], capture_output=True, text=True, check=True).stdout[:32]
    for split, count in (("train", 50_000), ("test", 10_000)):
        assert prepare(source, "--split", split, "--unknown-files", "--out", tmp_path / split) == 0
        shown = lines(capsys)
        evidence = f"its numbers of images and classes; the MD5 of the archive, {md5}, is not a published one"
        assert f"recognised: CIFAR-10 as published, {split} split, by {evidence}" in shown
        assert about(tmp_path / split)["published"] == {"name": "CIFAR-10", "split": split, "evidence": evidence}
        assert about(tmp_path / split)["count"] == count
        assert str(about(tmp_path / split)["words"]).startswith(f"CIFAR-10, {split} split, binary batches")
    assert prepare("--check", tmp_path / "test") == 0
    assert f"recognised: CIFAR-10 as published, test split, by {evidence}" in lines(capsys)

    monkeypatch.setitem(MD5, "binary", md5)
    assert prepare(source) == 0
    assert f"recognised: CIFAR-10 as published, train split, by the MD5 of its archive, {md5}" in lines(capsys)


def test_an_archive_of_500_images_is_not_called_cifar_10(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = cifar("python", random_images(503, 3, 32, 32), [k % 10 for k in range(503)])
    source = write_archive(tmp_path / "a.tar.gz", INNER["python"], content)
    assert prepare(source, "--unknown-files", "--out", tmp_path / "out") == 0
    assert "500 of 50 000 images: not CIFAR-10 as published" in lines(capsys)
    words = str(about(tmp_path / "out")["words"])
    assert words.startswith("not CIFAR-10 as published (500 of 50 000 images), train split, python batches")
    assert (about(tmp_path / "out")["published"], about(tmp_path / "out")["class_order"]) == (None, None)


@pytest.mark.parametrize("kind", ["python", "binary"])
@pytest.mark.parametrize("inner", ["./cifar-10-batches", "data/cifar10", ".", "/data", "batches-py"])
def test_an_archive_packed_again_is_read_wherever_its_batches_lie(inner: str, kind: str, tmp_path: Path) -> None:
    batches = cifar(kind, PIXELS, LABELS)
    source = write_archive(tmp_path / "a.tar.gz", inner, batches | {"._data_batch_1": b"AppleDouble"})
    assert prepare(source, "--unknown-files", "--out", tmp_path / "out") == 0
    published = write_archive(tmp_path / "b.tar.gz", INNER[kind], batches)
    assert prepare(published, "--unknown-files", "--out", tmp_path / "expected") == 0
    images = [(tmp_path / name / "images.npy").read_bytes() for name in ("out", "expected")]
    assert images[0] == images[1]


def test_an_archive_with_batches_in_two_folders_is_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    batches = cifar("python", PIXELS, LABELS)
    twice = {f"{folder}/{name}": content for folder in "ab" for name, content in batches.items()}
    assert prepare(write_archive(tmp_path / "a.tar.gz", ".", twice), "--out", tmp_path / "out") == 2
    assert "expected the batches in one folder, got a and b" in capsys.readouterr().err


def test_the_md5s_are_those_on_the_page_of_cifar_10() -> None:
    assert MD5 == {"python": "c58f30108f718f92721af3b95e74349a", "binary": "c32a1d4ab5d03f1284b67883e8d87530"}


def test_the_md5s_of_the_batches_are_those_of_torchvision() -> None:
    # train_list and test_list of torchvision.datasets.CIFAR10; the batches hold 50 000 and 10 000 images.
    assert BATCH_MD5 == {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }


def md5sum(content: bytes) -> str:
    """Return the MD5 as the program md5sum prints it."""
    return (
        subprocess.run(["/usr/bin/env", "md5sum"], input=content, capture_output=True, check=True).stdout[:32].decode()
    )


def files_of(form: str, place: Path, batches: dict[str, bytes]) -> Path:
    """Write CIFAR-10 in this form."""
    kind, container = form.split()
    if container == "folder":
        return write_folder(place / INNER[kind], batches)
    place.mkdir()
    return write_archive(place / f"cifar-10-{kind}.tar.gz", INNER[kind], batches)


@pytest.mark.parametrize("form", ["python folder", "python archive", "binary archive"])
@pytest.mark.parametrize("change", ["a bit", "a label", "more bytes", "two batches swapped", "own images"])
def test_files_that_are_not_the_published_ones_are_used_only_on_purpose(
    form: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind, end = form.split()[0], "" if form.startswith("python") else ".bin"
    batches = cifar(kind, PIXELS, LABELS)
    whole = files_of(form, tmp_path / "whole", batches)
    monkeypatch.setattr(
        "ict_ref.prepare.sources.cifar.BATCH_MD5", {name: md5sum(batches[name + end]) for name in BATCH_MD5}
    )
    if whole.is_file():
        monkeypatch.setattr("ict_ref.prepare.sources.cifar.MD5", {kind: md5sum(whole.read_bytes())})
    assert prepare(whole, "--out", tmp_path / "out" / "whole") == 0
    assert about(tmp_path / "out" / "whole")["files"] == "published"
    first, second = f"data_batch_1{end}", f"data_batch_2{end}"
    changed = dict(batches)
    if change == "a bit":
        place = batches[second].index(PIXELS[3].tobytes()) + 5
        changed[second] = batches[second][:place] + bytes([PIXELS[3].tobytes()[5] ^ 1]) + batches[second][place + 1 :]
    elif change == "a label":
        changed[second] = {"python": python_batch, "binary": binary_batch}[kind](PIXELS[3:4], [8])
    elif change == "more bytes":
        # The same content, which is not the same file: a byte more after the end.
        changed[second] = batches[second] + (b" " if kind == "python" else b"\0" * 3073)
    elif change == "two batches swapped":
        changed[first], changed[second] = batches[second], batches[first]
    else:
        changed = cifar(kind, random_images(23, 3, 32, 32), [k % 10 for k in range(23)])
    source = files_of(form, tmp_path / "changed", changed)
    capsys.readouterr()
    assert prepare(source, "--out", tmp_path / "out" / "changed") == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    of_python = first if change in ("two batches swapped", "own images") else second
    name = source.name if kind == "binary" else of_python
    got = md5sum(source.read_bytes() if kind == "binary" else changed[name])
    assert f"{source}: expected {name} with the published MD5 " in line
    assert f", got {got}. Download it again, or give --unknown-files for other data in this format." in line
    assert not (tmp_path / "out" / "changed").exists()
    assert prepare(source, "--unknown-files", "--out", tmp_path / "out" / "changed") == 0
    assert "files: their MD5s are not the published ones (--unknown-files)" in lines(capsys)
    assert about(tmp_path / "out" / "changed")["files"] == "unknown"
    assert prepare("--check", tmp_path / "out" / "changed") == 0
    assert "files: their MD5s are not the published ones (--unknown-files)" in lines(capsys)


def test_published_batches_in_another_archive_are_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = cifar("python", PIXELS, LABELS)
    monkeypatch.setattr("ict_ref.prepare.sources.cifar.BATCH_MD5", {name: md5sum(batches[name]) for name in BATCH_MD5})
    for split in ("train", "test"):
        source = files_of("python archive", tmp_path / f"of {split}", batches)
        assert prepare(source, "--split", split, "--out", tmp_path / split) == 0
        assert about(tmp_path / split)["files"] == "published"


def test_files_without_published_md5s_are_not_compared(tmp_path: Path) -> None:
    npz(tmp_path / "npz", [1])
    for number, source in enumerate((PUBLISHED["binary folder"](tmp_path), tmp_path / "npz")):
        assert prepare(source, "--out", tmp_path / str(number)) == 0
        assert about(tmp_path / str(number))["files"] is None


@pytest.mark.parametrize("form", ["python archive", "binary archive", "python folder", "binary folder"])
def test_the_checksum_of_cifar_10_is_that_of_version_0_1_0(form: str, tmp_path: Path) -> None:
    # Runs are tied to the checksum, and a prepared folder to its recipe: both were computed by version 0.1.0.
    source = PUBLISHED[form](tmp_path)
    for split, checksum in (("train", "2ebdd657dd26570b"), ("test", "71e33aa54a7114b3")):
        assert prepare(source, "--split", split, "--unknown-files", "--out", tmp_path / split) == 0
        assert read_about(tmp_path / split).checksum() == checksum
        assert set(read_about(tmp_path / split).recipe) == {"reader", "source", "files", "split"}


def test_the_checksums_of_other_sources_are_those_of_version_0_1_0(tmp_path: Path) -> None:
    npz(tmp_path / "npz", [1, 2, 3])
    write_images(tmp_path / "images", random_images(9, 3, 8, 8), [2, 0, 1, 0, 2, 2, 1, 0, 1])
    for name, checksum in (("npz", "e14dc123890f4682"), ("images", "ea49883d8f28cde1")):
        assert prepare(tmp_path / name, "--out", tmp_path / "out" / name) == 0
        assert read_about(tmp_path / "out" / name).checksum() == checksum
    assert read_about(tmp_path / "out" / "npz").recipe == {
        "reader": "npz", "source": "npz", "files": "8a53265c400a4265", "split": "train",
    }  # fmt: skip


def test_a_folder_that_version_0_1_0_prepared_is_complete_and_left_alone(tmp_path: Path) -> None:
    source, out = PUBLISHED["binary folder"](tmp_path), tmp_path / "out"
    assert prepare(source, "--out", out) == 0
    later = ("published", "class_order", "files", "sha256_of_others")
    old = {name: value for name, value in about(out).items() if name not in later}
    (out / "data.json").write_text(json.dumps(old | {"words": "CIFAR-10, train split"}))
    before = contents(out)
    assert prepare(source, "--out", out) == 0
    assert prepare("--check", out) == 0
    assert contents(out) == before
    assert (read_about(out).published, read_about(out).class_order, read_about(out).files) == (None, None, None)


@pytest.mark.parametrize(
    ("numbers", "more", "message"),
    [
        ([1, 2, 3, 4, 5, 6, 8, 9, 10], [], "got train_data_batch_10.npz without train_data_batch_7.npz. Add it"),
        ([6, 7, 8, 9, 10], [], "got train_data_batch_10.npz without train_data_batch_1.npz. Add it"),
        ([2], [], "got train_data_batch_2.npz without train_data_batch_1.npz. Add it"),
        ([1, 2], [11], "got also train_data_batch_11.npz. Move it away."),
        ([1, 2], [0], "got also train_data_batch_0.npz. Move it away."),
        ([1, 2], ["train_data_batch_3 (1)"], "got also train_data_batch_3 (1).npz. Move it away."),
        ([1, 2], ["train_data"], "got also train_data.npz. Move it away."),
    ],
)
def test_a_folder_of_imagenet_s_batches_has_each_number_from_1_on(
    numbers: list[int], more: list[int | str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz(tmp_path / "npz", numbers, side=8)
    for name in more:
        npz(tmp_path / "more", [40], side=8)
        file = f"train_data_batch_{name}.npz" if isinstance(name, int) else f"{name}.npz"
        (tmp_path / "more" / "train_data_batch_40.npz").rename(tmp_path / "npz" / file)
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_missing_batches_of_imagenet_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz(tmp_path / "npz", [1, 2, 3, 4, 5], side=8)
    assert prepare(tmp_path / "npz") == 0
    # The labels of batch k are k, 1000 and 500 + k: 11 classes.
    some = "15 of 1 281 167 images, 11 of 1 000 classes"
    missing = "without train_data_batch_6.npz, train_data_batch_7.npz, train_data_batch_8.npz and 2 other batches"
    assert f"{some}, {missing}: not ImageNet-8 as published" in lines(capsys)
    assert prepare(tmp_path / "npz" / "train_data_batch_2.npz") == 0
    missing = "without train_data_batch_1.npz, train_data_batch_3.npz, train_data_batch_4.npz and 6 other batches"
    assert any(missing in line for line in lines(capsys))


def test_all_ten_batches_leave_no_batch_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz(tmp_path / "npz", list(range(1, 11)), side=8)
    assert prepare(tmp_path / "npz") == 0
    assert "30 of 1 281 167 images, 21 of 1 000 classes: not ImageNet-8 as published" in lines(capsys)


@pytest.mark.parametrize("name", ["train_data_batch_3.npz", "train_data_batch_2 (copy).npz"])
def test_a_copy_of_a_batch_is_rejected_by_both_names(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz(tmp_path / "npz", [1, 2], side=8)
    (tmp_path / "npz" / name).write_bytes((tmp_path / "npz" / "train_data_batch_2.npz").read_bytes())
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    names = {name, "train_data_batch_2.npz"}
    assert "expected each batch once, got the batch of" in line
    assert all(one in line for one in names)


def test_two_batches_of_one_number_are_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz(tmp_path / "npz", [1, 2, 3], side=8)
    (tmp_path / "npz" / "train_data_batch_3.npz").rename(tmp_path / "npz" / "train_data_batch_02.npz")
    assert prepare(tmp_path / "npz") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "train_data_batch_02.npz" in line
    assert "train_data_batch_2.npz" in line


def test_batches_with_equal_labels_and_other_images_are_different_batches(tmp_path: Path) -> None:
    (tmp_path / "npz").mkdir()
    for number in (1, 2):
        data = random_images(3, 192, seed=number)
        np.savez(tmp_path / "npz" / f"train_data_batch_{number}.npz", data=data, labels=np.array([1, 2, 3]))
    assert prepare(tmp_path / "npz") == 0


def class_map(path: Path) -> tuple[Path, list[str]]:
    """Write a map of 1000 invented synsets in mixed order, and return the synset of each label, label 1 first."""
    order = np.random.default_rng(5).permutation(1000)
    synsets = [f"n{1_000_000 + 11 * int(k):08d}" for k in order]
    path.write_text("".join(f"{synset} {label} class_{synset[-3:]}\n" for label, synset in enumerate(synsets, 1)))
    return path, synsets


def test_the_map_beside_a_single_batch_is_found(tmp_path: Path) -> None:
    _, labels = npz(tmp_path / "npz", [3], side=8)
    _, synsets = class_map(tmp_path / "npz" / "map_clsloc.txt")
    assert prepare(tmp_path / "npz" / "train_data_batch_3.npz", "--out", tmp_path / "out") == 0
    ranks = [sorted(synsets).index(synsets[label - 1]) for label in labels[0]]
    assert np.load(tmp_path / "out" / "labels.npy").tolist() == ranks


@pytest.mark.parametrize("beside", [True, False])
def test_labels_are_translated_to_sorted_synsets_by_the_publishers_map(
    beside: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, labels = npz(tmp_path / "npz", [1, 2], side=8)
    file, synsets = class_map(tmp_path / "npz" / "map_clsloc.txt" if beside else tmp_path / "the map.txt")
    options = [] if beside else ["--class-map", file]
    assert prepare(tmp_path / "npz", *options, "--out", tmp_path / "out") == 0
    shown = lines(capsys)
    made = np.load(tmp_path / "out" / "labels.npy").tolist()
    names = about(tmp_path / "out")["names"]
    assert isinstance(names, list)
    # The name of each image's class is that of its published label, and the names are sorted.
    expected = [synsets[label - 1] for batch in labels for label in batch]
    assert [names[label].split()[0] for label in made] == expected
    assert [names[label].split()[1] for label in made] == [f"class_{synset[-3:]}" for synset in expected]
    assert names == sorted(names)
    assert about(tmp_path / "out")["class_order"] is None
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    assert read_about(tmp_path / "out").recipe["class_map"] == f"{file.name} {digest}"
    assert f"classes: sorted synsets by {file.name} {digest}" in str(about(tmp_path / "out")["words"])
    assert not any(ORDER in line for line in shown)


def test_without_the_map_the_publishers_order_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz(tmp_path / "npz", [1], side=8)
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 0
    said = about(tmp_path / "out")
    assert said["class_order"] == ORDER
    assert str(said["words"]).endswith(f"label less one; {ORDER}")
    (line,) = [line for line in lines(capsys) if line.startswith("classes: ")]
    assert line.startswith(f"classes: {ORDER}. Labels are consistent within these data, but class k is not class k of")
    assert prepare("--check", tmp_path / "out") == 0
    assert line in lines(capsys)
    # With the map, the labels are others: this is other data than those in the folder.
    class_map(tmp_path / "npz" / "map_clsloc.txt")
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 2
    assert "has another recipe: expected class_map map_clsloc.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace(" 7 ", " 8 "), "expected each label from 1 to 1000 once, got 8"),
        (lambda text: text.replace(" 7 ", " 1001 "), "line 7: expected each label from 1 to 1000 once, got 1001"),
        (lambda text: text.replace(" 7 ", " 0 "), "line 7: expected each label from 1 to 1000 once, got 0"),
        (lambda text: text[: text.index("\n") + 1], "expected 1000 lines of different synsets, got 1 of 1"),
        (lambda text: text.split("\n")[0][:10] + "1000 x\n" + text, "expected each label from 1 to 1000 once"),
        (lambda text: text.replace("n", "x", 1), "line 1: expected a line such as n02119789 1 kit_fox, got 'x"),
        (lambda text: "", "expected 1000 lines of different synsets, got 0 of 0"),
        (
            lambda text: text.split("\n")[1][:9] + text[9:],
            "expected 1000 lines of different synsets, got 1000 of 999",
        ),
    ],
)
def test_a_damaged_map_is_rejected_in_one_line(
    change: Callable[[str], str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz(tmp_path / "npz", [1], side=8)
    file, _ = class_map(tmp_path / "npz" / "map_clsloc.txt")
    file.write_text(change(file.read_text()))
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "map_clsloc.txt cannot be used: " in line
    assert message in line


def test_a_map_needs_the_downsampled_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = class_map(tmp_path / "map.txt")
    for source in (write_images(tmp_path / "images", random_images(2, 3, 4, 4)), PUBLISHED["binary folder"](tmp_path)):
        assert prepare(source, "--class-map", file) == 2
        assert "--class-map: expected .npz batches of the downsampled ImageNet" in capsys.readouterr().err


def test_folders_of_synsets_are_compared_with_imagenet_and_own_folders_with_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "own", random_images(4, 3, 8, 8), [0, 0, 1, 1])
    assert prepare(tmp_path / "own") == 0
    assert len(lines(capsys)) == 2
    for k, name in enumerate(("n01440764", "n02119789")):
        (tmp_path / "own" / f"c{k}").rename(tmp_path / "own" / name)
    assert prepare(tmp_path / "own", "--size", 64) == 0
    assert lines(capsys)[-1] == "4 of 1 281 167 images, 2 of 1 000 classes: not ImageNet-64 as published"


def test_a_folder_of_cifar_10_s_classes_is_compared_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "png", random_images(20, 3, 32, 32), [k % 10 for k in range(20)])
    for k, name in enumerate("airplane automobile bird cat deer dog frog horse ship truck".split()):  # noqa: SIM905
        (tmp_path / "png" / f"c{k}").rename(tmp_path / "png" / name)
    assert prepare(tmp_path / "png", "--out", tmp_path / "out") == 0
    shown = lines(capsys)
    assert "20 of 50 000 images: not CIFAR-10 as published" in shown
    assert shown[-1] == "    python -m ict_ref.launch --config cifar10 --data.partial"


def next_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return the last lines, from `next:` on."""
    shown = lines(capsys)
    return shown[[line.startswith("next: ") for line in shown].index(True) :]


def arguments(line: str) -> list[str]:
    """Return the arguments of a printed launch command, as a shell reads them."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "ict_ref.launch"]
    return words[3:]


@pytest.mark.parametrize("name", ["data", 'it\'s a "strange" $HOME \\ folder', "папка"])
def test_the_lines_after_a_part_of_cifar_10_can_be_pasted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = PUBLISHED["binary folder"](tmp_path)
    assert prepare(source, "--out", name) == 0
    first, *table, then, line = next_lines(capsys)
    assert first == "next: name the folder in your cluster file, ~/.config/ict_ref/cluster.toml:"
    place = tomllib.loads("\n".join(table))["data"]["cifar10"]
    assert place == str(tmp_path / name)
    assert then == "and train:"
    assert line == "    python -m ict_ref.launch --config cifar10 --data.partial"
    config = parse([*arguments(line), "--data.path", place]).config
    assert load(config.data).train.array.shape == (14, 3, 32, 32)
    # The test split of the same archive is for scoring.
    assert prepare(source, "--split", "test", "--out", name + "-test") == 0
    first, line = next_lines(capsys)
    assert first == "next: train, and score by these images:"
    held_out = parse([*arguments(line), "--data.partial", "--data.path", place]).config.data.held_out
    assert held_out == str(tmp_path / (name + "-test"))


def test_the_lines_after_the_whole_cifar_10_do_not_need_data_partial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(write_folder(tmp_path / "a", full_size()), "--out", tmp_path / "out") == 0
    line = next_lines(capsys)[-1]
    assert line == "    python -m ict_ref.launch --config cifar10"
    assert len(load(parse([*arguments(line), "--data.path", str(tmp_path / "out")]).config.data).train) == 50_000


@pytest.mark.parametrize(
    ("pixels", "labels", "options"),
    [
        (random_images(6, 3, 8, 8), [0, 0, 0, 1, 1, 1], []),
        (random_images(6, 1, 9, 9), None, ["--grey"]),
        (random_images(6, 3, 5, 5), [0, 0, 0, 1, 1, 1], []),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_the_line_after_a_folder_of_own_images_trains(
    pixels: np.ndarray,
    labels: list[int] | None,
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, out = write_images(tmp_path / "own", pixels, labels), tmp_path / "own images"
    assert prepare(source, *options, "--out", out) == 0
    first, line = next_lines(capsys)
    assert first == "next: train:"
    assert main([*arguments(line), "--train.steps", "8", "--out", str(tmp_path / "run")]) == 0


def test_the_line_after_imagenet_of_another_size_is_that_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    npz(tmp_path / "npz", [1], side=8)
    np.savez(tmp_path / "npz" / "val_data.npz", data=np.zeros((4, 192), np.uint8), labels=np.array([7, 8, 9, 9]))
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 0
    assert next_lines(capsys)[-1].startswith("    python -m ict_ref.launch --config digits --data.name folder")
    assert prepare(tmp_path / "npz", "--split", "test", "--out", tmp_path / "val") == 0
    assert next_lines(capsys) == [
        "next: to score a run by these images, add:",
        f"    --data.held-out {tmp_path / 'val'}",
    ]


def test_the_lines_after_imagenet_64_name_its_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz(tmp_path / "npz", [1], side=64)
    assert prepare(tmp_path / "npz", "--out", tmp_path / "out") == 0
    _, *table, _, line = next_lines(capsys)
    place = tomllib.loads("\n".join(table))["data"]["imagenet64"]
    assert line == "    python -m ict_ref.launch --config imagenet64 --data.partial"
    assert load(parse([*arguments(line), "--data.path", place]).config.data).train.classes == 1000


def test_toml_strings_are_read_back(tmp_path: Path) -> None:
    for text in ("", 'a"b', "a\\b", "a\nb\t\x01\x7f", "собака 🐶", "$HOME 'x'"):
        assert tomllib.loads(f"x = {toml_string(text)}") == {"x": text}


def test_a_path_that_standard_output_cannot_encode_does_not_fail_the_command(tmp_path: Path) -> None:
    source = write_images(tmp_path / "images", random_images(2, 3, 4, 4))
    done = subprocess.run(
        [sys.executable, "-m", "ict_ref.prepare", str(source), "--out", str(tmp_path / "собака")],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\\u0441" in done.stdout
