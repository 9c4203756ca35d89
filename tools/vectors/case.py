"""One vector without its value, and short forms to write many."""

import random
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from tools.vectors.arrays import Array, array

NAN, INF = float("nan"), float("inf")
Argument: TypeAlias = Any  # Array, Callback, Generated, float, int or a tuple of floats: what a call can take


@dataclass(frozen=True)
class Case:
    """Arguments by name, the kind of the expected result, and tolerances."""

    result: Literal["valid", "invalid", "acceptable"]
    comment: str
    arguments: dict[str, Argument]
    rtol: float = 0.0
    atol: float = 0.0
    forward: Array | None = None
    compare: str | None = None
    alternatives: dict[str, dict[str, Argument] | int] = field(default_factory=dict)
    """Other values that are accepted: those of other arguments, or a number itself."""
    marks: tuple[str, ...] = ()
    """Flags that do not follow from the arguments."""
    is_summary: bool = False


def valid(comment: str, *, rtol: float = 1e-13, atol: float = 0.0, **arguments: Argument) -> Case:
    """A call with one correct value."""
    return Case("valid", comment, arguments, rtol, atol)


def invalid(comment: str, **arguments: Argument) -> Case:
    """A call that must be refused."""
    return Case("invalid", comment, arguments)


def applied(comment: str, forward: Array, *, rtol: float = 1e-13, atol: float = 1e-15, compare: str | None = None,
            **arguments: Argument) -> Case:  # fmt: skip
    """A call that returns an operator, which is then applied."""
    return Case("valid", comment, arguments, rtol, atol, forward, compare)


def acceptable(comment: str, alternatives: dict[str, dict[str, Argument] | int], *, rtol: float = 1e-13,
               **arguments: Argument) -> Case:  # fmt: skip
    """A call that the paper leaves open: each alternative is a value, or that of these other arguments."""
    return Case("acceptable", comment, arguments, rtol, alternatives=alternatives)


def large(comment: str, *, rtol: float = 1e-10, atol: float = 1e-13, **arguments: Argument) -> Case:
    """A call with generated arguments, whose value is compared by a summary."""
    return Case("valid", comment, arguments, rtol, atol, is_summary=True)


def marked(case: Case, *flags: str) -> Case:
    """The case with more flags."""
    return replace(case, marks=(*case.marks, *flags))


def elsewhere(case: Case) -> Case:
    """The case as one whose arguments are not settings of the paper."""
    return marked(case, "Elsewhere")


def draw(seed: int, *shape: int, scale: float = 2.0) -> Array:
    """Numbers in [-scale, scale] of two decimals."""
    source = random.Random(seed)  # noqa: S311 - nothing is secret
    size = 1
    for length in shape:
        size *= length
    flat = array([round(source.uniform(-scale, scale), 2) for _ in range(size)])
    return Array(shape, flat.values)


def whole(*values: int) -> Array:
    """Integers."""
    return array(list(values), "int64")


def flags(nested: object) -> Array:
    """Booleans."""
    return array(nested, "bool")


def without(arguments: dict[str, Argument], **changed: Argument) -> dict[str, Argument]:
    """The arguments with some of them changed."""
    return {**arguments, **changed}
