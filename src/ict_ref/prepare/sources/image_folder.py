"""Reader of a folder of images, or of one folder of images per class, as ImageNet is published."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import UInt8

from ict_ref.data.image_files import SUFFIXES, decode
from ict_ref.data.published import (
    CIFAR10_NAMES,
    CIFAR10_TEST,
    CIFAR10_TRAIN,
    IMAGENET_TRAIN,
    IMAGENET_VALIDATION,
    SYNSET,
    PublishedSplit,
)
from ict_ref.prepare.sources.source import Part, Source, recipe
from ict_ref.utils.progress import bar

IMAGES_PER_PART = 512


def from_folder(path: Path, size: int | None, grey: bool) -> Source:
    """Return the images, sorted by class folder and name; a class is the index of its folder's name.

    Raises:
        ValueError: The folder mixes images and folders, has empty folders, or holds images that cannot be used.
        OSError: A file cannot be read.
    """
    classes, labels, files = _labelled(path)
    names = [name for name, _ in files]
    colour = "grey" if grey else "RGB"
    shape = _own_shape(path, names[0], grey) if size is None else (1 if grey else 3, size, size)
    batches = [names[k : k + IMAGES_PER_PART] for k in range(0, len(names), IMAGES_PER_PART)]
    return Source(
        words=_words(size, colour) + ("; a class is the index of its folder's sorted name" if classes else ""),
        recipe=recipe("image folder", path, files, size=size, colour=colour, pillow=PIL.__version__),
        shape=shape,
        labels=np.array(labels, np.int64) if classes else None,
        classes=len(classes),
        names=tuple(classes) if classes else None,
        parts=[Part(len(batch), partial(_decoded, path, batch, size, grey, shape)) for batch in batches],
        published=_published(classes),
    )


def _published(classes: list[str]) -> tuple[PublishedSplit, ...]:
    """Return the published splits with such names of classes; the folders of own images have other names."""
    if tuple(classes) == CIFAR10_NAMES:
        return CIFAR10_TRAIN, CIFAR10_TEST
    return (IMAGENET_TRAIN, IMAGENET_VALIDATION) if classes and all(map(SYNSET.fullmatch, classes)) else ()


def _labelled(path: Path) -> tuple[list[str], list[int], list[tuple[str, int]]]:
    """Return the sorted class folders, the label of each image in them, and all images with their sizes in bytes.

    Raises:
        ValueError: The folder mixes images and folders, or does not have images.
        OSError: The folder cannot be read.
    """
    classes, images = _listed(path)
    if classes and images:
        raise ValueError(f"{path}: expected class folders or images, got both: {classes[0]} and {images[0][0]}")
    labels: list[int] = []
    for label, name in enumerate(bar(classes, "listing", "folders")):
        of_class = _images_of_class(path / name)
        images += [(f"{name}/{image}", length) for image, length in of_class]
        labels += [label] * len(of_class)
    if not images:
        raise ValueError(f"{path}: expected images ({', '.join(SUFFIXES)}) or class folders, got an empty folder")
    return classes, labels, images


def _images_of_class(folder: Path) -> list[tuple[str, int]]:
    folders, images = _listed(folder)
    if folders or not images:
        wrong = f"a folder {folders[0]}" if folders else "no images"
        raise ValueError(f"{folder}: expected the images of one class, got {wrong}")
    return images


def _own_shape(path: Path, name: str, grey: bool) -> tuple[int, int, int]:
    """Return the shape of the first image, which others have too unless they are resized."""
    channels, height, width = _decoded(path, [name], None, grey)[0].shape
    if height != width:
        raise ValueError(f"{path / name}: expected a square image, got {width}x{height}. Crop it with --size.")
    return channels, height, width


def _words(size: int | None, colour: str) -> str:
    """Return a description of the images and of their conversion."""
    if size is None:
        return f"images, {colour}, of their own size"
    return (
        f"images, {colour}; halved by BOX while the short side is >= {2 * size}, BICUBIC to a short side of {size},"
        " the middle square; EXIF orientation is not applied"
    )


def _decoded(
    folder: Path, names: list[str], size: int | None, grey: bool, shape: tuple[int, int, int] | None = None
) -> UInt8[np.ndarray, " n channels height width"]:
    images = []
    for name in names:
        image = decode(folder / name, str(folder / name), size=size, grey=grey)
        shape = shape or image.shape
        if image.shape != shape:
            sizes = f"{shape[2]}x{shape[1]} like the images before it, got {image.shape[2]}x{image.shape[1]}"
            raise ValueError(f"{folder / name}: expected {sizes}. Give --size for images of mixed sizes.")
        images.append(image)
    return np.stack(images)


def _listed(folder: Path) -> tuple[list[str], list[tuple[str, int]]]:
    """Return the sorted folders and the sorted images with their sizes in bytes, without hidden and other files."""
    folders, images = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                folders.append(entry.name)
            elif entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith("."):
                images.append((entry.name, entry.stat().st_size))
    return sorted(folders), sorted(images)
