"""The distribution of the intervals that a step draws, and their independence."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.audit.step.decode import DecodedStep
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.step.verdicts import note, result
from ict_ref.verify.checks.result import Result

FALSE_ALARM = 1e-7
"""The false alarm rate of a chi-square test; the tail of its approximation is inexact by less than a factor of 10."""
DEVIATES = 7.0
"""Standard deviations from which a test of a normal statistic fails; a right step does so once in 4e11 tests."""
LEAST = 30.0
"""Expected count from which an interval has a cell of its own."""


def check_intervals(steps: Sequence[DecodedStep], settings: Settings) -> Result:
    """Compare the drawn intervals with p(i) by chi-square tests, for each number of levels."""
    counts = _counts(steps)
    for n, count in counts.items():
        if _agrees(count, settings.pmf(n)):
            continue
        name, deviation = _name(counts, settings)
        where = "" if all(not _agrees(c, settings.pmf(m)) for m, c in counts.items()) else f"at N = {n}: "
        return result("p(i)", f"{where}{name or _frequencies(count, settings.pmf(n))}", deviation)
    return result("p(i)")


def _counts(steps: Iterable[DecodedStep]) -> dict[int, Tensor]:
    """Return how often each interval was drawn, by the number of levels."""
    counts: dict[int, Tensor] = {}
    for step in steps:
        if step.n is not None and step.lower is not None:
            zero = torch.zeros(step.n - 1, dtype=torch.float64)
            drawn = torch.bincount(step.lower.clamp_max(step.n - 2), minlength=step.n - 1)
            counts[step.n] = counts.get(step.n, zero) + drawn
    return counts


def _agrees(counts: Tensor, pmf: Tensor) -> bool:
    return chi_square_tail(counts, pmf) > FALSE_ALARM


def chi_square_tail(counts: Tensor, pmf: Tensor) -> float:
    """Return the probability of counts as far from N pmf as these, or farther. Rare neighbours are counted together."""
    cells = pooled(counts.sum() * pmf)
    expected = torch.zeros(int(cells[-1]) + 1, dtype=torch.float64).index_add_(0, cells, counts.sum() * pmf)
    found = torch.zeros_like(expected).index_add_(0, cells, counts.double())
    if len(expected) < 2:
        return 1.0
    statistic = ((found - expected) ** 2 / expected.clamp_min(1e-300)).sum()
    return float(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2, dtype=torch.float64), statistic / 2))


def pooled(expected: Tensor) -> Tensor:
    """Return the cell of each interval: neighbours share one until LEAST counts are expected in it."""
    cells, cell, mass = [], 0, 0.0
    rest = float(expected.sum())
    for one in expected.tolist():
        cells.append(cell)
        mass, rest = mass + one, rest - one
        if mass >= LEAST and rest >= LEAST:
            cell, mass = cell + 1, 0.0
    return torch.tensor(cells)


def _name(counts: dict[int, Tensor], settings: Settings) -> tuple[str, str | None]:
    """Return the distribution that explains all counts, and its known deviation; empty if there is none."""
    sign = replace(settings, p_mean=-settings.p_mean, method="ict")
    right = replace(settings, method="ict")
    known: dict[str, tuple[Callable[[int], Tensor], str | None]] = {
        "the intervals are drawn uniformly": (lambda n: formulas.uniform_pmf(settings.grid(n)), None),
        f"the intervals are drawn by p(i) with P_mean = {sign.p_mean:+g}": (sign.pmf, "MeanSign"),
        "the intervals are drawn by p(i) in reverse": (lambda n: right.pmf(n).flip(0), "MirroredPmf"),
        "the intervals are drawn by p(i) of iCT": (right.pmf, None),
        "the first interval is never drawn": (lambda n: _without(right.pmf(n), 0), None),
        "the last interval is never drawn": (lambda n: _without(right.pmf(n), -1), None),
        "the last interval has the probability of the last two": (lambda n: _moved(right.pmf(n)), None),
    }
    for name, (pmf, deviation) in known.items():
        if all(_agrees(count, pmf(n)) for n, count in counts.items()):
            return name, deviation
    fit = _fitted(counts, settings)
    if all(_agrees(count, fit.pmf(n)) for n, count in counts.items()):
        return f"the intervals are drawn by p(i) with P_mean = {fit.p_mean:.2f} and P_std = {fit.p_std:.2f}", None
    return "", None


def _without(pmf: Tensor, index: int) -> Tensor:
    kept = pmf.clone()
    kept[index] = 1e-12
    return kept / kept.sum()


def _moved(pmf: Tensor) -> Tensor:
    """Return the probabilities with that of the last interval at the one before it."""
    moved = pmf.clone()
    moved[-2] += moved[-1]
    moved[-1] = 1e-12
    return moved / moved.sum()


def _fitted(counts: dict[int, Tensor], settings: Settings) -> Settings:
    """Return the settings with the P_mean and P_std of the largest likelihood, to 0.02."""
    fit, width = replace(settings, method="ict"), 1.28
    while width > 0.01:
        tries = [
            replace(fit, p_mean=fit.p_mean + a * width, p_std=max(fit.p_std + b * width, 0.05))
            for a, b in product((-1, 0, 1), repeat=2)
        ]
        best = max(tries, key=lambda one: _likelihood(counts, one))
        width = width / 2 if best == fit else width
        fit = best
    return fit


def _likelihood(counts: dict[int, Tensor], settings: Settings) -> float:
    return sum(float((count * (settings.pmf(n) + 1e-300).log()).sum()) for n, count in counts.items())


def _frequencies(counts: Tensor, pmf: Tensor) -> str:
    """Return the text about the interval that differs most in standard deviations."""
    total = counts.sum()
    if len(pmf) > 20:
        cells = pooled(total * pmf)
        sums = [torch.zeros(int(cells[-1]) + 1, dtype=torch.float64).index_add_(0, cells, one) for one in (counts, pmf)]
        share, should = sums[0] / total, sums[1]
    else:
        share, should = counts / total, pmf
    worst = int(((share - should).abs() / should.clamp_min(1e-12).sqrt()).argmax())
    where = f"interval {worst + 1} of {len(pmf)}" if len(pmf) <= 20 else f"part {worst + 1} of {len(share)} of the intervals"
    return f"{where} is drawn with frequency {float(share[worst]):.4f}, should be {float(should[worst]):.4f}"


def check_independence(steps: Sequence[DecodedStep], settings: Settings) -> Result:
    """Check that the intervals of a batch, and of two steps, do not depend on each other."""
    grids = [step for step in steps if step.n is not None and step.lower is not None]
    scores = [_scores(step, settings) for step in grids]
    wrong = _repeated(grids) or (_alike(torch.stack(scores)) if scores else None)
    if wrong:
        return result("independent_intervals", wrong)
    even = _even(torch.stack(scores)) if scores else None
    return note("independent_intervals", even) if even else result("independent_intervals")


def _scores(step: DecodedStep, settings: Settings) -> Tensor:
    """Return the place of each interval in p(i), of mean 0 and variance 1 over the intervals."""
    pmf = settings.pmf(step.n or 2)
    middle = pmf.cumsum(0) - pmf / 2
    mean = (pmf * middle).sum()
    spread = (pmf * (middle - mean) ** 2).sum().sqrt().clamp_min(1e-9)
    lower = step.lower if step.lower is not None else torch.zeros(1, dtype=torch.int64)
    return (middle[lower.clamp_max(len(middle) - 1)] - mean) / spread


def _repeated(steps: Sequence[DecodedStep]) -> str | None:
    first: dict[tuple[int, ...], int] = {}
    for step in steps:
        key = (step.n or 0, *(step.lower.tolist() if step.lower is not None else ()))
        # Few levels leave few choices of all intervals.
        if key in first and len(set(key[1:])) > 1 and (step.n or 0) > 5:
            return f"steps {first[key]} and {step.seen.at} draw the same intervals"
        first[key] = step.seen.at
    return None


def _alike(scores: Tensor) -> str | None:
    """Return how the intervals of a batch depend on each other; `scores` has a row for each step."""
    count, batch = scores.shape
    scores = (scores - scores.mean()) / scores.std().clamp_min(1e-9)
    if bool((scores == scores[:, :1]).all()):
        return "all examples of a batch have one interval"
    tests = {
        "the intervals of neighbouring examples depend on each other": (scores[:, 1:] * scores[:, :-1]).mean(1),
        "the intervals of the two halves of a batch depend on each other": (
            scores[:, : batch // 2] * scores[:, batch // 2 : batch // 2 * 2]
        ).mean(1),
        "the intervals of a batch are in order": (scores * _line(batch)).mean(1),
    }
    for text, statistic in tests.items():
        if abs(float(statistic.mean())) > DEVIATES * float(statistic.std()) / math.sqrt(count) + 1e-9:
            return text
    spread = float(scores.mean(1).square().mean()) * batch
    # The mean of `count` squares of nearly normal means.
    if spread > 1 + 8 * math.sqrt(2 / count) + 8 / count:
        return f"the intervals of a batch are alike: the variance of their mean is {spread:.3g} times that of independent ones"
    return None


def _line(batch: int) -> Tensor:
    line = torch.arange(batch, dtype=torch.float64)
    return (line - line.mean()) / line.std()


def _even(scores: Tensor) -> str | None:
    count, batch = scores.shape
    spread = float((scores.mean(1) - scores.mean()).square().mean()) * batch
    if spread < 1 - 8 * math.sqrt(2 / count):
        return (
            f"the intervals of a batch are spread evenly: the variance of their mean is {spread:.3g} times that of "
            "independent ones"
        )
    return None
