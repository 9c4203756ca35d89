"""The coefficients c_skip, c_out, c_in and c_noise of a model: measured, compared and explained by known deviations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.audit.free_form_network import Answered

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


@dataclass(frozen=True)
class Explanation:
    """The deviations that explain a wrong coefficient, each with its constant in words; () if they are not known."""

    names: tuple[str, ...] = ()
    text: str = ""


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


# Comparison and explanation.


def agrees(seen: Measured, expected: Tensor) -> Tensor:
    """Return at which levels a coefficient is the expected one."""
    close: Tensor = (seen.value - expected).abs() <= RTOL * expected.abs() + seen.error
    return close


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


def explained(reading: Reading, settings: Settings) -> dict[str, Explanation]:
    """Return the explanation of each coefficient that is wrong."""
    wrong = {
        name: seen
        for name, seen in reading.found.items()
        if not bool(agrees(seen, right(name, settings)(reading.sigma)).all())
    }
    data = _other_data(reading, settings)
    explain = {"c_in": _explain_c_in, "c_noise": _explain_c_noise, "c_skip": _explain_skip, "c_out": _explain_out}
    found = {name: explain[name](reading, settings, data) or _rounded(name, reading, settings) for name in wrong}
    return _joint(found)


def _joint(found: dict[str, Explanation]) -> dict[str, Explanation]:
    """Return the explanations, with one name for a deviation that c_skip and c_out share."""
    skip, out = (found.get(name, Explanation()) for name in ("c_skip", "c_out"))
    if "EdmSkip" not in skip.names:
        return found
    together = next((name for name in ("DiffusersScalings", "SigmaInCOut") if name in out.names), None)
    name = {"SigmaInCOut": "EdmCoefficients"}.get(together or "", together)
    if name is None:
        return found

    def renamed(one: Explanation) -> Explanation:
        return replace(one, names=tuple(name if old in ("EdmSkip", together) else old for old in one.names))

    return {**found, "c_skip": renamed(skip), "c_out": renamed(out)}


def _other_data(reading: Reading, settings: Settings) -> tuple[float, ...]:
    """Return values of sigma_data to try: those with which c_in or c_skip would be right at a middle level."""
    at = int((reading.sigma - settings.sigma_data / 2).abs().argmin())
    sigma, found = float(reading.sigma[at]), [settings.sigma_data]
    if "c_in" in reading.found:
        scale = float(reading.found["c_in"].value[at])
        found += [(scale**-2 - sigma**2) ** 0.5] if 0 < scale < 1 / sigma else []
    skip = float(reading.found["c_skip"].value[at])
    gap = sigma - settings.sigma_min
    for level in (gap, sigma) if 0 < skip < 1 else ():
        found.append(level * (skip / (1 - skip)) ** 0.5)
    return tuple(dict.fromkeys(_short(value) for value in found if 1e-3 < value < 1e3))


def _short(value: float) -> float:
    """Return a constant without the error of its measurement, if a number of three digits is close to it."""
    short = float(f"{value:.3g}")
    return short if abs(short - value) < 1e-3 * abs(value) else value


def _explain_c_in(reading: Reading, settings: Settings, data: tuple[float, ...]) -> Explanation | None:
    seen, sigma = reading.found["c_in"], reading.sigma
    forms = [("NoInputScaling", "", torch.ones_like(sigma))]
    forms += [("SquaredCIn", "", 1 / (sigma**2 + settings.sigma_data**2))]
    forms += [("OtherSigmaData", f"sigma_data = {d:.4g}", (sigma**2 + d**2).rsqrt()) for d in data[1:]]
    for name, text, expected in forms:
        if bool(agrees(seen, expected).all()):
            return Explanation((name,), text)
    return _constant(seen, right("c_in", settings)(sigma))


def _explain_c_noise(reading: Reading, _settings: Settings, _data: tuple[float, ...]) -> Explanation | None:
    seen, sigma = reading.found["c_noise"], reading.sigma
    forms = {"RawSigmaNoise": sigma, "ScaledNoise": 250 * sigma.log(), "LogNoise": sigma.log()}
    for name, expected in forms.items():
        if bool(agrees(seen, expected).all()):
            return Explanation((name,))
    return _constant(seen, sigma.log() / 4)


def _constant(seen: Measured, expected: Tensor) -> Explanation | None:
    """Return the constant factor of a coefficient as an explanation without a name, if there is one."""
    big = expected.abs() > 1e-6
    ratio = float((seen.value[big] / expected[big]).median())
    factor = _short(ratio)
    return Explanation((), f"{factor:.4g} times the right value everywhere") if _all(seen, factor * expected) else None


def _all(seen: Measured, expected: Tensor) -> bool:
    return bool(agrees(seen, expected).all())


def _explain_skip(reading: Reading, settings: Settings, data: tuple[float, ...]) -> Explanation | None:
    seen, sigma = reading.found["c_skip"], reading.sigma
    for names, text, m, d in _constants(reading, settings, data, "EdmSkip"):
        if found := _with_switch(seen, d**2 / ((sigma - m) ** 2 + d**2), sigma, settings, names, text):
            return found
    return _constant(seen, right("c_skip", settings)(sigma))


def _explain_out(reading: Reading, settings: Settings, data: tuple[float, ...]) -> Explanation | None:
    seen, sigma = reading.found["c_out"], reading.sigma
    for names, text, m, d in _constants(reading, settings, data, "SigmaInCOut"):
        whole = d * (sigma - m) / (sigma**2 + d**2).sqrt()
        if found := _with_switch(seen, whole, sigma, settings, names, text):
            return found
        if _all(seen, d * whole):
            return Explanation((*names, "HalfCOut"), text)
        if "SigmaInCOut" in names and _all(seen, whole / d):
            others = tuple(name for name in names if name != "SigmaInCOut")
            return Explanation(("DiffusersScalings", *others), text)
    return _constant(seen, right("c_out", settings)(sigma))


def _constants(
    reading: Reading, settings: Settings, data: tuple[float, ...], of_edm: str
) -> Iterator[tuple[tuple[str, ...], str, float, float]]:
    """Yield values of sigma_min and sigma_data to try, fewest deviations first, with names and texts."""
    minima = [settings.sigma_min, 0.0, *_other_minima(reading, data)]
    pairs = sorted(product(minima, data), key=lambda pair: (pair[0] != minima[0]) + (pair[1] != data[0]))
    for m, d in pairs:
        names, texts = [], []
        if m != settings.sigma_min:
            names.append("OtherSigmaMin" if m else of_edm)
            texts += [f"sigma_min = {m:.4g}"] if m else []
        if d != settings.sigma_data:
            names.append("OtherSigmaData")
            texts.append(f"sigma_data = {d:.4g}")
        yield tuple(names), ", ".join(texts), m, d


def _other_minima(reading: Reading, data: tuple[float, ...]) -> Iterator[float]:
    """Yield the level at which c_out would be 0, from its value at a level above sigma_min."""
    sigma, out = float(reading.sigma[2]), float(reading.found["c_out"].value[2])
    for d in data:
        m = sigma - out * (sigma**2 + d**2) ** 0.5 / d
        yield _short(m) if abs(m) > 1e-2 * float(reading.sigma[0]) else 0.0


def _with_switch(
    seen: Measured, expected: Tensor, sigma: Tensor, settings: Settings, names: tuple[str, ...], text: str
) -> Explanation | None:
    """Return the explanation if a formula has all values, or all but the right one at sigma_min."""
    if _all(seen, expected):
        return Explanation(names, text)
    switched = torch.where(sigma == sigma.min(), _at_boundary(seen), expected)
    has_jump = float(sigma.min()) <= settings.sigma_min * (1 + 1e-6) and _all(seen, switched)
    return Explanation((*names, "SwitchedBoundary"), text) if names and has_jump else None


def _at_boundary(seen: Measured) -> Tensor:
    """Return 1 or 0, whichever the coefficient has at sigma_min; NaN if it has neither."""
    value = seen.value[0].round()
    return value if bool((seen.value[0] - value).abs() <= 1e-6) else value * torch.nan


def _rounded(name: str, reading: Reading, settings: Settings) -> Explanation:
    """Return the explanation that level or coefficient are rounded to 16 bits, if that gives all values."""
    seen, formula = reading.found[name], right(name, settings)
    for dtype in (torch.bfloat16, torch.float16):
        text, eps = str(dtype).removeprefix("torch."), torch.finfo(dtype).eps
        of_level = formula(reading.sigma.to(dtype).double())
        of_value = formula(reading.sigma).to(dtype).double()
        if _all(seen, of_level) or _all(seen, of_value) or _all(seen, of_level.to(dtype).double()):
            return Explanation(("RoundedLevels",), f"like {text}")
        loose = Measured(seen.value, seen.error + 4 * eps * formula(reading.sigma).abs())
        if dtype == torch.float16 and _all(loose, formula(reading.sigma)):
            return Explanation(("RoundedLevels",), f"like {text}")
    return Explanation()
