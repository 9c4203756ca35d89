"""The images that a model was trained on, as run folders and checkpoints describe them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from ict_ref.utils.command_line import expect
from ict_ref.utils.json_file import checked, entry


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
        ValueError: A value is missing, has another type or is too small. The message names it.
    """
    given = checked(stored, Mapping[str, Any], "images")
    hints = get_type_hints(ImageDescription)
    least = {"channels": 1, "size": 1, "classes": 0}
    names = (*least, "class_names", "source")
    found = ImageDescription(**{name: entry(given, name, hints[name], "images.", least.get(name)) for name in names})
    named = found.classes if found.class_names is None else len(found.class_names)
    expect(named == found.classes, "images.class_names", f"{found.classes} names or null", f"{named} names")
    return found
