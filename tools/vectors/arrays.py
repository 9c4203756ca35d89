"""Arrays of 50-digit numbers in plain lists: all the linear algebra that the oracle needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import mpmath  # type: ignore[import-untyped, unused-ignore]

__all__ = ["Array", "Nested", "Real", "array", "mp", "mpf", "over_examples", "per_example", "zip_map"]

mp = mpmath.mp
mp.dps = 50
mpf = mpmath.mpf

Real: TypeAlias = Any  # an mpmath.mpf (mpmath has no types), or a float that is taken exactly
Nested: TypeAlias = Any  # nested lists of numbers


@dataclass(frozen=True)
class Array:
    """Numbers with a shape, row-major; the arithmetic is elementwise, with arrays of the same shape or numbers."""

    shape: tuple[int, ...]
    values: tuple[Real, ...]
    dtype: str = "float64"

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Real]:
        return iter(self.values)

    def __add__(self, other: "Array | Real") -> "Array":
        return zip_map(lambda a, b: a + b, self, other)

    def __sub__(self, other: "Array | Real") -> "Array":
        return zip_map(lambda a, b: a - b, self, other)

    def __mul__(self, other: "Array | Real") -> "Array":
        return zip_map(lambda a, b: a * b, self, other)

    def __truediv__(self, other: "Array | Real") -> "Array":
        return zip_map(lambda a, b: a / b, self, other)

    def __rmul__(self, other: Real) -> "Array":
        return self.map(lambda a: other * a)

    def __radd__(self, other: Real) -> "Array":
        return self.map(lambda a: other + a)

    def map(self, function: Callable[[Real], Real]) -> "Array":
        """function(value) of every value."""
        return Array(self.shape, tuple(function(value) for value in self.values), self.dtype)

    def examples(self) -> list[list[Real]]:
        """The values of each example, flattened."""
        size = len(self.values) // self.shape[0]
        return [list(self.values[i * size : (i + 1) * size]) for i in range(self.shape[0])]

    def part(self, i: int) -> "Array":
        """The array at position i of the first axis."""
        return Array(self.shape[1:], tuple(self.examples()[i]), self.dtype)

    def nested(self) -> Nested:
        """The values as nested lists."""
        return _nest(list(self.values), self.shape)


def _nest(values: list[Real], shape: tuple[int, ...]) -> Nested:
    if not shape:
        return values[0]
    size = len(values) // shape[0] if shape[0] else 0
    return [_nest(values[i * size : (i + 1) * size], shape[1:]) for i in range(shape[0])]


def _flatten(nested: Nested) -> tuple[tuple[int, ...], list[Any]]:
    if not isinstance(nested, (list, tuple)):
        return (), [nested]
    if not nested:
        return (0,), []
    parts = [_flatten(part) for part in nested]
    if any(part[0] != parts[0][0] for part in parts):
        raise ValueError(f"ragged: {nested}")
    return (len(nested), *parts[0][0]), [value for part in parts for value in part[1]]


def array(nested: Nested, dtype: str = "float64") -> Array:
    """Nested lists as an array; a float is the double that it is, exactly."""
    shape, values = _flatten(nested)
    return Array(shape, tuple(mpf(value) if dtype == "float64" else value for value in values), dtype)


def zip_map(function: Callable[[Real, Real], Real], a: Array, b: Array | Real) -> Array:
    """function(a, b) of every pair of values; a number goes with every value."""
    if not isinstance(b, Array):
        return a.map(lambda value: function(value, b))
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return Array(a.shape, tuple(function(p, q) for p, q in zip(a.values, b.values, strict=True)))


def per_example(sigma: Array, like: Array) -> Array:
    """One number per example, repeated over the axes of `like`."""
    size = len(like.values) // like.shape[0]
    return Array(like.shape, tuple(value for value in sigma for _ in range(size)))


def over_examples(function: Callable[[list[Real], list[Real]], Real], a: Array, b: Array) -> Array:
    """function(flattened example of a, flattened example of b), one number per example."""
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    return Array((len(a),), tuple(function(p, q) for p, q in zip(a.examples(), b.examples(), strict=True)))
