"""The input images, their labels and the mask."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel
from ict_ref.data.image_files import read_images
from ict_ref.data.stored_images import DIGITS, StoredImages, evenly, stored_images
from ict_ref.utils.command_line import expect
from ict_ref.utils.nearest import hint
from ict_ref.utils.printable import printable
from ict_ref.utils.rng import stream

MASKS = ("left", "right", "top", "bottom", "center", "random")
# Default number of bundled digits, equal to the number of classes.
FEW = 10


def given_images(
    names: tuple[str, ...], trained: PretrainedModel, *, count: int | None, patch: int = 1
) -> tuple[UInt8[Tensor, " n channels height width"], Int64[Tensor, " n"] | None]:
    """Return `count` images, evenly chosen, and their labels if they have labels.

    Grey images are expanded for a colour model. All images have the model's size, or that size divided by `patch`.

    Raises:
        ValueError: The images do not fit the model or each other, or `count` is too large.
        OSError: A file cannot be read.
    """
    sets = [stored_images(name, "IMAGE") for name in names]
    for name, each in zip(names, sets, strict=True):
        for remark in each.remarks:
            print(printable(f"{name}: {remark}"))
    _check_shapes(names, sets, trained.event, patch)
    total = sum(len(each.array) for each in sets)
    if count is None:
        count = min(total, FEW) if set(names) <= set(DIGITS) else total
    expect(count <= total, "--count", f"at most {total}, the number of images", count)
    return evenly(sets, count, trained.event[0])


def given_labels(
    wanted: tuple[int, ...], own: Int64[Tensor, " n"] | None, trained: PretrainedModel, count: int
) -> Int64[Tensor, " {count}"] | None:
    """Return one label per image: the wanted ones, else the images' own; None for a model without labels.

    `wanted` has one label for all images or one per image.

    Raises:
        ValueError: The number of labels is wrong, labels are missing, or the model does not have such a class.
    """
    if wanted and len(wanted) not in (1, count):
        raise ValueError(f"--labels: expected one label for all {count} images or one per image, got {len(wanted)}")
    if not wanted and trained.classes:
        if own is None:
            raise ValueError(
                f"--labels: expected one label for all images or one per image, got nothing. {trained.name} was "
                "trained with labels."
            )
        wanted = tuple(own.tolist())
    return trained.labels(count, wanted)


def mask_of(
    word: str, event: tuple[int, int, int], *, count: int, seed: int
) -> Bool[Tensor, " {count} 1 height width"]:
    """Return a mask of the pixels to make: a half, the middle, random pixels, or the white pixels of a file.

    Raises:
        ValueError: The word is not a known mask or a usable mask file.
        OSError: The file cannot be read.
    """
    _, height, width = event
    mask = torch.zeros(count, 1, height, width, dtype=torch.bool)
    match word:
        case "left":
            mask[..., : width // 2] = True
        case "right":
            mask[..., width // 2 :] = True
        case "top":
            mask[..., : height // 2, :] = True
        case "bottom":
            mask[..., height // 2 :, :] = True
        case "center":
            mask[..., height // 4 : height - height // 4, width // 4 : width - width // 4] = True
        case "random":
            # Each pixel of each image has its own random bit.
            tosses = [stream(seed, "edit", step=k).integers(2, size=(1, height, width)) for k in range(count)]
            mask |= torch.from_numpy(np.stack(tosses)) == 1
        case _:
            mask |= _mask_file(Path(word), (height, width))
    return mask


def _mask_file(path: Path, size: tuple[int, int]) -> Bool[Tensor, " 1 1 height width"]:
    if not path.is_file():
        near = hint(str(path), MASKS)
        raise ValueError(f"--mask: expected {', '.join(MASKS)} or an image file, got {path}{near}")
    read = read_images(path)
    pixels = read.pixels
    for remark in read.remarks:
        print(printable(f"--mask: {remark}"))
    if pixels.shape[:2] != (1, 1):
        got = f"{pixels.shape[0]} with {pixels.shape[1]} channels"
        raise ValueError(f"--mask: expected one black and white image in {path}, got {got}. White pixels are made.")
    if pixels.shape[2:] != size:
        got = f"{pixels.shape[3]}x{pixels.shape[2]}"
        raise ValueError(f"--mask: expected the size of the images, {size[1]}x{size[0]}, got {got} in {path}")
    white = pixels >= 128
    if not white.any():
        raise ValueError(f"--mask: expected white pixels in {path}, got only black ones. White pixels are made.")
    return white


def _check_shapes(names: tuple[str, ...], sets: list[StoredImages], event: tuple[int, int, int], patch: int) -> None:
    """Check that the images of each set fit the model and the first set."""
    channels, height, width = event
    allowed = {(height, width), (height // patch, width // patch)}
    sizes = " or ".join(_size_text(size) for size in sorted(allowed, reverse=True))
    first = sets[0].array.shape[2:]
    crop = "Crop a folder with python -m ict_ref.prepare --size."
    for name, images in zip(names, sets, strict=True):
        size = images.array.shape[2:]
        expect(size in allowed, name, f"images of {sizes} for the model", _size_text(size), crop)
        like_first = f"images of {_size_text(first)} as in {names[0]}"
        expect(size == first, name, like_first, _size_text(size), "Give images of one size.")
        expect(images.array.shape[1] <= channels, name, "grey images for the model", "colour", "Convert them to grey.")


def _size_text(size: tuple[int, ...]) -> str:
    height, width = size
    return f"{width}x{height}"
