"""Recognition of CIFAR-10 and ImageNet by their counts, and the refusal of other data under their names."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Int64
from tests.support.datasets import prepared, random_images

from ict_ref.config import Data
from ict_ref.data.dataset import load
from ict_ref.data.published import (
    CIFAR10_NAMES,
    CIFAR10_TEST,
    CIFAR10_TRAIN,
    IMAGENET_TRAIN,
    IMAGENET_VALIDATION,
    PublishedSplit,
    contents,
    differences,
    recognised,
)

Labels = Int64[np.ndarray, " n"]
CIFAR, IMAGENET = (3, 32, 32), (3, 64, 64)


def cifar_labels(per_class: int) -> Labels:
    """Return the labels of ten classes of one size, mixed."""
    return np.arange(10 * per_class) % 10


def imagenet_labels() -> Labels:
    """Return labels with the numbers of images per class of ImageNet: 895 classes have 1300 images, one has 732."""
    return np.repeat(np.arange(1000), [732, *[1300] * 895, *[1124] * 65, *[1125] * 39])


def synsets(count: int = 1000) -> tuple[str, ...]:
    """Return names in the form of ImageNet's, sorted."""
    return tuple(f"n{1_440_764 + 7 * k:08d}" for k in range(count))


def test_the_example_of_imagenet_has_its_published_numbers() -> None:
    numbers = np.bincount(imagenet_labels())
    assert (len(numbers), numbers.sum(), numbers.min(), numbers.max()) == (1000, 1_281_167, 732, 1300)


@pytest.mark.parametrize(
    ("labels", "shape", "names", "expected"),
    [
        (cifar_labels(5000), CIFAR, CIFAR10_NAMES, CIFAR10_TRAIN),
        (cifar_labels(5000), CIFAR, None, CIFAR10_TRAIN),
        (cifar_labels(1000), CIFAR, CIFAR10_NAMES, CIFAR10_TEST),
        (imagenet_labels(), IMAGENET, None, IMAGENET_TRAIN),
        (imagenet_labels(), (3, 32, 32), synsets(), IMAGENET_TRAIN),
        (imagenet_labels(), IMAGENET, tuple(f"{synset} a name" for synset in synsets()), IMAGENET_TRAIN),
        (np.arange(50_000) % 1000, IMAGENET, synsets(), IMAGENET_VALIDATION),
        (cifar_labels(50), CIFAR, CIFAR10_NAMES, None),
        (None, CIFAR, None, None),
    ],
)
def test_a_split_is_recognised_by_its_numbers_of_images(
    labels: Labels | None, shape: tuple[int, int, int], names: tuple[str, ...] | None, expected: PublishedSplit | None
) -> None:
    count = 50_000 if labels is None else len(labels)
    assert recognised(contents(count, shape, labels, names)) is expected


def test_classes_without_images_are_not_counted() -> None:
    found = contents(5, CIFAR, np.array([3, 3, 7, 7, 7]), None).counts
    assert (found.images, found.classes, found.per_class) == (5, 2, (2, 3))


def moved(labels: Labels) -> Labels:
    """Move one image from the first class to the last."""
    changed = labels.copy()
    changed[np.argmin(labels)] = labels.max()
    return changed


@pytest.mark.parametrize(
    ("published", "labels", "shape", "names", "phrases"),
    [
        (CIFAR10_TRAIN, cifar_labels(50), CIFAR, CIFAR10_NAMES, ["500 of 50 000 images"]),
        (CIFAR10_TRAIN, cifar_labels(6000), CIFAR, None, ["60 000 images instead of 50 000"]),
        (CIFAR10_TRAIN, np.arange(9), CIFAR, None, ["9 of 50 000 images", "9 of 10 classes"]),
        (CIFAR10_TRAIN, np.arange(50_000) % 100, CIFAR, None, ["100 classes instead of 10"]),
        (
            CIFAR10_TRAIN,
            moved(cifar_labels(5000)),
            CIFAR,
            None,
            ["4 999 to 5 001 images per class instead of 5 000"],
        ),
        (CIFAR10_TRAIN, cifar_labels(5000), (1, 32, 32), None, ["images of 1x32x32"]),
        (CIFAR10_TRAIN, cifar_labels(5000), IMAGENET, None, ["images of 3x64x64"]),
        (CIFAR10_TRAIN, cifar_labels(5000), CIFAR, tuple("abcdefghij"), ["other names of the classes"]),
        (CIFAR10_TRAIN, cifar_labels(5000), CIFAR, CIFAR10_NAMES[::-1], ["other names of the classes"]),
        (IMAGENET_TRAIN, imagenet_labels(), (1, 64, 64), None, ["images of 1x64x64"]),
        (IMAGENET_TRAIN, imagenet_labels(), IMAGENET, synsets()[::-1], ["other names of the classes"]),
        (IMAGENET_TRAIN, imagenet_labels(), IMAGENET, (*synsets()[:-1], "dog"), ["other names of the classes"]),
        (
            IMAGENET_TRAIN,
            moved(imagenet_labels()),
            IMAGENET,
            None,
            ["731 to 1 300 images per class instead of 732 to 1 300"],
        ),
        (IMAGENET_TRAIN, imagenet_labels()[:-1], IMAGENET, None, ["1 281 166 of 1 281 167 images"]),
        (IMAGENET_TRAIN, np.arange(12) % 3, IMAGENET, None, ["12 of 1 281 167 images", "3 of 1 000 classes"]),
    ],
)
def test_each_difference_is_a_phrase_with_both_numbers(
    published: PublishedSplit,
    labels: Labels,
    shape: tuple[int, int, int],
    names: tuple[str, ...] | None,
    phrases: list[str],
) -> None:
    assert differences(published, contents(len(labels), shape, labels, names)) == phrases


def test_images_without_labels_are_not_recognised() -> None:
    assert differences(CIFAR10_TRAIN, contents(50_000, CIFAR, None, None)) == ["without classes"]


def large(folder: Path, labels: Labels, shape: tuple[int, int, int], **fields: object) -> str:
    """Write a prepared folder whose images are a hole in the file, too large to be read or hashed when it is opened."""
    folder.mkdir()
    np.save(folder / "labels.npy", labels)
    with (folder / "images.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(labels), *shape)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.seek(0, 2) + len(labels) * int(np.prod(shape)))
    about = {
        "words": "a test", "recipe": {}, "count": len(labels), "shape": shape, "classes": int(labels.max()) + 1,
        "names": None, "sha256": {"images.npy": "0", "labels.npy": "0"}, "ict_ref": "0.1.0",
    }  # fmt: skip
    (folder / "data.json").write_text(json.dumps(about | fields))
    return str(folder)


def test_imagenet_is_recognised_from_its_labels_without_its_pixels_being_read(tmp_path: Path) -> None:
    # 15 GB of images: reading them would take minutes. data.json has the entries of version 0.1.0 only.
    whole = large(tmp_path / "whole", imagenet_labels(), IMAGENET)
    assert len(load(Data(name="imagenet64", path=whole)).train) == 1_281_167
    part = large(tmp_path / "part", imagenet_labels()[:-1], IMAGENET)
    expected = (
        r"^--data\.path: expected ImageNet-64 as published \(1 281 167 images in 1 000 classes\), "
        rf"got 1 281 166 images in 1 000 classes in {part}\. Give --data\.partial to train on them\.$"
    )
    with pytest.raises(ValueError, match=expected):
        load(Data(name="imagenet64", path=part))
    assert len(load(Data(name="imagenet64", path=part, partial=True)).train) == 1_281_166


def test_an_entry_of_data_json_cannot_make_other_data_the_published_set(tmp_path: Path) -> None:
    published = {"name": "ImageNet-64", "split": "train", "evidence": "its numbers of images and classes"}
    part = large(tmp_path / "part", imagenet_labels()[:-1], IMAGENET, published=published, class_order=None)
    with pytest.raises(ValueError, match=r"got 1 281 166 images"):
        load(Data(name="imagenet64", path=part))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"published": "ImageNet"}, r"published: expected an object or null, got 'ImageNet'"),
        ({"published": {"name": 3}}, r"published\.name: expected a string, got 3"),
        ({"class_order": 3}, r"class_order: expected a string or null, got 3"),
    ],
)
def test_a_damaged_entry_is_rejected_by_name(fields: dict[str, object], message: str, tmp_path: Path) -> None:
    whole = large(tmp_path / "whole", np.arange(9), (1, 2, 2), **fields)
    with pytest.raises(ValueError, match=rf"data\.json is damaged \({message}\)"):
        load(Data(name="folder", path=whole))


CASES: list[tuple[str, Callable[[Path], str], str]] = [
    (
        "few images",
        lambda place: str(prepared(place, random_images(20, *CIFAR), [k % 10 for k in range(20)])),
        "20 images in 10 classes",
    ),
    ("without labels", lambda place: str(prepared(place, random_images(9, *CIFAR))), "9 images without classes"),
    ("test split", lambda place: large(place, cifar_labels(1000), CIFAR), "10 000 images in 10 classes"),
    (
        "classes of other sizes",
        lambda place: large(place, moved(cifar_labels(5000)), CIFAR),
        "50 000 images in 10 classes with 4 999 to 5 001 images per class instead of 5 000",
    ),
    (
        "other classes",
        lambda place: large(place, cifar_labels(5000), CIFAR, names=list("abcdefghij")),
        "50 000 images in 10 classes with other names of the classes",
    ),
]


@pytest.mark.parametrize(("write", "got"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_other_data_under_a_published_name_need_data_partial(
    write: Callable[[Path], str], got: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ict_ref.data.prepared.SMALL", 0)  # the hole in a file has no checksum
    options = Data(name="cifar10", path=write(tmp_path / "data"), labels=False)
    with pytest.raises(ValueError, match=r"^--data\.path: expected CIFAR-10 as published") as caught:
        load(options)
    assert str(caught.value) == (
        "--data.path: expected CIFAR-10 as published (50 000 images in 10 classes), "
        f"got {got} in {options.path}. Give --data.partial to train on them."
    )
    load(dataclasses.replace(options, partial=True))
    load(dataclasses.replace(options, name="folder"))


def test_held_out_images_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ict_ref.data.prepared.SMALL", 0)
    train = large(tmp_path / "train", cifar_labels(5000), CIFAR)
    rest = large(tmp_path / "rest", cifar_labels(7), CIFAR)
    dataset = load(Data(name="cifar10", path=train, held_out=rest))
    assert (len(dataset.train), len(dataset.held_out)) == (50_000, 70)
