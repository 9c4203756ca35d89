"""Counts of CIFAR-10 and ImageNet as published, and recognition of images as one of their splits."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from ict_ref.utils.command_line import expect

CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COUNTS = "its numbers of images and classes"
"""The evidence by which data without a published checksum are recognised."""
SYNSET = re.compile(r"n\d{8}\b")
"""Beginning of the name of an ImageNet class: its WordNet synset."""


@dataclass(frozen=True)
class Counts:
    """Numbers of images and classes of a data set."""

    images: int
    classes: int
    """Number of classes that have images; 0 without labels."""
    per_class: tuple[int, int]
    """Smallest and largest number of images of these classes."""


@dataclass(frozen=True)
class Contents:
    """The properties of a data set by which it is recognised."""

    counts: Counts
    shape: tuple[int, int, int]
    names: tuple[str, ...] | None


@dataclass(frozen=True)
class PublishedSplit:
    """One split of a data set as published."""

    name: str
    split: str
    counts: Counts

    def title(self, shape: tuple[int, int, int]) -> str:
        """Return the name of the data set for images of this shape.

        >>> IMAGENET_TRAIN.title((3, 64, 64))
        'ImageNet-64'
        """
        return self.name if self.name == "CIFAR-10" else f"{self.name}-{shape[-1]}"


# Krizhevsky 2009; https://www.cs.toronto.edu/~kriz/cifar.html.
CIFAR10_TRAIN = PublishedSplit("CIFAR-10", "train", Counts(50_000, 10, (5000, 5000)))
CIFAR10_TEST = PublishedSplit("CIFAR-10", "test", Counts(10_000, 10, (1000, 1000)))
# Russakovsky et al. 2015, Table 2; the downsampled set of Chrabaszcz et al. 2017 has the same images.
IMAGENET_TRAIN = PublishedSplit("ImageNet", "train", Counts(1_281_167, 1000, (732, 1300)))
IMAGENET_VALIDATION = PublishedSplit("ImageNet", "validation", Counts(50_000, 1000, (50, 50)))
SPLITS = (CIFAR10_TRAIN, CIFAR10_TEST, IMAGENET_TRAIN, IMAGENET_VALIDATION)
TRAINING_SETS = {"cifar10": CIFAR10_TRAIN, "imagenet64": IMAGENET_TRAIN}
"""The training set of each `data.name` of the paper's presets."""


def contents(
    count: int, shape: tuple[int, int, int], labels: Int64[np.ndarray, " n"] | None, names: tuple[str, ...] | None
) -> Contents:
    """Return the properties of a data set by which it is recognised: one pass over its labels, not over its pixels.

    >>> contents(4, (3, 8, 8), np.array([0, 0, 2, 2]), None).counts
    Counts(images=4, classes=2, per_class=(2, 2))
    """
    if labels is None:
        return Contents(Counts(count, 0, (0, 0)), shape, names)
    numbers = np.bincount(labels)
    numbers = numbers[numbers > 0]
    return Contents(Counts(count, len(numbers), (int(numbers.min()), int(numbers.max()))), shape, names)


def recognised(found: Contents, among: Iterable[PublishedSplit] = SPLITS) -> PublishedSplit | None:
    """Return the published split that has these properties, or None."""
    return next((split for split in among if not differences(split, found)), None)


def differences(published: PublishedSplit, found: Contents) -> list[str]:
    """Return the differences of a data set from a published split, one phrase each.

    >>> differences(CIFAR10_TRAIN, Contents(Counts(500, 10, (50, 50)), (3, 32, 32), None))
    ['500 of 50 000 images']
    """
    here, there = found.counts, published.counts
    phrases = []
    if here.images != there.images:
        phrases.append(_part(here.images, there.images, "images"))
    if here.classes == 0:
        phrases.append("without classes")
    elif here.classes != there.classes:
        phrases.append(_part(here.classes, there.classes, "classes"))
    if not phrases and here.per_class != there.per_class:
        phrases.append(f"{_span(here.per_class)} images per class instead of {_span(there.per_class)}")
    if found.shape != _shape(published, found):
        phrases.append(f"images of {'x'.join(map(str, found.shape))}")
    if here.classes == there.classes and not _has_names(published, found.names):
        phrases.append("other names of the classes")
    return phrases


def refuse_other_than_published(name: str, found: Contents, folder: str) -> None:
    """Reject data that are not the published training set of this `data.name`; any other name allows all data.

    Raises:
        ValueError: the data differ from the published training set. The message has both counts.
    """
    if name not in TRAINING_SETS:
        return
    published = TRAINING_SETS[name]
    phrases = differences(published, found)
    expected = f"{published.title(found.shape)} as published ({_in_words(published.counts)})"
    advice = "Give --data.partial to train on them."
    got = _in_words(found.counts)
    if got == _in_words(published.counts):
        got += f" with {' and '.join(phrases)}"
    expect(not phrases, "--data.path", expected, f"{got} in {folder}", advice)


def grouped(number: int) -> str:
    """Return a number with a space between groups of three digits.

    >>> grouped(1281167)
    '1 281 167'
    """
    return f"{number:,}".replace(",", " ")


def _in_words(counts: Counts) -> str:
    classes = f"in {grouped(counts.classes)} classes" if counts.classes else "without classes"
    return f"{grouped(counts.images)} images {classes}"


def _part(here: int, there: int, unit: str) -> str:
    if here < there:
        return f"{grouped(here)} of {grouped(there)} {unit}"
    return f"{grouped(here)} {unit} instead of {grouped(there)}"


def _span(per_class: tuple[int, int]) -> str:
    least, most = map(grouped, per_class)
    return least if least == most else f"{least} to {most}"


def _shape(published: PublishedSplit, found: Contents) -> tuple[int, int, int]:
    """Return the shape that the images of a split have; ImageNet has no size of its own."""
    side = 32 if published.name == "CIFAR-10" else found.shape[-1]
    return 3, side, side


def _has_names(published: PublishedSplit, names: tuple[str, ...] | None) -> bool:
    """Return whether the classes have the published names, in sorted order, if their names are known."""
    if names is None:
        return True
    if published.name == "CIFAR-10":
        return names == CIFAR10_NAMES
    return all(map(SYNSET.match, names)) and list(names) == sorted(set(names))
