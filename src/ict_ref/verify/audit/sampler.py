"""An audit of a sampler that draws its own noise: a callable sample(f, shape) -> x.

f returns known images whatever its arguments are, and records them. So the levels are f's second arguments. The noise
of a step is f's input minus f's value before, and its variance should be sigma^2 - sigma_min^2. The last check compares
the samples with f's last value.
"""

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations, pairwise

import torch
from torch import Tensor, nn

from ict_ref.verify.audit.options import SamplerOptions
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result
from ict_ref.verify.target.load import TargetError

SOURCE = "iCT, Section 2; CM, Algorithm 1"
# A correct sampler fails one of the statistical tests in less than one of 100 000 audits: each statistic is compared
# with seven of its standard deviations.
SLACK = 7.0
# Variances that differ by this many standard errors are distinguishable.
APART = 2 * SLACK
OTHER_SEED = 0x9E3779B9
"""Changes the seed of the images, so that they are independent of noise with the seed of the options."""
INSIDE, OUTSIDE = 0.5, 3.0
"""Largest absolute value of the known images, within the range of images and outside it."""


@dataclass(frozen=True)
class Call:
    """One call of f: its arguments and its value, in float64."""

    x: Tensor
    sigma: Tensor
    value: Tensor
    training: bool

    @property
    def level(self) -> float:
        """The noise level of the first image."""
        return float(self.sigma[0])


class SamplerSpy(nn.Module):
    """f(x, sigma) that returns known images, one batch for each call, and records its arguments."""

    def __init__(self, size: float, seed: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))  # samplers look at a parameter for device and dtype
        self.size, self.generator = size, torch.Generator().manual_seed(seed)
        self.calls: list[Call] = []

    def forward(self, x: Tensor, sigma: object, *_others: object, **_named: object) -> Tensor:
        """Return images that are uniform in [-size, size]."""
        level = torch.as_tensor(sigma).detach().double().cpu().reshape(-1)
        value = self.size * (2 * torch.rand(x.shape, generator=self.generator) - 1).to(x)
        self.calls.append(Call(x.detach().double().cpu(), level, value.double().cpu(), self.training))
        return value


@dataclass(frozen=True)
class Noise:
    """The noise in the input of one call of f."""

    call: Call
    value: Tensor
    """The noise itself: f's input minus f's value before, if there was one."""
    before: Call | None

    @property
    def name(self) -> str:
        """The name of the noise in messages."""
        return f"the noise before f(x, {self.call.level:.4g})"

    @property
    def variance(self) -> float:
        """The variance of the part that does not depend on f's value before."""
        if self.before is None:
            return float(self.value.square().mean())
        value = self.before.value
        slope = float((self.value * value).sum() / value.square().sum())
        return float((self.value - slope * value).square().mean())


@dataclass(frozen=True)
class Run:
    """The calls of f in one run of a sampler, and its samples."""

    calls: list[Call]
    samples: Tensor
    given: tuple[float, ...] = ()
    """Levels that the sampler got; empty for its own."""

    @property
    def added(self) -> list[Noise]:
        """The noise that was added before each call but the first."""
        return [Noise(after, after.x - before.value, before) for before, after in pairwise(self.calls)]


def audit(target: Callable[..., object], options: SamplerOptions) -> list[Result]:
    """Return the findings about a sampler.

    Raises:
        TargetError: The sampler raised an exception, or did not return one batch of images.
    """
    given = _levels_to_pass(target, options)
    with torch.random.fork_rng(), torch.no_grad():
        runs = [run(target, options, levels, INSIDE) for levels in given]
        if not runs[0].calls:
            return [not_checked("sampler:calls", SOURCE, "the sampler did not call f")]
        loud = run(target, options, given[0], OUTSIDE)
    return list(_findings(runs, loud, options))


def _levels_to_pass(target: Callable[..., object], options: SamplerOptions) -> list[tuple[float, ...]]:
    """Return the levels of each run; () are those of the sampler itself.

    Raises:
        TargetError: There are levels to pass, and the sampler does not have a parameter for them.
    """
    try:
        parameter = inspect.signature(target).parameters.get("sigmas")
    except (TypeError, ValueError):
        parameter = None
    if parameter is None:
        if options.sigmas:
            raise TargetError("--sigmas: expected a sampler with a parameter sigmas, got another. Leave --sigmas out.")
        return [()]
    middle = math.sqrt(options.sigma_min * options.sigma_max)
    given = options.sigmas or (options.sigma_max, middle, 1.5 * options.sigma_min)
    has_own = parameter.default is not inspect.Parameter.empty and not options.sigmas
    return [(), given] if has_own else [given]


def run(target: Callable[..., object], options: SamplerOptions, given: tuple[float, ...], size: float) -> Run:
    """Return the record of one run of the sampler, whose f returns images of a size.

    Raises:
        TargetError: The sampler raised an exception, or did not return one batch of images.
    """
    torch.manual_seed(options.seed)
    shape = (options.batch, *options.event)
    spy = SamplerSpy(size, OTHER_SEED ^ options.seed).eval()
    named = {"sigmas": torch.tensor(given, dtype=torch.float64)} if given else {}
    try:
        samples = target(spy, shape, **named)
    except (Exception, SystemExit) as error:
        form = f"sample(f, shape{', sigmas' if given else ''}) -> x"
        text = " ".join(str(error).split())[:200] or "no message"
        raise TargetError(
            f"TARGET: expected {form}, got {type(error).__name__}: {text}. Adapt its arguments."
        ) from error
    _refuse_other_shapes(samples, spy.calls, shape)
    return Run(spy.calls, torch.as_tensor(samples).detach().double().cpu(), given)


def _refuse_other_shapes(samples: object, calls: list[Call], shape: tuple[int, ...]) -> None:
    """Reject a sampler whose samples, or whose calls of f, are not one batch.

    Raises:
        TargetError: Always then.
    """
    if not isinstance(samples, Tensor) or samples.shape != shape:
        got = list(samples.shape) if isinstance(samples, Tensor) else type(samples).__name__
        raise TargetError(f"TARGET: expected a tensor of shape {list(shape)}, got {got}. Return the samples.")
    for call in calls:
        if call.x.shape != shape or call.sigma.numel() not in (1, shape[0]):
            got = f"x of shape {list(call.x.shape)} and {call.sigma.numel()} levels"
            raise TargetError(f"TARGET: expected f(x, sigma) for x of shape {list(shape)}, got {got}. Set --batch.")


def _findings(runs: list[Run], loud: Run, options: SamplerOptions) -> Iterator[Result]:
    first = runs[0]
    yield _called(runs)
    yield verdict("sampler:levels", SOURCE, next(filter(None, (_wrong_levels(one, options) for one in runs)), None))
    yield _evaluates(first)
    yield _clipping(loud)
    infinite = [call for one in runs for call in one.calls if not bool(call.x.isfinite().all())]
    text = f"x is not finite at sigma = {infinite[0].level:.8g}" if infinite else None
    yield verdict("sampler:finite", SOURCE, text)
    if infinite:
        return
    dependence = next(chain.from_iterable(map(_dependences, runs)), None)
    # Dependent images are at worst all the same.
    count = first.samples.numel() // (1 if dependence is None else options.batch)
    yield _first_input(first, count)
    added = [noise for one in runs for noise in one.added if noise.call.level >= options.sigma_min * (1 - 1e-5)]
    yield from _added_noise(added, options.sigma_min, count)
    yield verdict("sampler:independence", SOURCE, dependence)
    yield from _samples(first)


def _called(runs: list[Run]) -> Result:
    """Return the note about the calls of f."""
    texts = []
    for one in runs:
        count = "1 call" if len(one.calls) == 1 else f"{len(one.calls)} calls"
        levels = _shown([call.level for call in one.calls])
        texts.append(f"{count} of f at sigma = {levels}{' as given' if one.given else ''}")
    return observation("sampler:calls", "; ".join(texts))


def _shown(levels: Sequence[float]) -> str:
    return ", ".join(f"{level:.6g}" for level in levels[:8]) + (", ..." if len(levels) > 8 else "")


def _wrong_levels(one: Run, options: SamplerOptions) -> str | None:
    """Return how levels differ from those of the paper, or from the given ones: first sigma_max, then descending."""
    levels = [call.level for call in one.calls]
    if any(bool((call.sigma != call.sigma[0]).any()) for call in one.calls):
        return "the images of a batch have different levels"
    if one.given:
        same = len(levels) == len(one.given) and all(map(_is_close, levels, one.given))
        return None if same else f"the levels are {_shown(levels)}, should be the given {_shown(one.given)}"
    if not _is_close(levels[0], options.sigma_max):
        return f"the first level is {levels[0]:.6g}, should be sigma_max = {options.sigma_max:g}"
    for before, after in pairwise(levels):
        if after >= before:
            return f"the level {before:.6g} is followed by {after:.6g}, should descend"
        if after < options.sigma_min * (1 - 1e-5):
            return f"f is called at sigma = {after:.6g}, below sigma_min = {options.sigma_min:g}"
    return None


def _is_close(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-5)


def _evaluates(one: Run) -> Result:
    """Return whether f stays in evaluation mode."""
    wrong = "f is in training mode: dropout would be active" if any(call.training for call in one.calls) else None
    return verdict("sampler:evaluation_mode", SOURCE, wrong)


def _clipping(loud: Run) -> Result:
    """Return the note that f's values are clipped, which the paper leaves open, or a pass."""
    where = ["before noise is added"] if any(map(_is_clipped, loud.added)) else []
    beyond = loud.samples[loud.calls[-1].value > 1]
    where += ["at the end"] if beyond.numel() > 1 and float(beyond.max() - beyond.min()) <= 1e-5 else []
    if not where:
        return verdict("sampler:clipping", SOURCE, None)
    text = f"f's values are clipped {' and '.join(where)}, as in both codes of the authors; the paper leaves it open"
    return observation("sampler:clipping", text, deviation="ClampedSamples")


def _is_clipped(noise: Noise) -> bool:
    """Return whether large values of f fall before noise is added: from 2.5 to 1 on average if they are clipped."""
    assert noise.before is not None  # noqa: S101 - noise that is added has a call before
    large = noise.value[noise.before.value > 2]
    moved = float(large.mean()) if large.numel() > 1 else 0.0
    return moved < -0.75 and moved < -SLACK * float(large.std()) / math.sqrt(large.numel())


def _first_input(one: Run, count: int) -> Result:
    """Return whether the first input is sigma_max z, with `count` independent values."""
    call = one.calls[0]
    std, mean, error = float(call.x.square().mean().sqrt()), float(call.x.mean()), 1 / math.sqrt(count)
    if abs(std / call.level - 1) <= SLACK * error and abs(mean) <= SLACK * call.level * error:
        return verdict("sampler:first_input", SOURCE, None)
    text = f"the first input has standard deviation {std:.4g} and mean {mean:.2g}, should be {call.level:.4g} and 0"
    deviation = "UnscaledFirstNoise" if abs(std - 1) <= SLACK * error else None
    return verdict("sampler:first_input", SOURCE, text, deviation=deviation)


def _added_noise(noises: list[Noise], sigma_min: float, count: int) -> Iterator[Result]:
    """Yield whether noise has variance sigma^2 - sigma_min^2, and if sigma^2 would be distinguishable from that."""
    name, error = "sampler:added_noise", math.sqrt(2 / count)
    if not noises:
        yield not_checked(name, SOURCE, "f is called once, so that noise is not added")
        return
    wrong = next((one for one in noises if not _has_variance(one, one.call.level**2 - sigma_min**2, error)), None)
    if wrong is None:
        yield verdict(name, SOURCE, None)
        if not any(sigma_min**2 > APART * error * one.call.level**2 for one in noises):
            text = "at these levels the noise does not show whether its factor is sigma or the root"
            yield not_checked("sampler:root", SOURCE, f"{text}; a parameter sigmas lets the audit choose levels")
        return
    level, std = wrong.call.level, math.sqrt(wrong.variance)
    right = math.sqrt(max(level**2 - sigma_min**2, 0))
    text = f"{wrong.name} has standard deviation {std:.4g} where {right:.4g} is right"
    yield verdict(name, SOURCE, text, deviation="SigmaNotRooted" if _has_variance(wrong, level**2, error) else None)


def _has_variance(noise: Noise, expected: float, error: float) -> bool:
    """Return whether noise has a variance, up to chance and the rounding of images and level to float32."""
    rounding = (INSIDE * torch.finfo(torch.float32).eps) ** 2 + 1e-6 * noise.call.level**2
    return abs(noise.variance - expected) <= SLACK * error * expected + rounding


def _dependences(one: Run) -> Iterator[str]:
    """Yield on what noise depends: other calls, images, pixels and values; and laws that are not normal."""
    first = Noise(one.calls[0], one.calls[0].x, None)
    noises = [noise for noise in (first, *one.added) if float(noise.value.abs().max()) > 1e-6]
    for noise, other in combinations(noises, 2):
        if _are_correlated(noise.value, other.value):
            yield f"{noise.name} and the noise before f(x, {other.call.level:.4g}) are dependent"
    for noise in noises:
        if noise.before is not None and _are_correlated(noise.value, noise.before.value):
            yield f"{noise.name} depends on f's value before"
        yield from (f"{noise.name} {text}" for text in _within(noise.value))


def _within(z: Tensor) -> Iterator[str]:
    """Yield dependences between the images and between the pixels of one call, and moments that are not normal."""
    names = ["images", *(("channels", "rows", "columns") if z.ndim == 4 else ["values"] * (z.ndim - 1))]
    for axis, name in enumerate(names):
        count = z.shape[axis]
        for shift in {1, count // 2} & set(range(1, count)):
            if _are_correlated(z.narrow(axis, 0, count - shift), z.narrow(axis, shift, count - shift)):
                yield f"is dependent between {name} that are {shift} apart"
    std, error = float(z.square().mean().sqrt()), 1 / math.sqrt(z.numel())
    mean, kurtosis = float(z.mean()) / std, float((z**4).mean()) / std**4
    if abs(kurtosis - 3) > SLACK * math.sqrt(24) * error:
        yield f"has kurtosis {kurtosis:.3g}, should be 3: it is not normal"
    if abs(mean) > SLACK * error:
        yield f"has a mean of {mean:.2g} standard deviations, should be 0"


def _are_correlated(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors have a correlation that chance does not explain."""
    product, squares = float((one * other).sum()), float(one.square().sum() * other.square().sum())
    return abs(product) > SLACK / math.sqrt(one.numel()) * math.sqrt(squares)


def _samples(one: Run) -> Iterator[Result]:
    """Yield whether the samples are f's last value, perhaps in another range."""
    name, last, samples = "sampler:final_noise", one.calls[-1].value, one.samples
    rest = samples - last
    slope = float((samples * last).mean() - samples.mean() * last.mean()) / float(last.var(correction=0))
    offset = float(samples.mean()) - slope * float(last.mean())
    left = samples - slope * last - offset
    if float(rest.abs().max()) <= 1e-5:
        yield verdict(name, SOURCE, None)
    elif float(left.abs().max()) <= abs(slope) / 127:
        # 8 bits for a range of 2 are exact to half of 1 / 127.5.
        yield verdict(name, SOURCE, None)
        yield observation("sampler:range", f"samples are {slope:.4g} times f's last value plus {offset:.4g}")
    elif not _are_correlated(rest - rest.mean(), last):
        text = f"noise of standard deviation {float(rest.std()):.4g} is added after the last call of f"
        yield verdict(name, SOURCE, text, deviation="ResidualNoise")
    else:
        text = f"samples differ from f's last value by up to {float(rest.abs().max()):.3g}"
        yield verdict(name, SOURCE, text)
