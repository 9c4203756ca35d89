"""The images that a model was trained on, as run folders and checkpoints describe them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ImageDescription:
    """Shape and classes of a model's images, so that the model can be used without its training data."""

    channels: int
    size: int
    """Side in pixels."""
    classes: int
    """Number of classes of the model; 0 for a model without labels."""
    class_names: tuple[str, ...] | None = None
    """Names of the classes, if known."""
    source: str = ""
    """Origin of the images, in words."""

    @property
    def event(self) -> tuple[int, int, int]:
        """Return channels, height and width."""
        return self.channels, self.size, self.size


def image_description(stored: Mapping[str, Any]) -> ImageDescription:
    """Return the description that a file stores.

    Raises:
        ValueError: A value is missing or has another type.
    """
    try:
        names = stored["class_names"]
        description = ImageDescription(
            channels=int(stored["channels"]),
            size=int(stored["size"]),
            classes=int(stored["classes"]),
            class_names=None if names is None else tuple(str(name) for name in names),
            source=str(stored["source"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"images: expected channels, size, classes, class_names and source ({error})") from None
    if min(description.channels, description.size) < 1 or description.classes < 0:
        raise ValueError("images: expected channels and size >= 1, and classes >= 0")
    return description
