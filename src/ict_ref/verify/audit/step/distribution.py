"""The distribution of the intervals that a step draws, and their independence."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
ENOUGH = 30
"""Number of steps with one number of levels from which their intervals are compared with each other."""
LEAST = 30.0
"""Expected count from which an interval has a cell of its own."""


def check_draws(steps: Sequence[DecodedStep], settings: Settings) -> Iterator[Result]:
    """Compare the drawn intervals with independent ones of p(i)."""
    found = check_independence(steps)
    if found.status != "fail":
        yield check_intervals(_counts(steps), settings)
    yield found


def check_intervals(counts: Mapping[int, Tensor], settings: Settings) -> Result:
    """Compare the numbers of draws of each interval with p(i), for each number of levels.

    A chi-square test finds any difference, and a score test a small one of P_mean and P_std.
    """
    wrong = [n for n, count in counts.items() if not _agrees(count, settings.pmf(n))]
    if not wrong and (settings.method == "ct" or _score_tail(counts, settings) > FALSE_ALARM):
        return result("p(i)")
    name, deviation = _name({n: counts[n] for n in wrong}, settings) if wrong else ("", None)
    name = name or _fit_text(counts, settings)
    where = f"at N = {wrong[0]}: " if 0 < len(wrong) < len(counts) else ""
    n = wrong[0] if wrong else max(counts)
    return result("p(i)", f"{where}{name or _frequencies(counts[n], settings.pmf(n))}", deviation)


def _score_tail(counts: Mapping[int, Tensor], settings: Settings) -> float:
    """Return the probability of a slope of the likelihood in P_mean and P_std as steep as this one, or steeper."""
    score, information = torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    for n, count in counts.items():
        slopes = []
        for name in ("p_mean", "p_std"):
            changed = [replace(settings, **{name: getattr(settings, name) + by}).pmf(n) for by in (1e-3, -1e-3)]
            slopes.append((changed[0].clamp_min(1e-300) / changed[1].clamp_min(1e-300)).log() / 2e-3)
        gradient = torch.stack(slopes)
        score += gradient @ count
        information += count.sum() * (gradient * settings.pmf(n)) @ gradient.T
    statistic = score @ torch.linalg.pinv(information) @ score
    return float(torch.exp(-statistic / 2))


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


def _name(counts: Mapping[int, Tensor], settings: Settings) -> tuple[str, str | None]:
    """Return the distribution that explains all counts, and its known deviation; empty if it is unknown."""
    sign = replace(settings, p_mean=-settings.p_mean, method="ict")
    right = replace(settings, method="ict")
    known: dict[str, tuple[Callable[[int], Tensor], str | None]] = {
        "the intervals are drawn uniformly": (lambda n: formulas.uniform_pmf(settings.grid(n)), None),
        f"the intervals are drawn by p(i) with P_mean = {sign.p_mean:+g}": (sign.pmf, "MeanSign"),
        "the intervals are drawn by p(i) in reverse": (lambda n: right.pmf(n).flip(0), "MirroredPmf"),
        **({"the intervals are drawn by p(i) of iCT": (right.pmf, None)} if settings.method == "ct" else {}),
        "the first interval is never drawn": (lambda n: _without(right.pmf(n), 0), None),
        "the last interval is never drawn": (lambda n: _without(right.pmf(n), -1), None),
        "the last interval has the probability of the last two": (lambda n: _moved(right.pmf(n)), None),
    }
    for name, (pmf, deviation) in known.items():
        if all(_agrees(count, pmf(n)) for n, count in counts.items()):
            return name, deviation
    return "", None


def _fit_text(counts: Mapping[int, Tensor], settings: Settings) -> str:
    """Return the P_mean and P_std that explain all counts; empty if there are none."""
    fit = _fitted(counts, settings)
    if not all(_agrees(count, fit.pmf(n)) for n, count in counts.items()):
        return ""
    return f"the intervals are drawn by p(i) with P_mean = {fit.p_mean:.2f} and P_std = {fit.p_std:.2f}"


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


def _fitted(counts: Mapping[int, Tensor], settings: Settings) -> Settings:
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


def _likelihood(counts: Mapping[int, Tensor], settings: Settings) -> float:
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
    what, number = ("interval", len(pmf)) if len(pmf) <= 20 else ("part", len(share))
    where = f"{what} {worst + 1} of {number}"
    return f"{where} is drawn with frequency {float(share[worst]):.4f}, should be {float(should[worst]):.4f}"


def check_independence(steps: Sequence[DecodedStep]) -> Result:
    """Check that the intervals of a batch, and of two steps, do not depend on each other."""
    grids = [step for step in steps if step.n is not None and step.lower is not None]
    scores = _scores(grids)
    wrong = _repeated(grids) or (_alike(scores) if len(scores) else None)
    if wrong:
        return result("independent_intervals", wrong)
    even = _even(scores) if len(scores) else None
    return note("independent_intervals", even) if even else result("independent_intervals")


def _scores(steps: Sequence[DecodedStep]) -> Tensor:
    """Return a row for each step: the indices of its intervals, of mean 0 and variance 1 for each number of levels.

    Numbers of levels with few steps are left out, because the mean of a step would be too near that of its number.
    """
    by_number = defaultdict[int, list[Tensor]](list)
    for step in steps:
        if step.n is not None and step.lower is not None:
            by_number[step.n].append(step.lower.double())
    groups = [torch.stack(rows) for rows in by_number.values() if len(rows) >= ENOUGH]
    scaled = [(rows - rows.mean()) / rows.std().clamp_min(1e-9) for rows in groups]
    return torch.cat(scaled) if scaled else torch.empty(0, 0)


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
        return (
            f"the intervals of a batch are alike: the variance of their mean is {spread:.3g} times that of "
            "independent ones"
        )
    return None


def _line(batch: int) -> Tensor:
    line = torch.arange(batch, dtype=torch.float64)
    return (line - line.mean()) / line.std()


def _even(scores: Tensor) -> str | None:
    count, batch = scores.shape
    spread = float(scores.mean(1).square().mean()) * batch
    if spread < 1 - 8 * math.sqrt(2 / count):
        return (
            f"the intervals of a batch are spread evenly: the variance of their mean is {spread:.3g} times that of "
            "independent ones"
        )
    return None
