"""The number of levels of a step over the training, compared with the curriculum, and the name of another one."""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import TypeAlias

from ict_ref import formulas
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.step.verdicts import result
from ict_ref.verify.checks.result import Result

Curriculum: TypeAlias = Callable[[int], int]
MOST_EDGES = 16
"""Number of edges of stages at which the curriculum is checked, beside a step within the first."""


def stages(settings: Settings) -> list[range]:
    """Return the steps of each stage of the curriculum, in which the number of levels does not change."""
    starts = [0]
    while (after := _end(starts[-1], settings)) < settings.total_steps:
        starts.append(after)
    return [range(start, end) for start, end in pairwise([*starts, settings.total_steps])]


def _end(start: int, settings: Settings) -> int:
    """Return the first step after those with the number of levels of `start`; numbers of levels never fall."""
    n = settings.number_of_levels(start)
    low, high = start, settings.total_steps
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if settings.number_of_levels(middle) == n else (low, middle)
    return high


def edges(settings: Settings) -> list[int]:
    """Return the first and the last step of stages of the curriculum: of all eight of iCT, or of eight of more."""
    found = stages(settings)
    stride = (len(found) - 1) / max(MOST_EDGES // 2 - 1, 1)
    chosen = found if 2 * len(found) <= MOST_EDGES else [found[round(i * stride)] for i in range(MOST_EDGES // 2)]
    return sorted({step for stage in chosen for step in (stage[0], stage[-1])})


def check_curriculum(seen: Mapping[int, int], settings: Settings) -> Result:
    """Compare the numbers of levels at some steps with those of the curriculum."""
    wrong = {step: n for step, n in seen.items() if n != settings.number_of_levels(step)}
    if not wrong:
        return result("curriculum")
    step = min(wrong)
    evidence = f"N({step}) = {wrong[step]}, should be {settings.number_of_levels(step)}"
    named = [(name, deviation) for name, deviation, one in _others(settings, seen) if _explains(one, seen)]
    if named:
        # At some K two values of K' give one curriculum.
        same = [name for name, _ in named if name.startswith("K'")] if named[0][0].startswith("K'") else [named[0][0]]
        return result("curriculum", f"{evidence}: {' or '.join(same)}", named[0][1])
    count = f", and {len(wrong) - 1} more of {len(seen)} steps differ" if len(wrong) > 1 else ""
    later = [f"N({step}) = {n}" for step, n in sorted(wrong.items())[1:3]]
    return result("curriculum", f"{evidence}{count}{': ' if later else ''}{', '.join(later)}")


def _explains(curriculum: Curriculum, seen: Mapping[int, int]) -> bool:
    try:
        return all(curriculum(step) == n for step, n in seen.items())
    except (ValueError, ZeroDivisionError):
        return False  # such a curriculum does not exist for these settings


def _others(settings: Settings, seen: Mapping[int, int]) -> Iterator[tuple[str, str | None, Curriculum]]:
    """Yield other curricula, each with its name and its known deviation."""
    right, total = settings.number_of_levels, settings.total_steps

    def clipped(step: int) -> int:
        return right(max(0, min(step, total)))

    yield from _named(settings)
    yield from _of_k_prime(settings)
    yield "it has no + 1", None, lambda step: right(step) - 1
    yield "it has one more level than N(k)", None, lambda step: right(step) + 1
    yield "the step is counted from 1", None, lambda step: clipped(step + 1)
    yield "the curriculum is one step late", None, lambda step: clipped(step - 1)
    yield "the curriculum is one stage early", None, lambda step: clipped(step + _stage(settings))
    yield "the curriculum is one stage late", None, lambda step: clipped(step - _stage(settings))
    yield "it counts examples, not steps", None, lambda step: clipped(step * settings.batch)
    top = max(seen.values())
    yield f"it is constant, {top}", None, lambda _: top
    yield f"it is capped at {top}", None, lambda step: min(right(step), top)
    yield "a stage is left out", None, lambda step: right(step) if right(step) == seen[step] else _next(settings, step)


def _stage(settings: Settings) -> int:
    return len(stages(settings)[0])


def _next(settings: Settings, step: int) -> int:
    """Return the number of levels of the stage after that of a step."""
    after = next((stage[0] for stage in stages(settings) if stage[0] > step), settings.total_steps)
    return settings.number_of_levels(min(after, settings.total_steps))


def _named(settings: Settings) -> Iterator[tuple[str, str | None, Curriculum]]:
    total, (s0, s1) = settings.total_steps, settings.ends
    kinds = {
        "sqrt": formulas.sqrt_curriculum,
        "linear": formulas.linear_curriculum,
        "square": formulas.square_curriculum,
        "cosine": formulas.cosine_curriculum,
        "exponential": formulas.exponential_curriculum,
    }
    whose_ends = {(2, 150): "CT", (2, 200): "CT for ImageNet", (10, 1280): "iCT", (s0, s1): "these s0 and s1"}
    for (first, last), whose in whose_ends.items():
        for kind, curriculum in kinds.items():
            name = f"the {kind} curriculum of {whose}"
            yield name, None, _curriculum(curriculum, total, first, last)
        no_plus_one = _root(total, first, last, last)
        yield f"the sqrt curriculum of {whose}, without + 1", "NoPlusOne", no_plus_one
        no_shift = _root(total, first, last + 1, last + 1)
        yield f"the sqrt curriculum of {whose}, without the last + 1", "NoCeilShift", lambda k, f=no_shift: f(k) - 1  # type: ignore[misc]


def _curriculum(kind: Callable[..., int], total: int, s0: int, s1: int) -> Curriculum:
    return lambda step: kind(step, total_steps=total, s0=s0, s1=s1)


def _root(total: int, s0: int, last: int, most: int) -> Curriculum:
    return lambda step: min(math.ceil(math.sqrt(step / total * (last**2 - s0**2) + s0**2) - 1) + 1, most)


def _of_k_prime(settings: Settings) -> Iterator[tuple[str, str | None, Curriculum]]:
    """Yield the exponential curriculum with another K'."""
    s0, s1 = settings.ends
    exact = settings.total_steps / (math.log2(s1 // s0) + 1)
    literal = settings.total_steps / (math.log2(s1 / s0) + 1)
    others = {
        f"K' is rounded up, to {math.ceil(exact)}": (math.ceil(exact), None),
        "K' is rounded to the nearest integer": (round(exact), None),
        f"K' is not rounded, {exact:g}": (exact, None),
        "K' has the logarithm of s1 / s0, not of its floor": (math.floor(literal), "RatioNotFloored"),
        "K' has no + 1": (math.floor(settings.total_steps / max(math.log2(s1 // s0), 1)), None),
    }
    for name, (k_prime, deviation) in others.items():
        yield name, deviation, lambda step, k=k_prime: min(s0 * 2 ** min(math.floor(step / k), 64), s1) + 1  # type: ignore[misc]
    for k_prime in (math.floor(exact), math.ceil(exact), exact):
        yield "k / K' is rounded up", None, lambda step, k=k_prime: min(s0 * 2 ** min(math.ceil(step / k), 64), s1) + 1  # type: ignore[misc]
