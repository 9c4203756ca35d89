"""Statistics of a set of images: moments, some of its features, class probabilities and a description."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float32, Float64, Int64, UInt8
from torch import Tensor

from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.features import Features
from ict_ref.evaluate.moments import Moments
from ict_ref.evaluate.sets import BATCH, ImageSet
from ict_ref.utils.progress import bar
from ict_ref.utils.tf32 import without_tf32

# Largest number of images for scores over all pairs, which would take hours for more. Moments use all images.
KEPT = 50_000
# Runs of images whose moments are added one after the other: a number that no number of processes changes.
SHARDS = 64


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


@dataclass(frozen=True)
class _Shard:
    """The findings of one process in a shard of the images."""

    moments: Moments
    features: Float32[Tensor, " kept d"]
    probabilities: Float32[Tensor, " n classes"] | None
    pixels: UInt8[Tensor, " n channels height width"] | None
    """The images, if other processes cannot load them."""


class _Total:
    """The statistics of the shards so far, added one by one: the moments of a shard may take 100 MB."""

    def __init__(self, images: ImageSet) -> None:
        self._images, self._filled = images, 0
        self._moments: Moments | None = None
        self._features: Float32[Tensor, " kept d"] = torch.empty(0, 0)
        self._probabilities: list[Float32[Tensor, " n classes"]] = []

    def add(self, shard: _Shard) -> None:
        """Add a shard."""
        if self._moments is None:
            self._moments = Moments(len(shard.moments.mean))
            self._features = torch.empty(len(_kept(self._images.count)), shard.features.shape[1])
        self._moments.merge(shard.moments)
        self._features[self._filled : self._filled + len(shard.features)] = shard.features
        self._filled += len(shard.features)
        self._probabilities += [] if shard.probabilities is None else [shard.probabilities]

    def measured(self, digest: str, device: torch.device) -> Measured:
        """Return the statistics of all shards, and the checksum of the pixels in the description."""
        images = self._images
        assert self._moments is not None  # noqa: S101 (there is a shard)
        # Descriptions without a device are of the CPU.
        where = {} if device.type == "cpu" else {"device": device.type}
        about = {"name": images.name, "count": images.count, "image": list(images.event), "pixels_sha256": digest}
        return Measured(
            count=images.count,
            mean=self._moments.mean,
            covariance=self._moments.covariance(),
            features=self._features,
            probabilities=torch.cat(self._probabilities) if self._probabilities else None,
            about={**about, **images.made, **where},
        )


def measure(images: ImageSet, features: Features, *, channels: int, classify: bool, what: str) -> Measured:
    """Return the statistics of two or more images by these features, computed in this process alone.

    Grey images are expanded to `channels` channels. `what` is the name of the images on the progress bar.
    """
    found = measure_together(images, features, ProcessGroup(), channels=channels, classify=classify, what=what)
    assert found is not None  # noqa: S101 (this process is the first)
    return found


def measure_together(
    images: ImageSet, features: Features, group: ProcessGroup, *, channels: int, classify: bool, what: str
) -> Measured | None:
    """Return the statistics that `measure` returns; None in all processes but the first.

    Each process takes an equal number of shards. Shards do not depend on the number of processes, and the first process
    adds their moments in their order, so any number of CPU processes finds the same bits. Features are computed in true
    float32 on the device of each process.

    Raises:
        KeyboardInterrupt: A signal has requested a stop of one of the processes.
    """
    shards, total = _shards(images.chunks), _Total(images)
    digest = hashlib.sha256("x".join(map(str, images.event)).encode())
    with bar(images.count, what, "images", shown=group.first) as progress, torch.inference_mode(), without_tf32():
        for start in range(0, len(shards), group.size):
            group.stop_if_requested()
            several = shards[start : start + group.size]
            mine = [
                _shard(images, chunks, features, group.device, channels, classify, progress.update)
                for chunks in several[group.rank : group.rank + 1]
            ]
            for rank, (chunks, [shard]) in enumerate(zip(several, group.gathered(mine), strict=False)):
                for pixels in [shard.pixels] if shard.pixels is not None else map(images.load, chunks):
                    digest.update(pixels.contiguous().numpy().tobytes())
                total.add(shard)
                progress.update(0 if rank == group.rank else chunks[-1].stop - chunks[0].start)
    return total.measured(digest.hexdigest(), group.device) if group.first else None


def _shards(chunks: Sequence[range]) -> list[Sequence[range]]:
    """Return the chunks in at most SHARDS runs of nearly equal length."""
    bounds = [len(chunks) * k // SHARDS for k in range(SHARDS + 1)]
    return [chunks[first:last] for first, last in pairwise(bounds) if first < last]


def _shard(
    images: ImageSet,
    chunks: Sequence[range],
    features: Features,
    device: torch.device,
    channels: int,
    classify: bool,
    progress: Callable[[int], object],
) -> _Shard:
    """Return the statistics of the images of some consecutive chunks."""
    chosen, done = _kept(images.count), chunks[0].start
    kept, classes, made = list[Tensor](), list[Tensor](), list[Tensor]()
    moments: Moments | None = None
    for pixels in map(images.load, chunks):
        made += [pixels] if images.sampled else []
        for some in torch.split(pixels, BATCH):
            found, probabilities = features(coloured(some, channels).to(device), classify=classify)
            moments = moments or Moments(found.shape[1], device)
            moments.add(found)
            these = chosen[(chosen >= done) & (chosen < done + len(found))] - done
            kept.append(found[these.to(device)].cpu())
            classes += [] if probabilities is None else [probabilities.cpu()]
            done += len(found)
            progress(len(found))
    assert moments is not None  # noqa: S101 (a shard has an image)
    return _Shard(
        moments.cpu(), torch.cat(kept), torch.cat(classes) if classes else None, torch.cat(made) if made else None
    )


def _kept(count: int) -> Int64[Tensor, " kept"]:
    """Return the positions of the images whose features are kept."""
    return torch.arange(min(count, KEPT)) * count // min(count, KEPT)


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
