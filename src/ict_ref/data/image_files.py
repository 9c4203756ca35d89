"""Image files: PNGs in a folder, one .npz for public FID tools, or a grid, with pixels as bytes.

A set of grey images has one channel here, whatever its files have. An .npz has three, as those tools expect.
"""

import io
import math
import shutil
import zipfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.atomic import atomically, temporary
from ict_ref.utils.progress import bar

# Formats that Pillow reads without plug-ins.
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Pixels between the images of a grid.
GAP = 2
# Pixels a side to which small images are magnified.
MAGNIFIED = 40


def read_pixels(path: Path) -> UInt8[Tensor, " n channels height width"]:
    """Return the images of a folder, of its subfolders too, of an .npz with arr_0, or of one file.

    Images of a folder are in the order of their paths.

    Raises:
        ValueError: there are no images, or a file is damaged, of another size, or without arr_0. The message names it.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist. Give a folder of images, an .npz or an image file.")
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise ValueError(f"{path} has no images in it. Give {', '.join(SUFFIXES)}, or an .npz with arr_0.")
        array = _decoded(files)
    elif path.suffix == ".npz":
        array = _of_npz(path)
    else:
        array = decode(path, str(path), size=None, grey=False)[None]
    grey = array.shape[1] == 3 and bool((array == array[:, :1]).all())
    return torch.from_numpy(np.array(array[:, :1] if grey else array))


def image_files(folder: Path) -> list[Path]:
    """Return the image files below a folder, except hidden ones, in the order of their paths."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def write_npz(
    pixels: UInt8[Tensor, " n channels height width"], path: Path, labels: Int64[Tensor, " n"] | None = None
) -> None:
    """Write arr_0 [n, height, width, 3], grey in all three channels, and arr_1 with the labels if there are any."""
    images = _colours(pixels).permute(0, 2, 3, 1).contiguous().numpy()
    arrays = [images] if labels is None else [images, labels.numpy()]
    with atomically(path) as aside, aside.open("wb") as file:
        np.savez(file, *arrays)


def write_png(image: UInt8[Tensor, " channels height width"], path: Path) -> None:
    """Write one image, grey or in colour."""
    with atomically(path) as aside:
        _as_pillow(image).save(aside, "PNG")


def write_pngs(pixels: UInt8[Tensor, " n channels height width"], folder: Path, *, scratch: Path | None = None) -> None:
    """Write image k as a PNG, named by k in six digits, into a new folder that appears when all files are written.

    Until then the files are in a temporary folder in `scratch`, a folder of the same file system, by default beside the
    new folder.

    Raises:
        OSError: The folder exists and has files, or cannot be written.
    """
    aside = temporary((scratch or folder.parent) / folder.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside.mkdir()
    try:
        for k, image in enumerate(bar(pixels.unbind(), "writing", "files")):
            _as_pillow(image).save(aside / f"{k:06d}.png", "PNG")
        aside.rename(folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_grid(pixels: UInt8[Tensor, " n channels height width"], path: Path, columns: int | None = None) -> None:
    """Write all images as one grid, by default a square; small images are magnified."""
    write_png(grid(pixels, columns), path)


def grid(
    pixels: UInt8[Tensor, " n channels height width"], columns: int | None = None
) -> UInt8[Tensor, " 3 grid_height grid_width"]:
    """Return all images as one, row by row, separated by white lines."""
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    zoom = max(1, MAGNIFIED // pixels.shape[-1])
    large = _colours(pixels).repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    height, width = large.shape[2] + GAP, large.shape[3] + GAP
    rows = math.ceil(len(large) / columns)
    canvas = torch.full((3, rows * height - GAP, columns * width - GAP), 255, dtype=torch.uint8)
    for k, image in enumerate(large):
        top, left = k // columns * height, k % columns * width
        canvas[:, top : top + height - GAP, left : left + width - GAP] = image
    return canvas


def decode(
    file: str | Path | io.BytesIO, name: str, *, size: int | None, grey: bool
) -> UInt8[np.ndarray, " channels height width"]:
    """Return an image of 8 bits per channel as an array.

    Raises:
        ValueError: the file is not an image, or is damaged.
        OSError: the file cannot be read.
    """
    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":
                raise ValueError(f"mode {image.mode} has more than 8 bits per channel")
            converted = image.convert("L" if grey else "RGB")
    except Exception as error:  # Pillow's decoders raise many kinds of errors for a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{name} is not an image that can be used: {error}") from None
    array = np.asarray(converted if size is None else fit(converted, size))
    return array[None] if grey else array.transpose(2, 0, 1)


def fit(image: Image.Image, size: int) -> Image.Image:
    """Return the central square of the image, resized as in the authors' CM code for ImageNet 64x64."""
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _as_pillow(image: UInt8[Tensor, " channels height width"]) -> Image.Image:
    array = image.numpy()
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))


def _colours(pixels: UInt8[Tensor, " n channels height width"]) -> UInt8[Tensor, " n 3 height width"]:
    """Return the images in three channels; for other than three channels, the first one three times."""
    return pixels if pixels.shape[1] == 3 else pixels[:, :1].expand(-1, 3, -1, -1)


def _decoded(files: list[Path]) -> UInt8[np.ndarray, " n channels height width"]:
    array: UInt8[np.ndarray, " n channels height width"] | None = None
    for k, file in enumerate(bar(files, "reading", "files")):
        image = decode(file, str(file), size=None, grey=False)
        if array is None:
            array = np.empty((len(files), *image.shape), np.uint8)
        if image.shape != array.shape[1:]:
            raise ValueError(
                f"{file}: expected images of one size, {array.shape[3]}x{array.shape[2]}, got "
                f"{image.shape[2]}x{image.shape[1]}. Crop them with python -m ict_ref.prepare --size."
            )
        array[k] = image
    assert array is not None  # noqa: S101 (there is at least one file)
    return array


def _of_npz(path: Path) -> UInt8[np.ndarray, " n channels height width"]:
    with refuse_damaged(path), path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is damaged or not an .npz")
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            if "arr_0" not in archive.files:
                has = ", ".join(archive.files[:5]) or "nothing"
                raise ValueError(f"expected uint8 images [n, height, width, 3] as arr_0, got {has}")
            array = archive["arr_0"]
    if array.ndim == 3:
        array = array[..., None]
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape:
        got = f"{array.dtype} {list(array.shape)}"
        raise ValueError(
            f"{path}: expected uint8 images [n, height, width, 3] or [n, height, width] as arr_0, got {got}"
        )
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
