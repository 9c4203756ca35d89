"""The comparison of a returned value with a vector's value: to the vector's tolerance, and to that of a dtype.

The tolerance of float64 is the vector's. Those of float32 and bfloat16 are relative to the value, and have a part for
rounding: `SCATTER` times the largest error of evaluations in which arguments and operations are rounded to that dtype
(see rounding.py). A right implementation in that dtype is within it also where the formula is ill-conditioned.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.rounding import scatter
from ict_ref.verify.target.arrays import as_tensor, is_whole
from ict_ref.verify.vectors.load import Json, Vector
from ict_ref.verify.vectors.values import decoded, encoded, number

RELATIVE: dict[torch.dtype, float] = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
"""Relative tolerances of dtypes narrower than float64, about 100 and 10 times their eps."""
SCATTER = 4.0
SQUARABLE = (1e-18, 1e18)
"""The range of numbers whose squares float32 and bfloat16 can hold."""


@dataclass(frozen=True)
class Comparison:
    """How a returned value compares with the expected one."""

    differs: bool
    what: str = ""
    """The difference of type or shape, before "got"."""
    max_rel_error: float | None = None
    odd_type: str = ""
    """A difference of type or shape only, where the numbers are right."""


class DifferenceError(Exception):
    """A returned value cannot be compared with the expected one; the message describes the difference."""


def compare(
    got: object, value: Json, vector: Vector, dtype: torch.dtype = torch.float64, formula: str | None = None
) -> Comparison:
    """Return how a returned value compares with a value of a vector, to the tolerance of a dtype.

    `formula` is the name of the vector's formula, if it is not its function.
    """
    expected = decoded(value)
    samples = () if dtype == torch.float64 else scatter(vector, formula or vector.function, dtype)
    try:
        return _compared(got, expected, vector, dtype, samples)
    except DifferenceError as error:
        return Comparison(True, str(error))


def agrees(got: object, value: Json, vector: Vector, rtol: float = 0.0) -> bool:
    """Return whether a value equals this one within the vector's tolerance, or a relative one if that is larger."""
    expected = decoded(value)
    if isinstance(expected, tuple):
        parts = got if isinstance(got, tuple | list) else ()
        pairs = zip(parts, expected, strict=False)
        return len(parts) == len(expected) and all(agrees(a, encoded(b), vector, rtol) for a, b in pairs)
    try:
        mine, theirs, _ = _of_one_shape(got, expected)
    except DifferenceError:
        return False
    # Where the largest value is right, small ones may have lost their digits.
    size = theirs[theirs.isfinite()].abs().max() if bool(theirs.isfinite().any()) else 0.0
    close = _close(mine, theirs, vector, rtol) | ((mine - theirs).abs() <= rtol * size / 10)
    close |= mine.isnan() & theirs.isnan()
    return bool(close[_kept(vector, theirs)].all())


def _compared(
    got: object, expected: object, vector: Vector, dtype: torch.dtype, samples: Sequence[object]
) -> Comparison:
    """Return the comparison. Raises DifferenceError if types or shapes do not allow one."""
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            raise DifferenceError(f"not {len(expected)} values, ")
        parts = [
            _compared(part, whole, vector, dtype, [sample[k] for sample in samples if isinstance(sample, tuple)])
            for k, (part, whole) in enumerate(zip(got, expected, strict=True))
        ]
        worst = max((part.max_rel_error for part in parts if part.max_rel_error is not None), default=None)
        odd = next((part.odd_type for part in parts if part.odd_type), "")
        return Comparison(any(part.differs for part in parts), "", worst, odd)
    mine, theirs, odd = _of_one_shape(got, expected)
    _expect_shape(mine, theirs, vector)
    others = [as_tensor(sample).double().reshape(theirs.shape) for sample in samples]
    if is_whole(expected) or isinstance(expected, bool):
        equal = torch.stack([mine == other for other in (theirs, *others)]).any(0)
        return Comparison(not bool(equal.all()), "", None if not bool(equal.all()) else 0.0, odd)
    kept = _kept(vector, theirs)
    close = _close(mine, theirs, vector, RELATIVE.get(dtype, 0.0))
    lost = ~mine.isfinite() | (mine == 0)  # what overflow and underflow leave
    for other in others:
        close |= _within_scatter(mine, theirs, other, vector, lost, RELATIVE[dtype])
    if dtype != torch.float64 and _is_beyond(vector, theirs):
        close |= lost
    differs = not bool(close[kept].all())
    return Comparison(differs, "", _max_rel_error(mine[kept], theirs[kept], differs), odd)


def _expect_shape(mine: Tensor, theirs: Tensor, vector: Vector) -> None:
    """Raise DifferenceError if the shapes at the head of two summaries differ, to no tolerance."""
    match vector.apply.get("summary"):
        case {"entries": list(entries)}:
            axes = len(theirs) - 2 - len(entries)  # then follow mean, norm and entries
            here, there = ([int(length) for length in side[:axes].tolist()] for side in (mine, theirs))
            if here != there:
                raise DifferenceError(f"of shape {here}, not {there}, ")


def _of_one_shape(got: object, expected: object) -> tuple[Tensor, Tensor, str]:
    """Return both values as float64 tensors, and a difference of their types. Raises DifferenceError if shapes differ.

    Shapes that differ by axes of length 1 are a difference of types.
    """
    whole = is_whole(expected) or isinstance(expected, bool)
    odd = f"of type {type(got).__name__}, not a whole number, " if whole and not is_whole(got) else ""
    try:
        mine = as_tensor(got)
    except TypeError as error:
        raise DifferenceError(f"of type {type(got).__name__}, not a number or an array, ") from error
    theirs = as_tensor(expected)
    if mine.is_complex():
        if not bool((mine.imag == 0).all()):
            raise DifferenceError("complex, ")
        mine, odd = mine.real, "complex, "
    if mine.shape != theirs.shape:
        what = f"of shape {list(mine.shape)}, not {list(theirs.shape)}, "
        if mine.squeeze().shape != theirs.squeeze().shape:
            raise DifferenceError(what)
        mine, odd = mine.reshape(theirs.shape), what
    return mine.double(), theirs.double(), odd


def _close(mine: Tensor, theirs: Tensor, vector: Vector, rtol: float) -> Tensor:
    """Return where numbers are equal within the vector's tolerance, or a relative one if that is larger."""
    # A tolerance relative to infinity would let every number pass.
    near = (mine - theirs).abs() <= vector.atol + max(vector.rtol, rtol) * theirs.abs()
    return near & theirs.isfinite() | (mine == theirs)


def _within_scatter(mine: Tensor, theirs: Tensor, sample: Tensor, vector: Vector, lost: Tensor, rtol: float) -> Tensor:
    """Return where a value is as close to the right one as an evaluation with rounded operations."""
    if vector.rtol == 0:  # one of several numbers was chosen
        return _close(mine, sample, vector, rtol)
    error = (sample - theirs).abs()
    # No digit is left: then the dtype may give 0 / 0.
    hopeless = bool(~(error < 0.1 * theirs.abs().max()).all())
    return (error.isfinite() & ((mine - theirs).abs() <= SCATTER * error)) | (lost & (hopeless | ~error.isfinite()))


def _is_beyond(vector: Vector, expected: Tensor) -> bool:
    """Return whether a vector has a number whose square a narrow dtype cannot hold."""
    sizes = [expected.flatten().abs()]
    for value in map(decoded, vector.arguments.values()):
        if isinstance(value, float | Tensor):
            sizes.append(as_tensor(value).double().flatten().abs())
    numbers = torch.cat(sizes)
    numbers = numbers[numbers.isfinite() & (numbers > 0)]
    return bool(((numbers < SQUARABLE[0]) | (numbers > SQUARABLE[1])).any())


def _max_rel_error(mine: Tensor, theirs: Tensor, differs: bool) -> float | None:
    """Return the largest relative error; None if values differ by more than every number."""
    relative = ((mine - theirs).abs() / theirs.abs().clamp_min(1e-300))[mine != theirs]
    worst = float(relative.max()) if relative.numel() else 0.0
    return worst if not differs or math.isfinite(worst) else None


def _kept(vector: Vector, expected: Tensor) -> Tensor:
    """Return where the values of a vector are compared."""
    if vector.compare != "kept":
        return torch.ones_like(expected, dtype=torch.bool)
    if vector.function == "colorization_operator":
        return ~formulas.colorization_mask().expand_as(expected)
    patch = int(number(vector.arguments["patch"]))
    return ~formulas.super_resolution_mask(expected.shape[1] // patch**2, patch).expand_as(expected)
