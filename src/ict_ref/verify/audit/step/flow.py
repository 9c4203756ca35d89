"""Dropout masks of student and teacher, and the calls that the gradient reaches."""

from collections.abc import Iterator, Sequence

import torch

from ict_ref.verify.audit.step.observe import ObservedStep
from ict_ref.verify.audit.step.verdicts import result
from ict_ref.verify.checks.result import Result

CPU_ONLY = (
    "on a CPU it cannot be seen whether masks are shared through the state of the CPU's generator alone, which a GPU "
    "does not use: try --device cuda"
)


def student_is_lower(seen: Sequence[ObservedStep]) -> bool:
    """Return whether the gradient reaches the points at the smaller level only."""
    upper, lower = _reached(seen)
    return lower and not upper


def _reached(seen: Sequence[ObservedStep]) -> tuple[bool, bool]:
    """Return whether the gradient reaches the points at the larger and at the smaller level."""
    return (
        any(bool((one.upper.gradient != 0).any()) for one in seen),
        any(bool((one.lower.gradient != 0).any()) for one in seen),
    )


def check_flow(seen: Sequence[ObservedStep]) -> Iterator[Result]:
    """Check that masks are shared, and that the gradient reaches the student alone."""
    yield result("shared_dropout", _masks(seen))
    upper, lower = _reached(seen)
    if not upper and not lower:
        yield result("stop_gradient", "the loss does not send a gradient to the network")
    elif not upper:
        yield result(
            "stop_gradient", "the gradient reaches the network at sigma_i, not at sigma_{i+1}", "SwappedLevels"
        )
    else:
        yield result("stop_gradient", "the gradient passes through the teacher" if lower else None)


def _masks(seen: Sequence[ObservedStep]) -> str | None:
    trains = [bool(side.training.all()) for one in seen for side in (one.upper, one.lower)]
    if not any(trains):
        return "dropout is off: the network is not in training mode"
    if not all(trains[::2]) or not all(trains[1::2]):
        which = "student" if not all(trains[::2]) else "teacher"
        return f"dropout is off in the {which}: the network is not in training mode"
    different = [one.at for one in seen if not torch.equal(one.upper.mask, one.lower.mask)]
    if len(different) == len(seen):
        return "student and teacher have different dropout masks"
    if different:
        return f"student and teacher have different dropout masks at step {different[0]}"
    same = all(bool((one.upper.mask == one.upper.mask[:1]).all()) for one in seen)
    return "all examples of a batch have one dropout mask" if same else None


def sends_gradient(seen: Sequence[ObservedStep]) -> bool:
    """Return whether the gradient reaches the network."""
    return any(_reached(seen))
