"""The coefficients c_skip, c_out, c_in and c_noise of a model: measured, and compared with those of Eq. (2)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.audit.model.free_form_network import Answered

RTOL = 1e-4
"""Relative tolerance of a coefficient that is computed in float32."""
# An error of the least squares for more values than this does not stem from rounding to 16 bits.
NOT_AFFINE = 0.02
NAMES = ("c_out", "c_skip", "c_in", "c_noise")
Formula: TypeAlias = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Settings:
    """The constants of the coefficients."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float = 0.5


@dataclass(frozen=True)
class Measured:
    """One coefficient at each level, with the error of its measurement."""

    value: Tensor
    error: Tensor


@dataclass(frozen=True)
class Reading:
    """The coefficients of f = c_skip x + c_out F(c_in x, c_noise)."""

    sigma: Tensor
    found: dict[str, Measured]
    """The coefficients that could be measured."""
    rounding: float
    """Largest deviation of f from c_skip x + c_out F, relative to the largest value of f."""
    clipped: tuple[float, float] | None = None
    """Smallest and largest value of f, if f is clipped to them."""
    scales_its_input: bool = True
    """Whether F's input is a multiple of x."""


def levels(settings: Settings, count: int) -> Tensor:
    """Return noise levels from sigma_min to sigma_max, some of them close to sigma_min, in float64."""
    near = settings.sigma_min * torch.tensor([1, 1.05, 1.5, 5], dtype=torch.float64)
    low, high = torch.tensor([15 * settings.sigma_min, settings.sigma_max], dtype=torch.float64).log()
    return torch.cat([near, torch.linspace(float(low), float(high), count - len(near), dtype=torch.float64).exp()])


def right(name: str, settings: Settings) -> Formula:
    """Return the formula of a coefficient."""
    m, d = settings.sigma_min, settings.sigma_data
    formula: dict[str, Formula] = {
        "c_skip": partial(formulas.c_skip, sigma_min=m, sigma_data=d),
        "c_out": partial(formulas.c_out, sigma_min=m, sigma_data=d),
        "c_in": partial(formulas.c_in, sigma_data=d),
        "c_noise": formulas.c_noise,
    }
    return formula[name]


# Measurement.


def read(x: Tensor, sigma: Tensor, seen: Answered) -> Reading | None:
    """Return the coefficients of f, or None if f is not c_skip x + c_out F."""
    x, f, answer, sigma = (one.double().cpu() for one in (x, seen.f, seen.answer, sigma))
    clipped = _limits(f)
    inside = torch.ones_like(f, dtype=torch.bool) if clipped is None else (f > clipped[0]) & (f < clipped[1])
    skip, out = _least_squares(x, answer, f, inside)
    rest = (f - _column(skip, x) * x - _column(out, x) * answer).abs()[inside]
    rounding = float(rest.max()) / max(float(f.abs().max()), 1e-30) if rest.numel() else 1.0
    if not rounding < NOT_AFFINE or not bool(skip.isfinite().all() and out.isfinite().all()):
        return None
    # Errors of single values are independent, and those of the coefficients as much smaller as there are values.
    size = _rms(f) * max(rounding, torch.finfo(seen.f.dtype).eps)
    found = {"c_skip": Measured(skip, 4 * size / _rms(x)), "c_out": Measured(out, 4 * size / _rms(answer))}
    scaled = None if seen.input is None else scale(x, seen.input)
    found |= {} if scaled is None else {"c_in": scaled}
    noise = next((one.double().cpu() for one in seen.others if varies(one)), None)
    found |= {} if noise is None else {"c_noise": Measured(noise, torch.full_like(noise, 1e-6))}
    return Reading(sigma, found, rounding, clipped, seen.input is None or scaled is not None)


def _limits(f: Tensor) -> tuple[float, float] | None:
    """Return the smallest and the largest value if many values are equal to each of them."""
    low, high = f.min(), f.max()
    return (float(low), float(high)) if int((f == low).sum()) > 3 and int((f == high).sum()) > 3 else None


def _least_squares(x: Tensor, y: Tensor, f: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return a and b of f = a x + b y for each example."""
    x, y, f = ((one * inside).reshape(len(one), -1) for one in (x, y, f))
    xx, xy, yy, xf, yf = ((a * b).sum(1) for a, b in ((x, x), (x, y), (y, y), (x, f), (y, f)))
    determinant = xx * yy - xy**2
    return (yy * xf - xy * yf) / determinant, (xx * yf - xy * xf) / determinant


def scale(x: Tensor, given: Tensor) -> Measured | None:
    """Return the factor of F's input for each example, or None if the input is not a multiple of x."""
    eps = torch.finfo(given.dtype).eps
    x, wide = x.double().cpu(), given.double().cpu()
    flat, other = x.reshape(len(x), -1), wide.reshape(len(x), -1)
    factor = (flat * other).sum(1) / flat.square().sum(1)
    rest = (wide - _column(factor, x) * x).abs().reshape(len(x), -1).amax(1)
    if bool((rest > 4 * eps * other.abs().amax(1) + 1e-6 * other.abs().amax(1)).any()):
        return None
    return Measured(factor, eps / 4 * factor.abs())


def varies(value: Tensor) -> bool:
    """Return whether a tensor has more than one number."""
    return bool((value != value.reshape(-1)[0]).any())


def _rms(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).square().mean(1).sqrt()


def _column(value: Tensor, x: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (x.ndim - 1))


# Comparison.


def agrees(seen: Measured, expected: Tensor) -> Tensor:
    """Return at which levels a coefficient is the expected one."""
    close: Tensor = (seen.value - expected).abs() <= RTOL * expected.abs() + seen.error
    return close


def all_agree(seen: Measured, expected: Tensor) -> bool:
    """Return whether a coefficient is the expected one at all levels."""
    return bool(agrees(seen, expected).all())


def count_right(reading: Reading, settings: Settings) -> int:
    """Return how many of the four coefficients are right."""
    return sum(bool(agrees(seen, right(name, settings)(reading.sigma)).all()) for name, seen in reading.found.items())


def example(name: str, reading: Reading, settings: Settings) -> str:
    """Return the level at which a coefficient differs most from the right one, in words."""
    seen, expected = reading.found[name], right(name, settings)(reading.sigma)
    at = largest_difference(seen, expected)
    shown, wanted = (f"{float(value):.4g}" for value in (seen.value[at], _cleaned(expected[at])))
    if shown == wanted:
        shown, wanted = f"{float(seen.value[at]):.7g}", f"{float(expected[at]):.7g}"
    return f"{name} at sigma = {float(reading.sigma[at]):.4g}: {shown} where {wanted} is right"


def largest_difference(seen: Measured, expected: Tensor) -> int:
    """Return the place of the largest relative difference; of several that are about as large, the largest value."""
    off = torch.where(agrees(seen, expected), 0, (seen.value - expected).abs())
    relative = off / expected.abs().clamp_min(1e-6)
    return int(torch.where(relative >= 0.9 * relative.max(), off, -1).argmax())


def _cleaned(value: Tensor) -> Tensor:
    """Return 0 for what is left of 0 because sigma_min is rounded to float32."""
    return torch.where(value.abs() < 1e-9, 0, value)
