"""Image files: PNGs in a folder, one .npz for public FID tools, or a grid, with pixels as bytes.

A set of grey images has one channel here, whatever its files have. An .npz has three, as those tools expect.
"""

import io
import math
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageFile
from torch import Tensor

from ict_ref.data.image_listing import SUFFIXES, list_images
from ict_ref.utils.archive import refuse_damaged
from ict_ref.utils.atomic import atomically
from ict_ref.utils.inflation import refuse_inflated_arrays
from ict_ref.utils.lfs import POINTER, is_pointer
from ict_ref.utils.progress import bar
from ict_ref.utils.regular_file import open_regular, refuse_irregular

# Formats that are read, whatever the ending of a file. No other decoder of Pillow sees a file.
FORMATS = ("BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
ACCEPTED = f"a folder of images, a prepared folder, an .npz with arr_0, or an image ({', '.join(SUFFIXES)})"
# Number of the TIFF tag with the bits of each channel.
BITS_PER_SAMPLE = 258
# Pixels between the images of a grid.
GAP = 2
# Pixels a side to which small images are magnified.
MAGNIFIED = 40


# Tag of EXIF and TIFF with the number of the turn or the mirroring that shows the image upright; 1 is neither.
ORIENTATION = 274
TURNED = range(2, 9)
# Modes of Pillow whose colours are not red, green and blue, or grey.
OTHER_COLOURS = ("CMYK", "HSV", "LAB", "YCbCr")


@dataclass
class Dropped:
    """Names of the images that were read, by what is stored in them and not in their pixels."""

    transparent: set[str] = field(default_factory=set)
    turned: set[str] = field(default_factory=set)
    converted: dict[str, set[str]] = field(default_factory=lambda: {mode: set() for mode in OTHER_COLOURS})
    read: set[str] = field(default_factory=set)

    def lines(self) -> list[str]:
        """Return a line for each kind.

        >>> Dropped(transparent={"a.png"}, turned={"b.jpg", "c.jpg"}).lines()
        ['transparency dropped from 1 image (a.png)', 'EXIF orientation not applied to 2 images (b.jpg, c.jpg)']
        """
        kinds = {"transparency dropped from": self.transparent, "EXIF orientation not applied to": self.turned}
        kinds |= {f"{mode} converted without colour profiles in": names for mode, names in self.converted.items()}
        return [f"{kind} {_counted(names)}" for kind, names in kinds.items() if names]

    def lines_of(self, count: int) -> list[str]:
        """Return `lines`, and one on those of `count` images that an earlier command read and counted.

        >>> Dropped(read={"a.png"}).lines_of(3)
        ['2 of 3 images were read earlier; these lines count the others']
        """
        earlier = count - len(self.read)
        said = f"{earlier} of {count} images were read earlier; these lines count the others"
        return [*self.lines(), *([said] if earlier else [])]


def _counted(names: set[str]) -> str:
    """Return the number of the images and the names of the first ones."""
    first, more = sorted(names)[:3], ", ..." if len(names) > 3 else ""
    return f"{len(names)} image{'' if len(names) == 1 else 's'} ({', '.join(first)}{more})"


@dataclass(frozen=True)
class ReadImages:
    """Images of one size in memory, and what was left out of them."""

    pixels: UInt8[Tensor, " n channels height width"]
    remarks: tuple[str, ...]
    """One line for each kind of files or of content that is not in the pixels."""


def read_pixels(path: Path) -> UInt8[Tensor, " n channels height width"]:
    """Return the pixels of `read_images`."""
    return read_images(path).pixels


def read_images(path: Path) -> ReadImages:
    """Return the images of a folder, of its subfolders too, of an .npz with arr_0, or of one file.

    Images of a folder are in the order of their paths.

    Raises:
        ValueError: there are no images, or a file is damaged, of another size, or without arr_0. The message names it.
    """
    remarks: list[str] = []
    dropped = Dropped()
    if not path.exists():
        raise ValueError(f"{path} does not exist. Give {ACCEPTED}.")
    if path.is_dir():
        listing = list_images(path)
        others = listing.left_out()
        if not listing.images:
            raise ValueError(f"{path} has no images in it{f' ({others})' if others else ''}. Give {ACCEPTED}.")
        remarks += [others] * bool(others)
        array = _decoded([path / name for name, _ in listing.images], dropped)
    elif path.suffix.lower() == ".npz":
        array = _of_npz(path)
    else:
        array = _of_file(path, dropped)
    grey = array.shape[1] == 3 and bool((array == array[:, :1]).all())
    remarks += dropped.lines()
    return ReadImages(torch.from_numpy(np.array(array[:, :1] if grey else array)), tuple(remarks))


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


def write_pngs(pixels: UInt8[Tensor, " n channels height width"], folder: Path) -> None:
    """Write image k as a PNG, named by k in six digits, into a folder, which is created if it does not exist.

    Raises:
        OSError: A file exists or cannot be written.
    """
    folder.mkdir(exist_ok=True)
    for k, image in enumerate(bar(pixels.unbind(), "writing", "files")):
        with (folder / f"{k:06d}.png").open("xb") as file:
            _as_pillow(image).save(file, "PNG")


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
    file: str | Path | io.BytesIO, name: str, *, size: int | None, grey: bool, dropped: Dropped | None = None
) -> UInt8[np.ndarray, " channels height width"]:
    """Return the one image in a file, of 8 bits per channel, as an array.

    Palettes are replaced by their colours. An alpha channel is dropped, and the colours stay as they are stored. The
    pixels stay in the order in which they are stored, whatever the EXIF orientation. `dropped` gets the name of the
    image for each of these.

    Raises:
        ValueError: the file is not an image, is damaged, has more than 8 bits per channel, or has several images.
        OSError: the file cannot be read.
    """
    try:
        if not isinstance(file, io.BytesIO):
            refuse_irregular(file)
        with Image.open(file, formats=FORMATS) as image:
            _refuse_lossy(image)
            turned = image.getexif().get(ORIENTATION) in TURNED
            if turned and image.format == "TIFF":
                # Pillow turns it when it is loaded, and scrambles it if it is neither compressed nor square.
                raise ValueError("it is a TIFF with an orientation. Save it upright, with orientation 1")
            converted = image.convert("L" if grey else "RGB")
            _note(dropped or Dropped(), name, image, turned=turned)
    except Exception as error:  # Pillow's decoders raise many kinds of errors for a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = POINTER if is_pointer(file) else error
        raise ValueError(f"{name} is not an image that can be used: {reason}") from None
    array = np.asarray(converted if size is None else fit(converted, size))
    return array[None] if grey else array.transpose(2, 0, 1)


def _refuse_lossy(image: Image.Image) -> None:
    """Reject an image that 8 bits per channel cannot hold, and a file of several images.

    Raises:
        ValueError: the image has more bits, or the file more images.
    """
    if _has_more_than_8_bits(image):
        mode = f"mode {image.mode} " if image.mode[0] in "IF" else ""
        raise ValueError(f"{mode}has more than 8 bits per channel. Convert it to 8 bits first")
    frames = getattr(image, "n_frames", 1)
    # A photograph in MPO comes first; the others are its preview or another view of it.
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"it has {frames} images (pages or frames of an animation). Save each as a file of its own")


def _has_more_than_8_bits(image: Image.Image) -> bool:
    """Return whether a channel of the stored image has more than 8 bits, which Pillow's mode shows for grey only."""
    if image.mode[0] in "IF":
        return True
    if image.format == "TIFF":
        bits: tuple[int, ...] = image.tag_v2.get(BITS_PER_SAMPLE, (1,))  # type: ignore[attr-defined]
        return max(bits) > 8
    stored = [tile[3] for tile in image.tile] if isinstance(image, ImageFile.ImageFile) else []
    if image.format == "PPM":
        return any(isinstance(form, tuple) and int(form[1]) > 255 for form in stored)
    return image.format == "PNG" and any(str(form).endswith(";16B") for form in stored)


def _note(dropped: Dropped, name: str, image: Image.Image, *, turned: bool) -> None:
    """Add the name of an image that was read to the kinds of what is not in its pixels."""
    dropped.read.add(name)
    if turned:
        dropped.turned.add(name)
    if image.mode in dropped.converted:
        dropped.converted[image.mode].add(name)
    if image.has_transparency_data and _is_transparent(image):
        dropped.transparent.add(name)


def _is_transparent(image: Image.Image) -> bool:
    """Return whether a pixel is not opaque."""
    least, _ = image.convert("RGBA").getchannel("A").getextrema()
    return isinstance(least, int | float) and least < 255


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


def _of_file(path: Path, dropped: Dropped) -> UInt8[np.ndarray, " 1 channels height width"]:
    """Return the image in a file.

    Raises:
        ValueError: the file is not an image. If its ending is not that of one, the message says what is accepted.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a regular file, got a pipe or a device. Give {ACCEPTED}.")
    try:
        return decode(path, str(path), size=None, grey=False, dropped=dropped)[None]
    except ValueError:
        if path.suffix.lower() in SUFFIXES or is_pointer(path):
            raise
        raise ValueError(f"{path}: expected {ACCEPTED}, got another file") from None


def _decoded(files: list[Path], dropped: Dropped) -> UInt8[np.ndarray, " n channels height width"]:
    array: UInt8[np.ndarray, " n channels height width"] | None = None
    for k, file in enumerate(bar(files, "reading", "files")):
        image = decode(file, str(file), size=None, grey=False, dropped=dropped)
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
    with refuse_damaged(path), open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            raise ValueError("it is damaged or not an .npz")
        refuse_inflated_arrays(file, ["arr_0"])
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
