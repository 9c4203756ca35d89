"""Datasets of uint8 images, and the order of training, which is a pure function of (seed, step)."""

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor

from ict_ref.config import Data
from ict_ref.config.validate import option
from ict_ref.data.prepared import open_arrays
from ict_ref.data.published import contents, refuse_other_than_published
from ict_ref.utils.command_line import expect
from ict_ref.utils.rng import stream


@dataclass(frozen=True)
class Images:
    """Images of one size with their labels, in memory or in a memory-mapped file."""

    array: UInt8[np.ndarray, " n channels height width"] | Float32[np.ndarray, " n channels height width"]
    """Pixels; floats are from -1 to 1, and only images to train on have them."""
    labels: Int64[Tensor, " n"]
    """Class of each image; all 0 if there are no classes."""
    classes: int
    """Number of classes; 0 without labels."""
    flip: bool = False
    """Mirror training images with probability 1/2."""
    names: tuple[str, ...] | None = None
    """Names of the classes, if known."""
    source: str = ""
    """Origin of the images, in words."""

    def __len__(self) -> int:
        return len(self.array)

    @property
    def event(self) -> tuple[int, ...]:
        """Return the shape of an image."""
        return self.array.shape[1:]

    @property
    def pixels(self) -> UInt8[Tensor, " n channels height width"]:
        """Return all images, copied into memory."""
        return torch.from_numpy(self.array.copy())

    def evenly(self, count: int) -> "Images":
        """Return `count` of these images, evenly spaced from the first to the last, in memory."""
        chosen = np.arange(count) * len(self) // count
        return dataclasses.replace(self, array=self.array.take(chosen, axis=0), labels=self.labels[chosen])

    def batch(
        self, step: int, *, batch_size: int, seed: int, rows: slice = slice(None)
    ) -> tuple[
        UInt8[Tensor, " rows channels height width"] | Float32[Tensor, " rows channels height width"],
        Int64[Tensor, " rows"],
    ]:
        """Return the images of a training step and their labels, or these rows of the batch only.

        Only these rows are read. The images, and which of them are mirrored, are pure functions of (seed, epoch, place
        in the epoch).
        """
        chosen = positions(step, batch_size=batch_size, count=len(self), seed=seed)[rows]
        pixels = self.array.take(chosen.numpy(), axis=0)
        if self.flip:
            mirrored = flips(step, batch_size=batch_size, count=len(self), seed=seed)[rows].numpy()
            pixels[mirrored] = pixels[mirrored][..., ::-1]
        return torch.from_numpy(pixels), self.labels[chosen]


@dataclass(frozen=True)
class Dataset:
    """Images to train on, and other images of the same kind to score by; these are empty if there is no scoring."""

    train: Images
    held_out: Images


# Shape of an image and number of classes of each published dataset.
PUBLISHED = {"cifar10": ((3, 32, 32), 10), "imagenet64": ((3, 64, 64), 1000)}
DIGITS_EVENT = (1, 8, 8)
DIGITS_NAMES = tuple("0123456789")
DIGITS_SOURCE = "scikit-learn's 1 797 handwritten digits, every third held out"
# Maximum number of held-out images to score by: more would take long to sample.
HELD_OUT = 1000


def load(options: Data) -> Dataset:
    """Load the dataset that the options describe.

    >>> dataset = load(Data())
    >>> len(dataset.train), len(dataset.held_out), dataset.train.event
    (1198, 599, (1, 8, 8))

    Raises:
        ValueError: a folder is not prepared, is incomplete, or does not match the options, or data of a preset of the
            paper are not the published training set and `data.partial` is not given.
    """
    if options.name == "digits":
        dataset = digits()
        return dataclasses.replace(dataset, train=dataclasses.replace(dataset.train, flip=options.flip))
    train = _prepared(options, "path")
    if not options.held_out:
        return Dataset(train, train.evenly(0))
    held_out = _prepared(options, "held_out")
    if held_out.event != train.event or (options.labels and held_out.classes != train.classes):
        here, there = (f"{images.event} in {images.classes} classes" for images in (train, held_out))
        raise ValueError(f"--data.held-out: expected images of {here} as in --data.path, got {there}")
    held_out = held_out.evenly(min(len(held_out), HELD_OUT))
    seen = len(set(held_out.labels.tolist())) if options.labels else 2
    if len(held_out) < 4 or seen < 2:
        raise ValueError(
            f"--data.held-out: expected at least 4 images (in 2 classes with --data.labels), got {len(held_out)}"
        )
    return Dataset(train, held_out)


def digits() -> Dataset:
    """Return scikit-learn's 1 797 handwritten digits of 8x8 pixels, every third held out.

    They are the test part of the UCI dataset "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998). They
    are in the order of its 13 writers, so each writer is in both parts. The 17 grey levels are scaled to 0 to 255.
    """
    # Imported here because it takes a second.
    from sklearn.datasets import load_digits

    grey, label = load_digits(return_X_y=True)
    pixels = np.round(grey * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = label.astype(np.int64)
    held_out = np.arange(len(pixels)) % 3 == 2
    parts = {"train": ~held_out, "held_out": held_out}
    return Dataset(
        **{
            part: Images(pixels[some], torch.from_numpy(labels[some]), 10, names=DIGITS_NAMES, source=DIGITS_SOURCE)
            for part, some in parts.items()
        }
    )


def _prepared(options: Data, field: str) -> Images:
    folder, name = getattr(options, field), option(f"data.{field}")
    if not folder:
        advice = "See python -m ict_ref.prepare --help."
        raise ValueError(f"{name}: expected a prepared folder of {options.name}, got nothing. {advice}")
    about, array, labels = open_arrays(Path(folder))
    classes = about.classes
    if field == "path" and options.checksum not in ("", about.checksum()):
        raise ValueError(f"--data.checksum: expected {about.checksum()}, that of {folder}, got {options.checksum}")
    if options.name in PUBLISHED:
        _, classes = PUBLISHED[options.name]
        _refuse_other_images(options.name, name, about.shape, labels)
    if field == "path" and not options.partial:
        refuse_other_than_published(options.name, contents(about.count, about.shape, labels, about.names), folder)
    if labels is None:
        if options.labels:
            raise ValueError(f"--data.labels: expected images with classes, got {folder}. Give --data.no-labels.")
        return Images(array, torch.zeros(len(array), dtype=torch.int64), 0, options.flip, source=about.words)
    names = about.names if classes == about.classes else None
    return Images(array, torch.from_numpy(labels), classes, options.flip, names, about.words)


def _refuse_other_images(
    data_set: str, option: str, shape: tuple[int, ...], labels: Int64[np.ndarray, " n"] | None
) -> None:
    """Reject images of another shape than those of a published data set, or with other classes.

    Raises:
        ValueError: the shape differs, or a label is too large. The message names the option.
    """
    published, classes = PUBLISHED[data_set]
    expect(shape == published, option, f"images of {published} for {data_set}", shape)
    largest = -1 if labels is None else int(labels.max())
    expect(largest < classes, option, f"labels below {classes}", largest)


def to_float(pixels: UInt8[Tensor, " *shape"]) -> Float32[Tensor, " *shape"]:
    """Return pixels as floats from -1 to 1, the input of the networks: the same bits on every device."""
    # A table, because CUDA divides by multiplying with the reciprocal, which rounds 111 of the 256 values differently.
    return _floats(pixels.device).index_select(0, pixels.reshape(-1).int()).reshape(pixels.shape)


@lru_cache
def _floats(device: torch.device) -> Float32[Tensor, " 256"]:
    """Return the float of each pixel value, computed on the CPU."""
    return (torch.arange(256, dtype=torch.float32, device="cpu") / 127.5 - 1).to(device)


def to_uint8(x: Float[Tensor, " *shape"], *, truncate: bool = False) -> UInt8[Tensor, " *shape"]:
    """Return the nearest pixel values, clipped to [0, 255]: the inverse of `to_float`, up to rounding.

    With `truncate` values are rounded down, as in the authors' CM code.

    Raises:
        FloatingPointError: a value is not finite.
    """
    if not bool(x.isfinite().all()):
        raise FloatingPointError("images: expected finite values, got a NaN or an infinity from the network")
    scaled = (x + 1) * 127.5
    return (scaled if truncate else scaled.round()).clamp(0, 255).to(torch.uint8)


def positions(step: int, *, batch_size: int, count: int, seed: int) -> Int64[Tensor, " {batch_size}"]:
    """Return the positions of this step's images among `count`: slices of one permutation per epoch, end to end."""
    spans = _spans(step, batch_size, count)
    return torch.from_numpy(np.concatenate([_permutation(epoch, count, seed)[span] for epoch, span in spans]))


def flips(step: int, *, batch_size: int, count: int, seed: int) -> Bool[Tensor, " {batch_size}"]:
    """Return whether each image of this step's batch is mirrored: one toss for each place in each epoch."""
    spans = _spans(step, batch_size, count)
    return torch.from_numpy(np.concatenate([_tosses(epoch, count, seed)[span] for epoch, span in spans]))


def _spans(step: int, batch_size: int, count: int) -> list[tuple[int, slice]]:
    """Return the epochs that this step's batch covers, with its places in each."""
    start, stop = step * batch_size, (step + 1) * batch_size
    epochs = range(start // count, (stop - 1) // count + 1)
    return [(epoch, slice(max(start - epoch * count, 0), stop - epoch * count)) for epoch in epochs]


@lru_cache(maxsize=2)
def _permutation(epoch: int, count: int, seed: int) -> Int64[np.ndarray, " {count}"]:
    return stream(seed, "order", epoch).permutation(count)


@lru_cache(maxsize=2)
def _tosses(epoch: int, count: int, seed: int) -> Bool[np.ndarray, " {count}"]:
    return stream(seed, "flip", epoch).integers(2, size=count, dtype=np.bool_)
