"""The form of images: the order of their axes and channels, and their scale, from the first batches of a loader."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64, Shaped
from torch import Tensor

from ict_ref.verify.audit.data import scale
from ict_ref.verify.audit.data.known import Known
from ict_ref.verify.audit.data.scale import Images, Scale

CHANNELS = (1, 3)
# Images that are compared with all known ones, and the correlation of the same image.
FEW, SAME = 16, 0.9
# Known images that are compared at once.
PIECE = 2048


@dataclass(frozen=True)
class Variant:
    """A rearrangement of an image: transposed, upside down, mirrored, its channels reversed."""

    transposed: bool
    channels: bool
    turn: int
    """1 for mirrored, 2 for upside down, 3 for both."""

    def of(self, images: Images) -> Images:
        """Return rearranged images."""
        images = images.swapaxes(2, 3) if self.transposed else images
        images = images[:, ::-1] if self.channels else images
        return turned(images, self.turn)


def turned(images: Shaped[np.ndarray, "..."], turn: int) -> Shaped[np.ndarray, "..."]:
    """Return images mirrored (1), upside down (2), or both (3)."""
    images = images[..., ::-1] if turn & 1 else images
    return images[..., ::-1, :] if turn & 2 else images


@dataclass(frozen=True)
class Reading:
    """How the images of a loader are read."""

    axes: tuple[int, ...] | None
    """Places of batch, channel, row and column; None for another number of axes."""
    scale: Scale
    layout: str | None = None
    """The fault of the axes and the channels."""
    deviation: str | None = None
    variant: Variant = Variant(False, False, 0)
    matched: bool | None = None
    """Whether the first images are among the known ones; None without known images."""

    def levels(self, batch: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
        """Return the levels of a batch of images [B, C, H, W], rearranged as the known images."""
        if self.axes is None:
            return finite(batch) + 0
        images = self.scale.levels(as_four(finite(batch)).permute(self.axes))
        images = images.transpose(2, 3) if self.variant.transposed else images
        return images.flip(1) if self.variant.channels else images


def as_four(batch: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Return images with an axis of channels."""
    return batch.unsqueeze(1) if batch.ndim == 3 else batch


def finite(images: Shaped[Tensor, "..."]) -> Shaped[Tensor, "..."]:
    """Return images with 0 for what is not finite."""
    return torch.nan_to_num(images, nan=0.0, posinf=0.0, neginf=0.0) if images.is_floating_point() else images


def read(batches: Sequence[Shaped[Tensor, "..."]], known: Known | None) -> Reading:
    """Return the form of images, from the first batches."""
    shape = None if known is None else known.images.shape[1:]
    first = torch.cat(list(batches))
    axes, layout, deviation = _axes(first, shape)
    if axes is None:
        return Reading(None, Scale(cannot_see=f"images have {first.ndim - 1} axes"), layout, deviation)
    precision = scale.tolerance(first.dtype)
    images = as_four(first).permute(axes).double().numpy()
    images = images[np.isfinite(images).all((1, 2, 3))]
    if not len(images):
        return Reading(axes, Scale(cannot_see="the first images are not finite"), layout, deviation)
    if known is None:
        return Reading(axes, scale.of_values(images, precision), layout, deviation)
    pairs = _pairs(images, known)
    if pairs is None:
        return Reading(axes, scale.of_values(images, precision), layout, deviation, matched=False)
    variant, levels, places = pairs
    if variant.transposed:
        layout, deviation = "rows and columns are exchanged", "TransposedImages"
    elif variant.channels:
        layout, deviation = "channels are in the reverse order: blue, green, red", "ReversedChannels"
    found = scale.of_pairs(images[places], levels, precision)
    return Reading(axes, found, layout, deviation, Variant(variant.transposed, variant.channels, 0), True)


def _axes(
    images: Shaped[Tensor, "..."], shape: tuple[int, ...] | None
) -> tuple[tuple[int, ...] | None, str | None, str | None]:
    """Return the places of the axes, and what is wrong about them with its known deviation."""
    if images.ndim == 3:
        return (0, 1, 2, 3), f"a batch has the shape {list(images.shape[1:])} without an axis of channels", "NoChannels"
    if images.ndim != 4:
        return None, None, None
    sizes, straight = tuple(images.shape[1:]), (0, 1, 2, 3)
    last = sizes[-1] in CHANNELS and sizes[0] not in CHANNELS
    if shape is not None:
        last = sizes != tuple(shape) and sizes == (*shape[1:], shape[0])
    if last:
        return (0, 3, 1, 2), f"images have the shape {list(sizes)}, should be [C, H, W]", "ChannelsLast"
    return straight, None, None


def _pairs(images: Images, known: Known) -> tuple[Variant, Images, list[int]] | None:
    """Return how the first images are rearranged known images, and the levels of those that are."""
    few = images[np.ptp(images, axis=(1, 2, 3)) > 0][:FEW]
    found = [best for variant in _variants(few, known) for best in [(variant, *_best(few, variant, known))]]
    if not found:
        return None
    of_groups: dict[tuple[bool, bool], list[tuple[Variant, Float64[np.ndarray, " _n"], Int64[np.ndarray, " _n"]]]] = {}
    for one in found:
        of_groups.setdefault((one[0].transposed, one[0].channels), []).append(one)
    group = max(of_groups.values(), key=lambda ones: float(np.max([one[1] for one in ones], axis=0).sum()))
    scores = np.stack([one[1] for one in group])
    chosen = scores.argmax(0)
    good = [i for i in range(len(few)) if scores[chosen[i], i] > SAME]
    if len(good) < (len(few) + 1) // 2:
        return None
    levels = np.stack([_level(known, group[chosen[i]], i) for i in good])
    places = [int(i) for i in np.flatnonzero(np.ptp(images, axis=(1, 2, 3)) > 0)[:FEW]]
    return group[0][0], levels, [places[i] for i in good]


def _level(
    known: Known, of: tuple[Variant, Float64[np.ndarray, " _n"], Int64[np.ndarray, " _n"]], place: int
) -> Float64[np.ndarray, "_channels _height _width"]:
    """Return the known image that an image is, rearranged as the image is."""
    variant, _, indices = of
    index = int(indices[place])
    return np.asarray(variant.of(known.images[index : index + 1].astype(np.float64))[0])


def _variants(images: Images, known: Known) -> Iterator[Variant]:
    """Yield the rearrangements of known images that have the shape of the images."""
    channels, height, width = known.images.shape[1:]
    for transposed in (False, True):
        shape = (channels, width, height) if transposed else (channels, height, width)
        if len(images) and images.shape[1:] == shape:
            for reversed_channels in (False, True) if channels == 3 else (False,):
                yield from (Variant(transposed, reversed_channels, turn) for turn in range(4))


def _best(
    images: Images, variant: Variant, known: Known
) -> tuple[Float64[np.ndarray, " _n"], Int64[np.ndarray, " _n"]]:
    """Return the largest correlation of each image with a rearranged known one, and the index of that."""
    wanted = _standardised(images)
    score, index = np.full(len(images), -1.0), np.zeros(len(images), np.int64)
    for start in range(0, len(known.images), PIECE):
        piece = variant.of(known.images[start : start + PIECE].astype(np.float64))
        # An inverted image is still the same image.
        products = abs(wanted @ _standardised(piece).T)
        best = products.argmax(1)
        value = products[np.arange(len(images)), best]
        better = value > score
        score[better], index[better] = value[better], start + best[better]
    return score, index


def _standardised(images: Images) -> Float64[np.ndarray, "_n _values"]:
    """Return images whose channels have mean 0, and the same norm together."""
    flat = images.reshape(*images.shape[:2], -1).astype(np.float64)
    flat = flat - flat.mean(2, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=2, keepdims=True), 1e-12) * np.sqrt(flat.shape[1])
    return np.asarray(flat.reshape(len(images), -1))
