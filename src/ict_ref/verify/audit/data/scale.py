"""The scale of images: the numbers that stand for the 256 levels of 8-bit images."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

Images = Float64[np.ndarray, "_n _channels _height _width"]
RIGHT = (1 / 127.5, -1.0)
SCALES: Mapping[str, tuple[float, float]] = {
    "UnitRange": (1 / 255, 0.0),
    "ByteRange": (1.0, 0.0),
    "DividedBy128": (1 / 128, -1.0),
    "HalfOffset": (1 / 128, 0.5 / 128 - 1),
    "HalvedRange": (1 / 255, -0.5),
}
"""Factor and offset of known wrong scales."""
# Images are compared with levels of 8 bits to this part of a level; 16-bit floats round more.
TOLERANCE, WIDE = 0.02, 0.3
# A line through the levels explains values if it leaves less than this part of their spread.
EXACT = 1e-3
# Values that were rounded to levels differ from them by half a level; a little more for a fitted line.
HALF = 0.6


@dataclass(frozen=True)
class Scale:
    """A line from 8-bit levels to values in each channel, and what is wrong about it."""

    wrong: str | None = None
    deviation: str | None = None
    line: tuple[Float64[np.ndarray, " channels"], Float64[np.ndarray, " channels"]] | None = None
    """Factor and offset of each channel, if the values show them."""
    cannot_see: str = ""
    """Why the scale cannot be seen."""
    is_noisy: bool = False
    """Whether noise of less than a level is added."""

    def levels(self, images: Shaped[Tensor, "n channels _ _"]) -> Shaped[Tensor, "n channels _ _"]:
        """Return the 8-bit levels of images; images as they are if the line is not known."""
        if self.line is None:
            return images + 0  # without negative zeros
        factor, offset = (torch.from_numpy(one).reshape(1, -1, 1, 1) for one in self.line)
        found = (images.double() - offset) / factor
        found = (found + TOLERANCE + (0 if self.is_noisy else 0.5)).floor()
        return found.clamp(0, 255).to(torch.uint8)


def tolerance(dtype: torch.dtype) -> float:
    """Return the rounding of values in a dtype, as a part of a level."""
    return WIDE if dtype in (torch.float16, torch.bfloat16) else TOLERANCE


def of_values(images: Images, precision: float) -> Scale:
    """Return the scale that the values alone show."""
    values = np.unique(images)
    channels = images.shape[1]
    for name, line in {"": RIGHT, **SCALES}.items():
        if _are_levels((values - line[1]) / line[0], precision):
            return _named(name, line, channels)
    lines = [_lattice(np.unique(images[:, c]), precision) for c in range(channels)]
    found = [line for line in lines if line is not None]
    if len(found) == channels:
        return _normalised(np.array([line[0] for line in found]), np.array([line[1] for line in found]))
    return _of_range(images)


def _are_levels(numbers: Float64[np.ndarray, " _n"], precision: float) -> bool:
    whole = np.round(numbers)
    return bool((np.abs(numbers - whole) <= precision).all() and whole.min() >= 0 and whole.max() <= 255)


def _named(name: str, line: tuple[float, float], channels: int) -> Scale:
    lines = (np.full(channels, line[0]), np.full(channels, line[1]))
    if not name:
        return Scale(line=lines)
    return Scale(f"the levels 0 and 255 are {_ends(*line)}, should be -1 and 1", name, lines)


def _ends(factor: float, offset: float) -> str:
    return f"{offset:.5g} and {255 * factor + offset:.5g}"


def _lattice(values: Float64[np.ndarray, " _n"], precision: float) -> tuple[float, float] | None:
    """Return the spacing and the smallest of equally spaced values; None if they are not, or if there are too few."""
    if not 8 <= len(values) <= 256:
        return None
    spacing = float(np.diff(values).min())
    numbers = (values - values[0]) / spacing
    spacing *= float(numbers[-1]) / round(float(numbers[-1]))
    return (spacing, float(values[0])) if _are_levels((values - values[0]) / spacing, max(precision, 0.1)) else None


def _normalised(factor: Float64[np.ndarray, " channels"], lowest: Float64[np.ndarray, " channels"]) -> Scale:
    text = f"values of channel 0 begin at {lowest[0]:.4g} in steps of {factor[0]:.4g}, should be -1 and 1 / 127.5"
    return Scale(text, "Normalised", (factor, lowest))


def _of_range(images: Images) -> Scale:
    """Return what the range shows of values that are not 256 levels."""
    low, high = float(images.min()), float(images.max())
    of_image = [(float(one.min()), float(one.max())) for one in images]
    stretched = len(of_image) >= 8 and len({(round(a, 5), round(b, 5)) for a, b in of_image}) == 1
    if stretched:
        return Scale(f"the smallest value of each image is {low:.4g}, the largest {high:.4g}", "PerImageRange")
    if low < -1.001 or high > 1.01:
        return Scale(f"values are from {low:.4g} to {high:.4g}, should be from -1 to 1")
    if low >= 0:
        return Scale(f"values are from {low:.4g} to {high:.4g}, should be from -1 to 1", "UnitRange")
    return Scale(cannot_see="values are not levels of 8 bits; --images gives images to compare with")


def of_pairs(values: Images, levels: Images, precision: float) -> Scale:
    """Return the scale of images whose levels are known."""
    channels = values.shape[1]
    fits = [_fit(levels[:, c].ravel(), values[:, c].ravel()) for c in range(channels)]
    factor, offset = (np.array([fit[part] for fit in fits]) for part in (0, 1))
    rest = np.stack([values[:, c] - factor[c] * levels[:, c] - offset[c] for c in range(channels)], 1) / abs(
        factor.reshape(1, -1, 1, 1)
    )
    if abs(rest).max() > max(5 * precision, 0.1):
        if abs(rest).max() > HALF or not _is_function(levels, values, precision * abs(factor).max()):
            return _uneven(values, levels, rest, factor)
        precision = HALF
    for name, line in {"": RIGHT, **SCALES}.items():
        ends = [abs(line[0] * at + line[1] - factor * at - offset).max() / line[0] for at in (0, 255)]
        if max(ends) <= precision:
            return _named(name, line, channels)
    ends_of_0 = _ends(float(factor[0]), float(offset[0]))
    text = f"the levels 0 and 255 of channel 0 are {ends_of_0}, should be -1 and 1"
    per_channel = bool((abs(factor - factor[0]) > EXACT * abs(factor)).any() or abs(offset + 1).max() > EXACT)
    deviation = "InvertedRange" if (factor < 0).all() else "Normalised" if per_channel else None
    return Scale(text, deviation, (factor, offset))


def _is_function(levels: Images, values: Images, error: float) -> bool:
    """Return whether equal levels have equal values, as if values had been rounded to levels."""
    of_level = [values[levels == level] for level in np.unique(levels)]
    return all(float(np.ptp(one)) <= error for one in of_level)


def _fit(x: Float64[np.ndarray, " _n"], y: Float64[np.ndarray, " _n"]) -> tuple[float, float]:
    """Return the slope and the offset of a line."""
    spread = float(x.var())
    slope = float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread else 1.0
    return slope, float(y.mean() - slope * x.mean())


def _uneven(values: Images, levels: Images, rest: Images, factor: Float64[np.ndarray, " channels"]) -> Scale:
    """Return the scale of values that are not one line through the levels."""
    fits = [_fit(x.ravel(), y.ravel()) for x, y in zip(levels, values, strict=True)]
    errors = [abs(y - a * x - b).max() / abs(a) for x, y, (a, b) in zip(levels, values, fits, strict=True) if a]
    if errors and max(errors) <= 0.1:
        return Scale("each image has a range of its own, which hides its brightness", "PerImageRange")
    spread = float(rest.std())
    size = float(abs(rest).max())
    offset = np.array([(values[:, c] - factor[c] * levels[:, c]).min() for c in range(values.shape[1])])
    if spread < 0.5 and size <= 0.6:
        text = f"noise of up to {float(rest.max() - rest.min()):.2g} levels is added to each value"
        return Scale(text, "Dequantised", (factor, offset), is_noisy=True)
    text = f"values differ from a line through the levels by up to {size:.3g} levels"
    return Scale(text, "NoisyImages" if spread > 0.5 else None)
