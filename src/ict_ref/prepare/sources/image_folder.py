"""Reader of a folder of images, or of one folder of images per class, as ImageNet is published."""

from functools import partial
from pathlib import Path

import numpy as np
import PIL
from jaxtyping import UInt8

from ict_ref.data.image_files import Dropped, decode
from ict_ref.data.image_listing import SUFFIXES, ImageListing, list_images
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

IMAGES_PER_PART = 512


def from_folder(path: Path, size: int | None, grey: bool) -> Source:
    """Return the images, sorted by class folder and name; a class is the index of its folder's name.

    Raises:
        ValueError: The folder mixes images and folders, has empty folders, or holds images that cannot be used.
        OSError: A file cannot be read.
    """
    listing = list_images(path)
    classes, labels = _labelled(path, listing)
    files, dropped = listing.images, Dropped()
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
        parts=[
            Part(len(batch), partial(_decoded, path, batch, size, grey, dropped, shape), tuple(batch))
            for batch in batches
        ],
        folder=path,
        published=_published(classes),
        left_out=listing.left_out(),
        remarks=lambda: dropped.lines_of(len(files)),
    )


def _published(classes: list[str]) -> tuple[PublishedSplit, ...]:
    """Return the published splits with such names of classes; the folders of own images have other names."""
    if tuple(classes) == CIFAR10_NAMES:
        return CIFAR10_TRAIN, CIFAR10_TEST
    return (IMAGENET_TRAIN, IMAGENET_VALIDATION) if classes and all(map(SYNSET.fullmatch, classes)) else ()


def _labelled(path: Path, listing: ImageListing) -> tuple[list[str], list[int]]:
    """Return the sorted class folders and the label of each image in them.

    Raises:
        ValueError: The folder mixes images and folders, has folders in those of the classes, or lacks images.
    """
    if not listing.images and not listing.folders:
        others = listing.left_out()
        got = f"only {others.replace(' left out', '')}" if others else "an empty folder"
        raise ValueError(f"{path}: expected images ({', '.join(SUFFIXES)}) or class folders, got {got}")
    deep = next((name for name in listing.folders if "/" in name), None)
    if deep is not None:
        of_class, _, inner = deep.partition("/")
        raise ValueError(f"{path / of_class}: expected the images of one class, got a folder {inner}")
    classes = list(listing.folders)
    flat = next((name for name, _ in listing.images if "/" not in name), None)
    if classes and flat is not None:
        raise ValueError(f"{path}: expected class folders or images, got both: {classes[0]} and {flat}")
    if not classes:
        return [], []
    ranks = {name: label for label, name in enumerate(classes)}
    labels = [ranks[name.partition("/")[0]] for name, _ in listing.images]
    if len(seen := set(labels)) < len(classes):
        empty = next(name for name, label in ranks.items() if label not in seen)
        raise ValueError(f"{path / empty}: expected the images of one class, got no images")
    return classes, labels


def _own_shape(path: Path, name: str, grey: bool) -> tuple[int, int, int]:
    """Return the shape of the first image, which others have too unless they are resized."""
    channels, height, width = _decoded(path, [name], None, grey, Dropped())[0].shape
    if height != width:
        raise ValueError(f"{path / name}: expected a square image, got {width}x{height}. Crop it with --size.")
    return channels, height, width


def _words(size: int | None, colour: str) -> str:
    """Return a description of the images and of their conversion."""
    if size is None:
        return f"images, {colour}, of their own size; alpha channels are dropped"
    return (
        f"images, {colour}; halved by BOX while the short side is >= {2 * size}, BICUBIC to a short side of {size},"
        " the middle square; EXIF orientation is not applied; alpha channels are dropped"
    )


def _decoded(
    folder: Path,
    names: list[str],
    size: int | None,
    grey: bool,
    dropped: Dropped,
    shape: tuple[int, int, int] | None = None,
) -> UInt8[np.ndarray, " n channels height width"]:
    images = []
    for name in names:
        image = decode(folder / name, str(folder / name), size=size, grey=grey, dropped=dropped)
        shape = shape or image.shape
        if image.shape != shape:
            sizes = f"{shape[2]}x{shape[1]} like the images before it, got {image.shape[2]}x{image.shape[1]}"
            raise ValueError(f"{folder / name}: expected {sizes}. Give --size for images of mixed sizes.")
        images.append(image)
    return np.stack(images)
