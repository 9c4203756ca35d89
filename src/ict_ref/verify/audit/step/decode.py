"""Noise levels, noisy points and noise of an observed step, decoded from the inputs of its network.

A known deviation of c_noise, c_in or x + sigma z is recognised by the images: only the right combination of forms gives
back the images that the step was given. What the step does is then decoded with these forms.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TypeAlias

import torch
from torch import Tensor

from ict_ref.verify.audit.step.grid import find_n
from ict_ref.verify.audit.step.network_spy import column
from ict_ref.verify.audit.step.observe import ObservedStep
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.step.verdicts import result
from ict_ref.verify.checks.result import Result

CLOSE = 0.02
"""Relative error of the images up to which a combination of forms is right; rounding of float32 gives 0.002."""
UNIT = 0.2
"""Largest deviation of the noise's variance from 1, where the variance alone identifies a form."""


@dataclass(frozen=True)
class NoiseForm:
    """A form of c_noise."""

    text: str
    inverse: Callable[[Tensor], Tensor]
    deviation: str | None = None


@dataclass(frozen=True)
class InputForm:
    """A form of c_in."""

    text: str
    factor: Callable[[Tensor, Settings], Tensor]
    deviation: str | None = None


def _scaled(scale: float, c: Tensor) -> Tensor:
    return (c / scale).exp()


RIGHT_NOISE = NoiseForm("log(sigma) / 4", partial(_scaled, 0.25))
NOISE_FORMS = (
    RIGHT_NOISE,
    NoiseForm("sigma", lambda c: c, "RawSigmaNoise"),
    NoiseForm("1000 log(sigma) / 4", partial(_scaled, 250.0), "ScaledNoise"),
    NoiseForm("log(sigma)", partial(_scaled, 1.0)),
    NoiseForm("1000 log(sigma)", partial(_scaled, 1000.0)),
    NoiseForm("log(sigma) / 2", partial(_scaled, 0.5)),
    NoiseForm("log(sigma) / 8", partial(_scaled, 0.125)),
    NoiseForm("log10(sigma)", lambda c: 10**c),
    NoiseForm("log10(sigma) / 4", lambda c: 10 ** (4 * c)),
    NoiseForm("log2(sigma)", lambda c: 2**c),
    NoiseForm("log2(sigma) / 4", lambda c: 2 ** (4 * c)),
    NoiseForm("1000 sigma", lambda c: c / 1000),
    NoiseForm("log(1 + sigma)", torch.expm1),
    NoiseForm("sigma^2", torch.sqrt),
    NoiseForm("arctan(sigma / sigma_data)", lambda c: 0.5 * c.tan()),
)
RIGHT_INPUT = InputForm("c_in", lambda s, settings: (s**2 + settings.sigma_data**2).rsqrt())
INPUT_FORMS = (
    RIGHT_INPUT,
    InputForm("1", lambda s, _: torch.ones_like(s), "NoInputScaling"),
    InputForm("1 / (sigma^2 + sigma_data^2)", lambda s, settings: 1 / (s**2 + settings.sigma_data**2), "SquaredCIn"),
    InputForm("1 / sqrt(sigma^2 + 1)", lambda s, _: (s**2 + 1).rsqrt()),
    InputForm("1 / (sigma + sigma_data)", lambda s, settings: 1 / (s + settings.sigma_data)),
    InputForm(
        "1 / sqrt((sigma - sigma_min)^2 + sigma_data^2)",
        lambda s, settings: ((s - settings.sigma_min) ** 2 + settings.sigma_data**2).rsqrt(),
    ),
    InputForm(
        "sigma_data / sqrt(sigma^2 + sigma_data^2)",
        lambda s, settings: settings.sigma_data * (s**2 + settings.sigma_data**2).rsqrt(),
    ),
)


@dataclass(frozen=True)
class DecodedStep:
    """A step with its levels, noisy points and noise."""

    seen: ObservedStep
    high: Tensor
    low: Tensor
    x_high: Tensor
    """The noisy image at the larger level."""
    x_low: Tensor
    images: Tensor
    """The images in the order of the examples, flipped where the step flips them."""
    z: Tensor
    """Noise of the point at the larger level."""
    n: int | None = None
    """Number of levels of the grid; None if the levels are not those of a grid."""
    upper: Tensor | None = None
    """Indices of the levels in the grid."""
    lower: Tensor | None = None
    grid: Tensor | None = None


Path: TypeAlias = Callable[[DecodedStep], tuple[float, Tensor]]
"""Error of a form of the noisy points, and the noise that it implies."""


@dataclass(frozen=True)
class PathForm:
    """A form of the two noisy points."""

    text: str
    of: Path
    deviation: str | None = None


def _relative(error: Tensor, of: Tensor) -> float:
    """Return the median over the examples of a relative error."""
    return float((error.flatten(1).norm(dim=1) / of.flatten(1).norm(dim=1)).nan_to_num(1e9).median())


def _one_path(step: DecodedStep) -> tuple[float, Tensor]:
    error = _relative(_clean(step) - step.images, step.images)
    return error, (step.x_high - step.images) / column(step.high, step.x_high)


def _clean(step: DecodedStep) -> Tensor:
    """Return the image of which both points are a sum with one noise."""
    high, low = column(step.high, step.x_high), column(step.low, step.x_low)
    return (high * step.x_low - low * step.x_high) / (high - low)


def _same_point(level: str, step: DecodedStep) -> tuple[float, Tensor]:
    """Return the error of the assumption that both points are the one at the higher, or lower, level."""
    sigma = column(step.high if level == "high" else step.low, step.x_low)
    return _relative(step.x_high - step.x_low, step.x_low), (step.x_low - step.images) / sigma


def _multiplied(step: DecodedStep) -> tuple[float, Tensor]:
    upper, lower = step.x_high / column(step.high, step.x_high), step.x_low / column(step.low, step.x_low)
    return _relative(upper - lower, upper), upper / step.images


def _independent(step: DecodedStep) -> tuple[float, Tensor]:
    z = (step.x_high - step.images) / column(step.high, step.x_high)
    other = (step.x_low - step.images) / column(step.low, step.x_low)
    return abs(float(other.square().mean()) - 1) / UNIT * CLOSE, z


RIGHT_PATH = PathForm("x + sigma z", _one_path)
PATH_FORMS = (
    RIGHT_PATH,
    PathForm("both inputs are x + sigma_{i+1} z", partial(_same_point, "high")),
    PathForm("both inputs are x + sigma_i z", partial(_same_point, "low"), "SameNoise"),
    PathForm("the inputs are x sigma z", _multiplied, "MultiplicativeNoise"),
    PathForm("student and teacher have different noise", _independent),
)


@dataclass(frozen=True)
class Forms:
    """The forms of c_noise, c_in and the noisy points of a step; None where they are unknown."""

    noise: NoiseForm | None
    input: InputForm | None
    path: PathForm | None
    settings: Settings
    grids: Settings
    """Settings of the grid that the step has."""
    flips: bool = False
    slope: float = 1.0
    shift: float = 0.0
    """The step's images are slope x + shift."""

    @property
    def decodes(self) -> bool:
        """Return whether points and noise can be decoded."""
        return self.noise is not None and self.input is not None and self.path is not None

    def levels(self, seen: ObservedStep) -> tuple[Tensor, Tensor]:
        """Return the levels of the two points of each example."""
        if self.noise is None:
            raise ValueError("forms: expected a known c_noise, got none. Check `noise` first.")
        return self.noise.inverse(seen.upper.noise), self.noise.inverse(seen.lower.noise)

    def decoded(self, seen: ObservedStep, n: int | None = None) -> DecodedStep:
        """Return the decoded step, with the grid of `n` levels if its levels are in it, else with that found."""
        high, low = self.levels(seen)
        images = self.slope * seen.x + self.shift
        step = _points(seen, high, low, images, self.input or RIGHT_INPUT, self.settings)
        if self.flips:
            step = replace(step, images=_matching(_clean(step), images))
        z = self.path.of(step)[1] if self.path else step.images
        return replace(self._in_grid(step, n), z=z)

    def _in_grid(self, step: DecodedStep, hint: int | None) -> DecodedStep:
        if self.grids.method == "gridless":
            return step
        n = find_n(step.high, step.low, self.grids, hint)
        if n is None:
            return step
        grid = self.grids.grid(n)
        return replace(step, n=n, upper=nearest(grid, step.high), lower=nearest(grid, step.low), grid=grid)


def nearest(grid: Tensor, values: Tensor) -> Tensor:
    """Return the index of the level of the grid that is nearest to each value."""
    middles = (grid[1:] + grid[:-1]) / 2
    return torch.searchsorted(middles, values.contiguous())


def _points(
    seen: ObservedStep, high: Tensor, low: Tensor, images: Tensor, form: InputForm, settings: Settings
) -> DecodedStep:
    x_high = seen.upper.x / column(form.factor(high, settings), seen.x)
    x_low = seen.lower.x / column(form.factor(low, settings), seen.x)
    return DecodedStep(seen, high, low, x_high, x_low, images, images)


def _matching(found: Tensor, images: Tensor) -> Tensor:
    """Return for each decoded image the given one, or its mirror image, that is nearest to it."""
    mirrored = images.flip(-1) if images.ndim > 2 else images
    both = torch.cat([images, mirrored])
    near = torch.cdist(found.flatten(1).nan_to_num(1e9), both.flatten(1)).argmin(1)
    return both[near]


def find_forms(seen: Sequence[ObservedStep], settings: Settings) -> Forms:
    """Return the forms that explain all of some observed steps; unknown ones are None."""
    pairs = [*product(NOISE_FORMS, INPUT_FORMS)]
    for path in PATH_FORMS:
        if path is PATH_FORMS[1] and (changed := _changed_images(seen, settings, pairs)):
            return changed
        fits = [(fit, noise, input_) for noise, input_ in pairs
                if (fit := _fit(path, noise, input_, seen, settings)) is not None]  # fmt: skip
        if fits:
            _, noise, input_ = min(fits, key=lambda one: one[0])
            return _with_flips(Forms(noise, input_, path, settings, settings), seen)
    return Forms(_by_grid(seen, settings), None, None, settings, settings)


def _fit(
    path: PathForm, noise: NoiseForm, input_: InputForm, seen: Sequence[ObservedStep], settings: Settings
) -> tuple[float, float] | None:
    """Return how badly some forms explain the steps, less being better; None if they do not.

    The noise's variance comes first: without c_in a factor of all levels does not change the points.
    """
    errors, spreads = [], []
    for one in seen:
        high, low = noise.inverse(one.upper.noise), noise.inverse(one.lower.noise)
        if not bool(((high > low) & (low >= 0) & (high < 1e4)).all()):
            return None
        step = _points(one, high, low, one.x, input_, settings)
        if path is RIGHT_PATH:
            step = replace(step, images=_matching(_clean(step), one.x))
        error, z = path.of(step)
        if not error < CLOSE:
            return None
        errors.append(math.log(error + 1e-12))
        spreads.append(max(abs(float(z.square().mean()) - 1), 2 * abs(float((z * step.images).mean()))))
    spread = max(spreads)
    if spread >= UNIT and path is not RIGHT_PATH:
        return None
    return (0.0 if spread < UNIT else round(math.log(spread), 1)), sum(errors)


def _with_flips(forms: Forms, seen: Sequence[ObservedStep]) -> Forms:
    """Return the forms with images in other orders or mirrored, if the step changes them so."""
    if forms.path is not RIGHT_PATH:
        return forms
    plain = [_one_path(forms.decoded(one))[0] for one in seen]
    rows = [_clean(forms.decoded(one)) - one.x for one in seen]
    worst = max(float(row.abs().flatten(1).mean(1).max()) for row in rows)
    return replace(forms, flips=max(plain) > CLOSE or worst > 0.1)


def _changed_images(
    seen: Sequence[ObservedStep], settings: Settings, pairs: Sequence[tuple[NoiseForm, InputForm]]
) -> Forms | None:
    """Return the forms under which the step's images are a x + b, if there are such."""
    for noise, input_ in pairs:
        found = [*_slopes(seen, settings, noise, input_)]
        if len(found) == len(seen) and max(map(max, found)) - min(map(min, found)) < 1e4:
            slope, shift = found[0]
            same = all(abs(a - slope) < 0.01 and abs(b - shift) < 0.01 for a, b in found)
            if same:
                return Forms(noise, input_, RIGHT_PATH, settings, settings, slope=slope, shift=shift)
    return None


def _slopes(
    seen: Sequence[ObservedStep], settings: Settings, noise: NoiseForm, input_: InputForm
) -> Iterator[tuple[float, float]]:
    """Yield slope and shift of the images of each step, where the images that it used are a line of those given."""
    for one in seen:
        high, low = noise.inverse(one.upper.noise), noise.inverse(one.lower.noise)
        if not bool(((high > low) & (low >= 0) & (high < 1e4)).all()):
            return
        clean = _clean(_points(one, high, low, one.x, input_, settings)).flatten()
        x = one.x.flatten()
        slope = float(((x - x.mean()) * clean).mean() / x.var(correction=0))
        shift = float(clean.mean()) - slope * float(x.mean())
        rest = clean - slope * x - shift
        if abs(slope) > 0.01 and float(rest.square().mean().sqrt()) < CLOSE * abs(slope):
            yield slope, shift


def _by_grid(seen: Sequence[ObservedStep], settings: Settings) -> NoiseForm | None:
    """Return the form of c_noise under which all levels are neighbours on a grid."""
    if settings.method == "gridless":
        return None
    for noise in NOISE_FORMS:
        levels = [(noise.inverse(one.upper.noise), noise.inverse(one.lower.noise)) for one in seen]
        if all(find_n(high, low, settings) is not None for high, low in levels):
            return noise
    return None


def check_points(forms: Forms, seen: ObservedStep) -> Iterator[Result]:
    """Compare c_in and the two noisy points with those of Eq. (5); `seen` is a step with few levels."""
    if forms.input is None or forms.path is None:
        factor = _solved_factor(forms, seen)
        text = "the two inputs are not c_in (x + sigma z) of the given x and of one z"
        yield result("c_in", factor) if factor else result("one_path", text)
        return
    wrong = f"c_in is {forms.input.text}, should be 1 / sqrt(sigma^2 + sigma_data^2)"
    yield result("c_in", None if forms.input is RIGHT_INPUT else wrong, forms.input.deviation)
    path, changed = forms.path, (forms.slope, forms.shift) != (1.0, 0.0)
    if changed:
        yield result("one_path", f"the images are {forms.slope:.3g} x + {forms.shift:.3g} of those given, should be x")
    else:
        yield result("one_path", None if path is RIGHT_PATH else path.text, path.deviation)


def _solved_factor(forms: Forms, seen: ObservedStep) -> str | None:
    """Return the text about the wrong factor of the inputs, if the inputs are a factor times x + sigma z.

    One x and one z in both points leave two unknown factors in as many equations as an example has values.
    """
    high, low = forms.levels(seen)
    ratio = (high / low)[:, None]
    columns = torch.stack([seen.upper.x.flatten(1), -ratio * seen.lower.x.flatten(1)], 2)
    target = (seen.x.flatten(1) * (1 - ratio))[..., None]
    solution = torch.linalg.lstsq(columns, target).solution
    error = (columns @ solution - target).norm(dim=(1, 2)) / target.norm(dim=(1, 2))
    if not bool((error < CLOSE).all()):
        return None
    sigma, factor = torch.cat([high, low]), 1 / solution[:, :, 0].T.flatten()
    right = RIGHT_INPUT.factor(sigma, forms.settings)
    worst = int((factor / right).abs().log().abs().argmax())
    return (
        f"at sigma = {float(sigma[worst]):.4g} the factor of x + sigma z is {float(factor[worst]):.4g}, "
        f"should be c_in = {float(right[worst]):.4g}"
    )
