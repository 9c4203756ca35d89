"""The content of a figure: panels with named curves and axes, and a caption."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Scale = Literal["linear", "log"]
Points = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """One pair of axes with its curves."""

    title: str
    """Short title."""
    x: str
    """Name of the horizontal axis, with its unit if it has one."""
    y: str
    """Name of the vertical axis."""
    curves: dict[str, Points]
    """Points (x, y) by name in the legend, in the order in which a line joins them."""
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    marks: Sequence[str] = field(default=())
    """Names of curves with markers, which show measured points."""
    dots: Sequence[str] = field(default=())
    """Names of curves drawn as points without a line; they reuse the colours of the lines in order."""


@dataclass(frozen=True)
class Figure:
    """Panels side by side, and a caption that describes how they were made."""

    number: str
    """Number in the paper, such as 1a; empty for a figure that is not in the paper."""
    caption: str
    """Description; for an experiment also its data and size, and those in the paper."""
    panels: tuple[Panel, ...]

    @property
    def words(self) -> str:
        """Return the text below the panels."""
        return f"Figure {self.number}. {self.caption}" if self.number else self.caption
