"""The known deviations that explain the wrong coefficients of a model, and their constants."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from ict_ref.verify.audit.model.coefficients import Measured, Reading, Settings, all_agree, right


@dataclass(frozen=True)
class Explanation:
    """The deviations that explain a wrong coefficient, each with its constant in words; () if they are not known."""

    names: tuple[str, ...] = ()
    text: str = ""


def explained(reading: Reading, settings: Settings) -> dict[str, Explanation]:
    """Return the explanation of each coefficient that is wrong."""
    wrong = {
        name: seen for name, seen in reading.found.items() if not all_agree(seen, right(name, settings)(reading.sigma))
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
    return short if abs(short - value) < 1e-4 * abs(value) else value


def _explain_c_in(reading: Reading, settings: Settings, data: tuple[float, ...]) -> Explanation | None:
    seen, sigma = reading.found["c_in"], reading.sigma
    forms = [("NoInputScaling", "", torch.ones_like(sigma))]
    forms += [("SquaredCIn", "", 1 / (sigma**2 + settings.sigma_data**2))]
    forms += [("OtherSigmaData", f"sigma_data = {d:.4g}", (sigma**2 + d**2).rsqrt()) for d in data[1:]]
    for name, text, expected in forms:
        if all_agree(seen, expected):
            return Explanation((name,), text)
    return _constant(seen, right("c_in", settings)(sigma))


def _explain_c_noise(reading: Reading, _settings: Settings, _data: tuple[float, ...]) -> Explanation | None:
    seen, sigma = reading.found["c_noise"], reading.sigma
    forms = {"RawSigmaNoise": sigma, "ScaledNoise": 250 * sigma.log(), "LogNoise": sigma.log()}
    for name, expected in forms.items():
        if all_agree(seen, expected):
            return Explanation((name,))
    return _constant(seen, sigma.log() / 4)


def _constant(seen: Measured, expected: Tensor) -> Explanation | None:
    """Return the constant factor of a coefficient as an explanation without a name, if there is one."""
    big = expected.abs() > 1e-6
    ratio = float((seen.value[big] / expected[big]).median())
    factor = _short(ratio)
    return (
        Explanation((), f"{factor:.4g} times the right value everywhere")
        if all_agree(seen, factor * expected)
        else None
    )


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
        if all_agree(seen, d * whole):
            return Explanation((*names, "HalfCOut"), text)
        if "SigmaInCOut" in names and all_agree(seen, whole / d):
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
    if all_agree(seen, expected):
        return Explanation(names, text)
    switched = torch.where(sigma == sigma.min(), _at_boundary(seen), expected)
    has_jump = float(sigma.min()) <= settings.sigma_min * (1 + 1e-6) and all_agree(seen, switched)
    return Explanation((*names, "SwitchedBoundary"), text) if names and has_jump else None


def _at_boundary(seen: Measured) -> Tensor:
    """Return 1 or 0, whichever the coefficient has at sigma_min; NaN if it has neither."""
    value = seen.value[0].round()
    return value if bool((seen.value[0] - value).abs() <= 1e-6) else value * torch.nan


def _rounded(name: str, reading: Reading, settings: Settings) -> Explanation:
    """Return the explanation that level or coefficient are rounded to 16 bits, if that gives all values."""
    seen, formula = reading.found[name], right(name, settings)
    for dtype in (torch.bfloat16, torch.float16):
        of_level = formula(reading.sigma.to(dtype).double())
        # A value that is computed in 16 bits has 16 bits, and an error of some of the last ones.
        has_16_bits = all_agree(seen, seen.value.to(dtype).double())
        near = Measured(seen.value, seen.error + 4 * torch.finfo(dtype).eps * seen.value.abs())
        if all_agree(seen, of_level) or (has_16_bits and all_agree(near, formula(reading.sigma))):
            return Explanation(("RoundedLevels",), f"like {str(dtype).removeprefix('torch.')}")
    return Explanation()
