"""Recognition of a curriculum by the number of levels at each update."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ict_ref import formulas
from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training.loop_trace import TOTAL_STEPS


@dataclass(frozen=True)
class Curriculum:
    """A curriculum with a known deviation, or another one, by its N(k) for k from 0."""

    text: str
    deviation: str | None
    levels: tuple[int, ...]


def expected_levels(options: TrainingOptions, steps: range = range(TOTAL_STEPS)) -> tuple[int, ...]:
    """Return N(k) for some numbers of updates; after the end of the run N is that of the end."""
    return _levels(options.curriculum, options, steps)


def _levels(name: str, options: TrainingOptions, steps: range) -> tuple[int, ...]:
    curriculum = getattr(formulas, f"{name}_curriculum")
    kept = (min(max(step, 0), TOTAL_STEPS) for step in steps)
    return tuple(curriculum(step, total_steps=TOTAL_STEPS, s0=options.s0, s1=options.s1) for step in kept)


def _alternatives(options: TrainingOptions) -> Iterator[Curriculum]:
    """Yield curricula that a loop may have by mistake."""
    right = expected_levels(options)
    size = options.batch
    yield Curriculum("N stays that of the first update", "FrozenCurriculum", (right[0],) * TOTAL_STEPS)
    yield Curriculum("k begins at 1, not at 0", "StepFromOne", expected_levels(options, range(1, TOTAL_STEPS + 1)))
    yield Curriculum("k is one update late", None, expected_levels(options, range(-1, TOTAL_STEPS - 1)))
    samples = expected_levels(options, range(0, TOTAL_STEPS * size, size))
    yield Curriculum("k counts images, not updates", "SampleCurriculum", samples)
    after = expected_levels(options, range(size, (TOTAL_STEPS + 1) * size, size))
    yield Curriculum("k counts images, not updates", "SampleCurriculum", after)
    yield Curriculum("N is one too small: the number of intervals", "NoPlusOne", tuple(n - 1 for n in right))
    yield Curriculum("K' is rounded up, not down", None, _with_ceil(options))
    for name in ("exponential", "sqrt", "constant", "linear", "square", "cosine"):
        yield Curriculum(f"the curriculum is the {name} one", None, _levels(name, options, range(TOTAL_STEPS)))


def _with_ceil(options: TrainingOptions) -> tuple[int, ...]:
    stages = (options.s1 // options.s0).bit_length()
    length = -(-TOTAL_STEPS // stages)
    return tuple(min(options.s0 * 2 ** (step // length), options.s1) + 1 for step in range(TOTAL_STEPS))


def explain(seen: Sequence[int], options: TrainingOptions) -> tuple[str | None, str | None]:
    """Return what is wrong with a curriculum, and the known deviation; (None, None) if it is right."""
    right = expected_levels(options)
    if tuple(seen) == right:
        return None, None
    at = next(step for step, (got, expected) in enumerate(zip(seen, right, strict=True)) if got != expected)
    where = f"at update {at} of {TOTAL_STEPS}, counted from 0, N = {seen[at]}, should be {right[at]}"
    for one in _alternatives(options):
        if tuple(seen) == one.levels:
            return f"{one.text}: {where}", one.deviation
    return where, None
