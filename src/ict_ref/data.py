"""Data sets as uint8 images, and the order in which training sees them: a pure function of (seed, step)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor

from ict_ref.config import Data
from ict_ref.randomness import stream


@dataclass(frozen=True)
class Images:
    """Images of one size, each with its class."""

    pixels: UInt8[Tensor, " n channels height width"]
    labels: Int64[Tensor, " n"]
    classes: int

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Dataset:
    """Images to train on, and others of the same kind that training never sees."""

    train: Images
    held_out: Images


def load(options: Data) -> Dataset:
    """Return the data set of this name."""
    return {"digits": digits}[options.name]()


def digits() -> Dataset:
    """Return scikit-learn's 1 797 handwritten digits, 8x8 pixels, every third held out.

    They are the test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak 1998), in
    the order of its 13 writers, so that each writer is on both sides. Their 17 grey levels, 0 to 16, are spread over
    0 to 255.
    """
    # Here, because it takes a second that nobody else should wait for.
    from sklearn.datasets import load_digits

    grey, label = load_digits(return_X_y=True)
    pixels = torch.from_numpy(np.round(grey * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    labels = torch.from_numpy(label.astype(np.int64))
    held_out = torch.arange(len(pixels)) % 3 == 2
    return Dataset(Images(pixels[~held_out], labels[~held_out], 10), Images(pixels[held_out], labels[held_out], 10))


def to_float(pixels: UInt8[Tensor, " *shape"]) -> Float32[Tensor, " *shape"]:
    """Return pixels as the networks see them: 0 is -1, 255 is 1."""
    return pixels.to(torch.float32) / 127.5 - 1


def to_uint8(x: Float[Tensor, " *shape"]) -> UInt8[Tensor, " *shape"]:
    """Return the nearest pixel values, clipped to [0, 255]: the inverse of `to_float`, by rounding."""
    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def positions(step: int, *, batch_size: int, count: int, seed: int) -> Int64[Tensor, " {batch_size}"]:
    """Return which of `count` images make the batch of this step: slices of one permutation per epoch, end to end."""
    at = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, offsets = np.divmod(at, count)
    chosen = [_permutation(int(epoch), count, seed)[offset] for epoch, offset in zip(epochs, offsets, strict=True)]
    return torch.from_numpy(np.asarray(chosen, dtype=np.int64))


@lru_cache(maxsize=2)
def _permutation(epoch: int, count: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return stream(seed, "order", epoch).permutation(count)
