"""The reference of scores: real images, the statistics of a file, or both."""

import dataclasses
from dataclasses import dataclass
from typing import TypeAlias

from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.features import Features
from ict_ref.evaluate.measured import Measured, channels_and_number, measure_together
from ict_ref.evaluate.sets import ImageSet, print_remarks, stored
from ict_ref.evaluate.statistics_file import is_batch, is_statistics, load
from ict_ref.utils.command_line import expect


@dataclass(frozen=True)
class ReferenceBatch:
    """Real images with moments of their own, which may be of more images (arr_0, mu and sigma of one .npz)."""

    images: ImageSet
    moments: Measured


Reference: TypeAlias = ImageSet | Measured | ReferenceBatch


def find_reference(place: str, features: Features, group: ProcessGroup) -> Reference:
    """Return the real images at this place, the statistics in this file, or both.

    The first process prints a line on files and content that are left out.

    Raises:
        ValueError: The path does not hold images or statistics of these features, or a file is damaged.
        OSError: A file cannot be read.
    """
    if is_statistics(place) and not is_batch(place):
        return load(place, features)
    images = stored(place)
    print_remarks(images, group)
    return ReferenceBatch(images, load(place, features)) if is_batch(place) else images


def count_of(real: Reference) -> int | None:
    """Return the number of images of the moments; None if it is unknown."""
    return real.moments.count if isinstance(real, ReferenceBatch) else real.count


def measured_reference(
    real: Reference, fake: ImageSet | None, features: Features, group: ProcessGroup, *, least: int
) -> tuple[Measured | None, int]:
    """Return the statistics of the reference, and the common number of channels of all images.

    Processes other than the first may return None for the statistics. The moments of a reference batch are those of the
    file, and its features for precision and recall are those of its images.

    Raises:
        ValueError: A set has fewer than `least` images, or the features do not fit the images or the statistics.
    """
    if isinstance(real, ImageSet):
        channels, _ = channels_and_number(features, {"samples": fake, "reference": real}, least=least)
        found = measure_together(real, features, group, channels=channels, classify=False, what="reference")
        return found, channels
    images, moments = (real.images, real.moments) if isinstance(real, ReferenceBatch) else (None, real)
    channels, number = channels_and_number(features, {"samples": fake, "reference": images}, least=least)
    expect(
        len(moments.mean) == number,
        "--reference",
        f"statistics of {number} features ({features.name})",
        f"{len(moments.mean)} in {moments.about['name']}",
        "Give images, or statistics of these features.",
    )
    if images is None:
        return moments, channels
    found = measure_together(images, features, group, channels=channels, classify=False, what="reference")
    return found and _with_moments(found, moments), channels


def _with_moments(images: Measured, moments: Measured) -> Measured:
    """Return the statistics of images with other moments."""
    about = {**images.about, **moments.about, "moments": "mu and sigma of the file"}
    return dataclasses.replace(
        images, count=moments.count, mean=moments.mean, covariance=moments.covariance, about=about
    )
