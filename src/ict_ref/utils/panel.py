"""What a figure shows: curves with their names, axes and caption. How it is drawn is another module's business."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Scale = Literal["linear", "log"]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    """What is shown, in a few words."""
    x: str
    """Name of the horizontal axis, with its unit where it has one."""
    y: str
    """Name of the vertical axis."""
    curves: dict[str, Points]
    """(x, y) in the order in which they are joined, under what the legend calls them."""
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    marks: Sequence[str] = field(default=())
    """Curves whose points are marked: measured, not computed at will."""
    dots: Sequence[str] = field(default=())
    """Curves that are points alone, not joined: the first in the colour of the first line, and so on."""


@dataclass(frozen=True)
class Figure:
    """What one number of the paper stands for: panels side by side, and a caption that says how they were made."""

    number: str
    """As in the paper: 1a. Empty: it is none of the paper's."""
    caption: str
    """What is seen; for an experiment its data, its size, and what the paper's was."""
    panels: tuple[Panel, ...]

    @property
    def words(self) -> str:
        """Return what stands below it."""
        return f"Figure {self.number}. {self.caption}" if self.number else self.caption
