"""The images that an extractor gets: their range, clipping and rounding to 8 bits."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from ict_ref.verify.audit.score.calls import Seen
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result

SOURCE = "iCT, Section 4; Heusel et al. 2017"
NAME = "score:pixels"
# Levels that differ by less are equal.
EXACT = 0.02
RANGES = {"[0, 255]": (1.0, 0.0), "[0, 1]": (1 / 255, 0.0), "[-1, 1]": (1 / 127.5, -1.0)}


@dataclass(frozen=True)
class Line:
    """A line from 8-bit levels to the values that an extractor gets."""

    factor: float
    offset: float
    error: float
    """Largest difference from the line in levels."""

    def levels(self, x: Float64[Tensor, "..."]) -> Float64[Tensor, "..."]:
        """Return the levels of values."""
        return (x - self.offset) / self.factor

    @property
    def range(self) -> str:
        """Return the range in words."""
        for name, (factor, offset) in RANGES.items():
            if abs(self.factor / factor - 1) < 1e-3 and abs(self.offset - offset) < EXACT * factor:
                return name
        return f"[{self.offset:.4g}, {self.offset + 255 * self.factor:.4g}]"


def _line(levels: Float64[Tensor, "..."], values: Float64[Tensor, "..."]) -> Line:
    x, y = levels.flatten(), values.flatten()
    factor = float(((x - x.mean()) * (y - y.mean())).mean() / x.var(correction=0))
    offset = float(y.mean() - factor * x.mean())
    error = float((y - factor * x - offset).abs().max()) / max(abs(factor), 1e-12)
    return Line(factor, offset, error)


def _round(t: Tensor) -> Tensor:
    return t.round().clamp(0, 255)


QUANTISED: Mapping[str, Callable[[Tensor], Tensor]] = {
    "": _round,
    "TruncatedPixels": lambda t: t.floor().clamp(0, 255),
    "NotQuantised": lambda t: t.clamp(0, 255),
    "NotClipped": lambda t: t,
    "NotClipped ": lambda t: t.round(),
    "WrappedPixels": lambda t: t.round().remainder(256),
    "WrappedPixels ": lambda t: t.trunc().remainder(256),
    "WrappedPixels  ": lambda t: t.floor().remainder(256),
}
"""Levels of samples t from 0 to 255: rounded and clipped, and known deviations."""


def pixels(
    seen: Seen, a: Shaped[Tensor, "..."], b: Shaped[Tensor, "..."], form: str, real_first: bool
) -> Iterator[Result]:
    """Yield the results about the images that the extractor got for a generated and a real set."""
    if seen.extractor is None:
        return
    wrong = "the extractor is in training mode" if seen.extractor.was_training else None
    yield verdict("score:evaluation_mode", SOURCE, wrong)
    shapes = {tuple(one.shape[1:]) for one in seen.extractor.inputs}
    if len(shapes) > 1:
        text = f"the extractor gets images of the shapes {', '.join(str(list(one)) for one in sorted(shapes))}"
        yield verdict(NAME, SOURCE, text, deviation="DifferentProcessing")
        return
    whole = torch.cat([one.double() for one in seen.extractor.inputs])
    first = b if real_first else a
    if whole.shape != (len(a) + len(b), *a.shape[1:]):
        text = f"the extractor gets images of shape {list(whole.shape[1:])}, resized or rearranged"
        yield not_checked(NAME, SOURCE, text)
        return
    of_first, of_second = whole[: len(first)], whole[len(first) :]
    got_a, got_b = (of_second, of_first) if real_first else (of_first, of_second)
    yield _of_sets(got_a, got_b, _levels(a, form), _levels(b, form), form)


def _levels(x: Shaped[Tensor, "..."], form: str) -> Float64[Tensor, "..."]:
    """Return images on the scale of 8-bit levels."""
    return x.double() if form == "uint8" else 255 * x.double() if form == "0,1" else 127.5 * (x.double() + 1)


def _of_sets(
    a: Float64[Tensor, "..."], b: Float64[Tensor, "..."], t_a: Float64[Tensor, "..."], t_b: Float64[Tensor, "..."],
    form: str,
) -> Result:  # fmt: skip
    """Return the result of the comparison of what the extractor got with the images as levels."""
    line = _line(t_b.floor(), b)
    if line.error > 0.5:
        if _each_is_a_line(t_b, b):
            text = "each image is stretched to its own range"
            return verdict(NAME, SOURCE, text, deviation="StretchedSamples")
        return not_checked(NAME, SOURCE, "the images are not in their order, or not on one scale")
    if form == "uint8":
        other = _line(t_a, a)
        if other.range != line.range:
            text = f"generated images are in {other.range}, real ones in {line.range}"
            return verdict(NAME, SOURCE, text, deviation="DifferentProcessing")
        return observation(NAME, f"the extractor gets images in {line.range}")
    line = line if line.error < EXACT else _line(t_b, b)
    got = line.levels(a)
    for name, quantised in QUANTISED.items():
        if float((got - quantised(t_a)).abs().max()) < 5 * EXACT:
            return _named(name.strip(), line)
    if _each_is_a_line(t_a, a):
        return verdict(NAME, SOURCE, "samples are stretched, not clipped", deviation="StretchedSamples")
    worst = float((got - _round(t_a)).abs().max())
    return verdict(NAME, SOURCE, f"levels of samples differ by up to {worst:.3g} from rounded and clipped ones")


def _each_is_a_line(levels: Float64[Tensor, "..."], values: Float64[Tensor, "..."]) -> bool:
    return all(_line(x, y).error < 1.1 for x, y in zip(levels, values, strict=True))


def _named(name: str, line: Line) -> Result:
    texts = {
        "NotQuantised": "samples are clipped, but not rounded to 8 bits",
        "NotClipped": "samples are not clipped to the range of images",
        "WrappedPixels": "samples outside the range wrap around: 256 becomes 0",
    }
    if not name:
        return observation(NAME, f"samples are rounded and clipped; the extractor gets images in {line.range}")
    if name == "TruncatedPixels":
        return observation(NAME, "samples are rounded down to 8 bits, as in the authors' code", deviation=name)
    return verdict(NAME, SOURCE, texts[name], deviation=name)
