"""The images that are given, their labels, and the mask."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel
from ict_ref.data.dataset import Images, digits
from ict_ref.data.image_files import read_pixels
from ict_ref.utils.rng import stream

HELD_OUT = "digits:held-out"
# Of the bundled digits so many are taken unless told otherwise: as many as there are classes.
FEW = 10


def given_images(
    names: tuple[str, ...], trained: PretrainedModel, *, count: int | None, patch: int = 1
) -> tuple[UInt8[Tensor, " n channels height width"], Int64[Tensor, " n"] | None]:
    """Return the images, `count` of them evenly from the first to the last, and their labels if they bring them.

    Grey ones are expanded for a model of colours. They have the model's size, or all the size of its patches. Raises
    ValueError for images that the model cannot take.
    """
    channels, height, width = trained.event
    sets = [_read(name) for name in names]
    first = sets[0].event[1:]
    allowed = {(height, width), (height // patch, width // patch)}
    for name, images in zip(names, sets, strict=True):
        size = images.event[1:]
        if size not in allowed:
            sizes = " or ".join(f"{w}x{h}" for h, w in sorted(allowed, reverse=True))
            raise ValueError(
                f"{name} has images of {size[1]}x{size[0]}; the model needs {sizes}; python -m ict_ref.prepare --size "
                "crops a folder"
            )
        if size != first:
            raise ValueError(
                f"{name} has images of {size[1]}x{size[0]}, and {names[0]} of {first[1]}x{first[0]}: needs one size"
            )
        if images.event[0] > channels:
            raise ValueError(f"{name} is in colour, and the model is for grey images; convert it to grey")
    array = np.concatenate([np.repeat(each.array, channels // each.event[0], axis=1) for each in sets])
    own = bool(sets[0].classes) and set(names) == {HELD_OUT}
    labels = torch.cat([each.labels for each in sets]) if own else torch.zeros(len(array), dtype=torch.int64)
    if count is None:
        count = min(len(array), FEW) if own else len(array)
    if count > len(array):
        raise ValueError(f"--count needs at most the {len(array)} images that there are; got {count}")
    some = Images(array, labels, 0).evenly(count)
    return some.pixels, some.labels if own else None


def given_labels(
    wanted: tuple[int, ...], own: Int64[Tensor, " n"] | None, trained: PretrainedModel, count: int
) -> Int64[Tensor, " {count}"] | None:
    """Return a label for each image: those wanted, one for all or one for each, else their own; None without labels."""
    if wanted and len(wanted) not in (1, count):
        raise ValueError(f"--labels needs one for all {count} images or one for each; got {len(wanted)}")
    if not wanted and trained.classes:
        if own is None:
            raise ValueError(
                f"{trained.name} was trained with labels: it needs --labels, one for all images or one for each"
            )
        wanted = tuple(own.tolist())
    return trained.labels(count, wanted)


def mask_of(
    word: str, event: tuple[int, int, int], *, count: int, seed: int
) -> Bool[Tensor, " {count} 1 height width"]:
    """Return what is to be made of each image: a half, the middle, random pixels, or what is white in a file."""
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
            # One toss for each pixel, its own for each image.
            tosses = [stream(seed, "edit", step=k).integers(2, size=(1, height, width)) for k in range(count)]
            mask |= torch.from_numpy(np.stack(tosses)) == 1
        case _:
            mask |= _mask_file(Path(word), (height, width))
    return mask


def _mask_file(path: Path, size: tuple[int, int]) -> Bool[Tensor, " 1 1 height width"]:
    if not path.is_file():
        raise ValueError(f"--mask needs left, right, top, bottom, center, random or an image file; got {path}")
    pixels = read_pixels(path)
    if pixels.shape[:2] != (1, 1):
        raise ValueError(f"--mask needs one image in black and white: white is made; {path} is none")
    if pixels.shape[2:] != size:
        got = f"{pixels.shape[3]}x{pixels.shape[2]}"
        raise ValueError(f"--mask {path} is {got}; it needs the size of the images, {size[1]}x{size[0]}")
    white = pixels >= 128
    if not white.any():
        raise ValueError(f"--mask {path} marks nothing: what is white is made, and it has no white pixel")
    return white


def _read(name: str) -> Images:
    if name == HELD_OUT:
        return digits().held_out
    pixels = read_pixels(Path(name))
    return Images(pixels.numpy(), torch.zeros(len(pixels), dtype=torch.int64), 0)
