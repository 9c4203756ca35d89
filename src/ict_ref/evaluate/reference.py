"""The reference of scores: real images, or the statistics of a file."""

from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.evaluate.features import Features
from ict_ref.evaluate.measured import Measured, channels_and_number, measure_together
from ict_ref.evaluate.sets import ImageSet, stored
from ict_ref.evaluate.statistics_file import is_statistics, load
from ict_ref.utils.command_line import expect


def find_reference(place: str, features: Features) -> ImageSet | Measured:
    """Return the real images at this place, or the statistics in this file.

    Raises:
        ValueError: The path does not hold images or statistics of these features, or a file is damaged.
        OSError: A file cannot be read.
    """
    return load(place, features) if is_statistics(place) else stored(place)


def measured_reference(
    real: ImageSet | Measured, fake: ImageSet | None, features: Features, group: ProcessGroup, *, least: int
) -> tuple[Measured | None, int]:
    """Return the statistics of the reference, and the common number of channels of all images.

    Processes other than the first may return None for the statistics.

    Raises:
        ValueError: A set has fewer than `least` images, or the features do not fit the images or the statistics.
    """
    if isinstance(real, ImageSet):
        channels, _ = channels_and_number(features, {"samples": fake, "reference": real}, least=least)
        found = measure_together(real, features, group, channels=channels, classify=False, what="reference")
        return found, channels
    channels, number = channels_and_number(features, {"samples": fake}, least=least)
    expect(
        len(real.mean) == number,
        "--reference",
        f"statistics of {number} features ({features.name})",
        f"{len(real.mean)} in {real.about['name']}",
        "Give images, or statistics of these features.",
    )
    return real, channels
