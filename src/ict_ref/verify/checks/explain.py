"""The cause of a function's wrong values: known deviations, several at once, or a constant factor.

A cause is named only if it gives every wrong value of the function, and no other value where the function is right.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch

from ict_ref.verify.checks.compare import agrees
from ict_ref.verify.checks.known_deviations import combinations, form
from ict_ref.verify.checks.result import FAILING, Result
from ict_ref.verify.target.arrays import as_tensor
from ict_ref.verify.target.call import applied
from ict_ref.verify.vectors.load import Json, Vector, deviations, is_refusal, vectors
from ict_ref.verify.vectors.values import decoded, encoded

RTOL = 1e-5
"""Relative tolerance of a cause: it is named also for an implementation in float32."""
Seen: TypeAlias = tuple[Vector, object]
"""A vector, and the value that the implementation returned."""
Prediction: TypeAlias = Callable[[Vector], Json]


@dataclass(frozen=True)
class Cause:
    """Known deviations that explain the wrong values of a function, and a factor of all its values."""

    deviations: tuple[str, ...] = ()
    factor: float = 1.0

    def __str__(self) -> str:
        """Return the ids of the deviations, and the factor."""
        named = " and ".join(self.deviations)
        factor = f"{self.factor:.6g} times "
        if self.factor == 1:
            return named
        return f"{named}, {factor}its value" if named else f"{factor}the right value everywhere"


def explained(results: list[Result], version: int) -> list[Result]:
    """Return the results of a function's vectors, with the cause of its wrong values in each of them."""
    wrong = [result for result in results if _has_value(result, "fail") and result.kind in FAILING]
    near = [result for result in results if _has_value(result, "fail") and result.kind == "precision"]
    right = [result for result in results if _has_value(result, "pass")]
    cause = cause_of(wrong, right, version) if wrong else _cause_of_rounding(near, version)
    if cause is None:
        return results
    of = {result.id for result in wrong or near}
    return [with_cause(result, cause, version) if result.id in of else result for result in results]


def explained_alone(result: Result, version: int) -> Result:
    """Return the result of one vector, with the first known deviation that gives its wrong value."""
    if not _has_value(result, "fail"):
        return result
    [(vector, value)] = _seen([result], version)
    name = next((name for name, wrong in vector.deviations.items() if agrees(value, wrong, vector)), None)
    return result if name is None else with_cause(result, Cause((name,)), version)


def cause_of(wrong: list[Result], right: list[Result], version: int) -> Cause | None:
    """Return the cause of the wrong values of a function, or None if it is not known."""
    failed, passed = _seen(wrong, version), _seen(right, version)
    if len(failed) < len(wrong):
        return None
    function = failed[0][0].function
    for names, predicted in _candidates(function, failed):
        if all(_agrees(value, predicted(vector), vector) for vector, value in failed) and not any(
            _contradicts(value, vector, names, predicted) for vector, value in passed
        ):
            return Cause(names)
    for names, predicted in [((), _right), *_candidates(function, failed, every=True)]:
        factor = _factor(failed, passed, predicted)
        if factor is not None:
            return Cause(names, factor)
    return None


def _cause_of_rounding(near: list[Result], version: int) -> Cause | None:
    """Return the deviation that gives the digits of values which are right to float32."""
    seen = _seen(near, version)
    for name in dict.fromkeys(name for vector, _ in seen for name in vector.deviations):
        known = [(vector, value) for vector, value in seen if name in vector.deviations]
        if all(agrees(value, vector.deviations[name], vector) for vector, value in known):
            return Cause((name,))
    return None


def _candidates(
    function: str, failed: list[Seen], *, every: bool = False
) -> Iterator[tuple[tuple[str, ...], Prediction]]:
    """Yield known deviations of a function, then combinations, each with the value that it predicts for a vector.

    With `every`, they include deviations for which some vectors have the right value.
    """
    of_each = dict.fromkeys(name for vector, _ in failed for name in vector.deviations)
    for name in of_each if every else _common(vector for vector, _ in failed):
        yield (name,), partial(_alone, name=name)
    for names in combinations(function):
        yield names, partial(_combined, names=names)


def _alone(vector: Vector, name: str) -> Json:
    """Return the value of a vector's function with one deviation."""
    return vector.deviations.get(name, vector.value)


def _combined(vector: Vector, names: tuple[str, ...]) -> Json:
    """Return the value of a vector's function with several deviations, or None if it has none there."""
    try:
        arguments = {name: decoded(value) for name, value in vector.arguments.items()}
        value = form(vector.function, names)(**arguments)
        return encoded(applied(value, vector) if vector.apply else value)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, IndexError):
        return None


def _common(found: Iterable[Vector]) -> list[str]:
    """Return the deviations for which all these vectors have a value."""
    names = [list(vector.deviations) for vector in found]
    return [name for name in names[0] if all(name in others for others in names)] if names else []


def _contradicts(value: object, vector: Vector, names: tuple[str, ...], predicted: Prediction) -> bool:
    """Return whether a deviation would give another value where the function is right."""
    if len(names) == 1 and names[0] not in vector.deviations:
        return False
    expected = predicted(vector)
    return expected is not None and not _agrees(value, expected, vector)


def _agrees(value: object, expected: Json, vector: Vector) -> bool:
    return expected is not None and agrees(value, expected, vector, RTOL)


def _right(vector: Vector) -> Json:
    return vector.value


def _factor(failed: list[Seen], passed: list[Seen], predicted: Prediction) -> float | None:
    """Return the constant by which all values differ from the predicted ones; None if they differ otherwise."""
    pairs = [
        (_scaled(_numbers(value), vector), _scaled(_numbers(decoded(predicted(vector))), vector))
        for vector, value in [*failed, *passed]
    ]
    if any(mine is None or theirs is None or mine.shape != theirs.shape for mine, theirs in pairs):
        return None
    mine, theirs = (torch.cat([pair[k] for pair in pairs]) for k in (0, 1))  # type: ignore[misc]
    nonzero = theirs.isfinite() & (theirs != 0)
    if int(nonzero.sum()) < 3 or not bool((mine[~nonzero] == theirs[~nonzero]).all()):
        return None
    ratios = mine[nonzero] / theirs[nonzero]
    factor = float(ratios.median())
    constant = bool(((ratios - factor).abs() <= RTOL * abs(factor)).all())
    return _rounded(factor) if constant and factor != 0 and abs(factor - 1) > RTOL else None


def _scaled(numbers: torch.Tensor | None, vector: Vector) -> torch.Tensor | None:
    """Return the numbers that a factor of a value multiplies: of a summary, the entries without shape and norm."""
    summarised = vector.apply.get("summary")
    if numbers is None or not isinstance(summarised, dict):
        return numbers
    return numbers[-len(summarised["entries"]) :]


def _rounded(factor: float) -> float:
    """Return a factor without the rounding errors of float32, or as it is if it has more digits."""
    short = float(f"{factor:.4g}")
    return short if math.isclose(short, factor, rel_tol=RTOL) else factor


def _numbers(value: object) -> torch.Tensor | None:
    try:
        found = as_tensor(value)
    except TypeError:
        return None
    return found.double().flatten() if found.is_floating_point() else None


def _has_value(result: Result, status: str) -> bool:
    return result.status == status and result.got is not None and result.kind != "accepts"


def _seen(results: list[Result], version: int) -> list[Seen]:
    """Return the vectors of some results of one function, with the values that it returned."""
    by_name = {vector.name: vector for vector in vectors(results[0].function, version)} if results else {}
    found = [(by_name[result.id], result.got) for result in results if result.id in by_name]
    seen: list[Seen] = []
    for vector, got in found:
        # A value that is not a number, or a complex one, does not have an encoding.
        with contextlib.suppress(KeyError, ValueError):
            seen += [] if is_refusal(vector) else [(vector, decoded(got))]
    return seen


def with_cause(result: Result, cause: Cause | None, version: int) -> Result:
    """Return a failure with its cause in the message, if the cause is known."""
    if cause is None:
        return result
    known = deviations(version)
    texts = [str(known[name]) for name in cause.deviations if name in known]
    text = "; ".join([*texts, *([str(cause)] if cause.factor != 1 else [])])
    suffix = f" [{result.source}]"
    message = f"{result.message.removesuffix(suffix)}; {text}{suffix}"
    return replace(result, deviation=str(cause), message=message)


def type_deviation(results: list[Result], version: int) -> Cause | None:
    """Return the deviation whose values a function returns with their type, such as whole numbers as floats."""
    seen = _seen([result for result in results if result.got is not None], version)
    for name in _common(vector for vector, _ in seen):
        same = [_is_same(value, vector.deviations[name]) for vector, value in seen]
        right = [_is_same(value, vector.value) for vector, value in seen]
        if any(same) and all(a or b for a, b in zip(same, right, strict=True)):
            return Cause((name,))
    return None


def _is_same(mine: object, theirs: Json) -> bool:
    return type(mine) is type(theirs) and mine == theirs
