"""Statistics of a set of images: moments, some of its features, class probabilities and a description."""

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

# Largest number of images for scores over all pairs, which would take hours for more. Moments use all images.
KEPT = 50_000


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The statistics of a set of images for its scores."""

    count: int | None
    """Number of images; None for statistics from a file without it."""
    mean: Float64[Tensor, " d"]
    covariance: Float64[Tensor, " d d"]
    features: Float32[Tensor, " kept d"] | None
    """Features of all images, or of `KEPT` evenly chosen ones; None if only moments were saved."""
    probabilities: Float32[Tensor, " n classes"] | None
    """Class probabilities by the classifier of the features."""
    about: dict[str, Any]
    """Description of the images for the protocol."""


def measure(images: ImageSet, features: Features, *, channels: int, classify: bool, what: str) -> Measured:
    """Return the statistics of two or more images by these features.

    Grey images are expanded to `channels` channels. `what` is the name of the images on the progress bar.
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
    assert moments is not None  # noqa: S101 (there are at least two images)
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
    """Return the images, with grey ones repeated in all channels."""
    return pixels.expand(-1, channels, -1, -1) if pixels.shape[1] == 1 else pixels


def channels_and_number(features: Features, images: Mapping[str, ImageSet | None], *, least: int) -> tuple[int, int]:
    """Return the common number of channels, three if a set is in colour, and the number of features.

    Raises:
        ValueError: A set has fewer than `least` images, or the features do not fit its images.
    """
    sets = {name: some for name, some in images.items() if some is not None}
    for name, some in sets.items():
        if some.count < least:
            raise ValueError(
                f"{name}: expected at least {least} images (2 for a covariance, k + 1 for neighbours), "
                f"got {some.count} in {some.name}. Give more images."
            )
    channels = max(some.event[0] for some in sets.values())
    numbers = {features.number((channels, *some.event[1:])) for some in sets.values()}
    if len(numbers) > 1:
        sizes = " and ".join(f"{some.event[2]}x{some.event[1]}" for some in sets.values())
        raise ValueError(
            f"--features: expected samples and reference of one size for {features.name}, got {sizes}. "
            "Crop images with python -m ict_ref.prepare --size."
        )
    return channels, numbers.pop()
