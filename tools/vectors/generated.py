"""Large arguments that a vector gives by a seed or a number, in plain integers and doubles."""

from dataclasses import dataclass
from math import floor, prod
from typing import Any, TypeAlias

from tools.vectors.arrays import Array, Real, mp, mpf

MASK = 2**64 - 1
# The doubles nearest to 0.002^(1/7) and 80^(1/7).
LOW_ROOT, HIGH_ROOT = 0.4115597137836079, 1.8701222535385968


def split_mix(seed: int, count: int) -> list[int]:
    """The first integers of SplitMix64 from a seed."""
    state, found = seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        found.append(z ^ (z >> 31))
    return found


@dataclass(frozen=True)
class Uniform:
    """Doubles low + (high - low) u, u in [0, 1) from the upper 53 bits of SplitMix64."""

    seed: int
    shape: tuple[int, ...]
    low: float = 0.0
    high: float = 1.0

    def encoded(self) -> dict[str, Any]:
        """The encoding in a vector."""
        return {"generated": {"seed": self.seed, "shape": list(self.shape), "low": self.low, "high": self.high}}

    def function(self) -> Array:
        """The array itself."""
        values = [(bits >> 11) * 2.0**-53 for bits in split_mix(self.seed, prod(self.shape))]
        return Array(self.shape, tuple(mpf(self.low + (self.high - self.low) * u) for u in values))


@dataclass(frozen=True)
class Integers:
    """Integers floor(below u), u in [0, 1) from the upper 53 bits of SplitMix64."""

    seed: int
    shape: tuple[int, ...]
    below: int

    def encoded(self) -> dict[str, Any]:
        """The encoding in a vector."""
        return {"generated": {"seed": self.seed, "shape": list(self.shape), "below": self.below}}

    def function(self) -> Array:
        """The array itself."""
        values = [(bits >> 11) * 2.0**-53 for bits in split_mix(self.seed, prod(self.shape))]
        return Array(self.shape, tuple(floor(self.below * u) for u in values), "int64")


@dataclass(frozen=True)
class Levels:
    """The paper's n levels up to a few roundings: t^7 by six products, t = a + i (b - a) / (n - 1)."""

    n: int

    def encoded(self) -> dict[str, Any]:
        """The encoding in a vector."""
        return {"levels": self.n}

    def function(self) -> Array:
        """The array itself."""
        roots = [LOW_ROOT + i * (HIGH_ROOT - LOW_ROOT) / (self.n - 1) for i in range(self.n)]
        levels = [0.002, *(t * t * t * t * t * t * t for t in roots[1:-1]), 80.0]
        return Array((self.n,), tuple(mpf(level) for level in levels))


Generated: TypeAlias = Uniform | Integers | Levels


def entries_of(size: int) -> list[int]:
    """The entries that a summary of a value of this size shows."""
    return [0, size // 3, 2 * size // 3, size - 1]


def summary(value: Array, entries: list[int]) -> Array:
    """The shape, the mean, the norm and some entries."""
    values = value.values
    mean: Real = mp.fsum(values) / len(values)
    norm: Real = mp.sqrt(mp.fsum(v * v for v in values))
    shown = [values[min(entry, len(values) - 1)] for entry in entries]
    parts = [*(mpf(length) for length in value.shape), mean, norm, *shown]
    return Array((len(parts),), tuple(parts))
