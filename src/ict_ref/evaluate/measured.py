"""What is left of a set of images when it has been looked at: its moments, some of its features, and what it was."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from ict_ref.evaluate.features import Features
from ict_ref.evaluate.moments import Moments
from ict_ref.evaluate.sets import ImageSet
from ict_ref.utils.progress import bar

# All pairs of more images than these take hours; moments are always of all.
KEPT = 50_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A set of images as its scores need it."""

    count: int | None
    """None: unknown, of statistics that do not say."""
    mean: Float64[Tensor, " d"]
    covariance: Float64[Tensor, " d d"]
    features: Float32[Tensor, " kept d"] | None
    """Of all images, or of `KEPT` evenly from the first to the last; None where only moments were saved."""
    probabilities: Float32[Tensor, " n classes"] | None
    """Of the classes, by the classifier that the features belong to."""
    about: dict[str, Any]
    """What the images are, for the protocol."""


def measure(images: ImageSet, features: Features, *, channels: int, classify: bool, what: str) -> Measured:
    """Return what these features say of the images, of which grey ones are taken in as many channels as told.

    `what` the progress bar calls them. Needs two images or more.
    """
    chosen = torch.arange(min(images.count, KEPT)) * images.count // min(images.count, KEPT)
    digest = hashlib.sha256("x".join(map(str, images.event)).encode())
    moments: Moments | None = None
    kept: Float32[Tensor, " kept d"] | None = None
    classes: list[Float32[Tensor, " batch classes"]] = []
    with bar(images.count, what, "images") as progress, torch.inference_mode():
        for pixels in images.batches():
            digest.update(pixels.contiguous().numpy().tobytes())
            found, probabilities = features(coloured(pixels, channels), classify=classify)
            if moments is None or kept is None:
                moments = Moments(found.shape[1])
                kept = torch.empty(len(chosen), found.shape[1])
            first, last = torch.searchsorted(chosen, torch.tensor([moments.count, moments.count + len(found)])).tolist()
            kept[first:last] = found[chosen[first:last] - moments.count]
            moments.add(found)
            if probabilities is not None:
                classes.append(probabilities)
            progress.update(len(found))
    assert moments is not None  # noqa: S101 (there are two images)
    return Measured(
        count=images.count,
        mean=moments.mean,
        covariance=moments.covariance(),
        features=kept,
        probabilities=torch.cat(classes) if classes else None,
        about={
            "name": images.name,
            "count": images.count,
            "image": list(images.event),
            "pixels_sha256": digest.hexdigest(),
            **images.made,
        },
    )


def coloured(
    pixels: UInt8[Tensor, " n channels height width"], channels: int
) -> UInt8[Tensor, " n {channels} height width"]:
    """Return the images, grey ones in as many channels, all the same."""
    return pixels.expand(-1, channels, -1, -1) if pixels.shape[1] == 1 else pixels


def channels_and_number(features: Features, images: Mapping[str, ImageSet | None], *, least: int) -> tuple[int, int]:
    """Return in how many channels all are seen, three if one set is in colour, and how many features they have.

    Raises ValueError for a set of fewer than `least` images, if these features are not for such images, and, of pixels,
    for images of two sizes.
    """
    sets = {name: some for name, some in images.items() if some is not None}
    for name, some in sets.items():
        if some.count < least:
            raise ValueError(
                f"the {name} need at least {least} images: 2 for a covariance, k + 1 for neighbours; {some.name} has "
                f"{some.count}; give more"
            )
    channels = max(some.event[0] for some in sets.values())
    numbers = {features.number((channels, *some.event[1:])) for some in sets.values()}
    if len(numbers) > 1:
        sizes = " and ".join(f"{some.event[2]}x{some.event[1]}" for some in sets.values())
        raise ValueError(
            f"--features {features.name} needs samples and reference of one size; got {sizes}; "
            "python -m ict_ref.prepare --size crops images"
        )
    return channels, numbers.pop()
