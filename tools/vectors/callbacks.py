"""The functions that vectors name instead of carry: consistency functions, networks, scores, distances, operators."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools.vectors.arrays import Array, Real, mp, mpf, per_example, zip_map
from tools.vectors.oracle_editing import colorization_operator, inpainting_operator, super_resolution_operator
from tools.vectors.oracle_model import Function, boundary_parameterization, pseudo_huber, squared_l2


@dataclass(frozen=True)
class Callback:
    """A named function with its numbers."""

    name: str
    numbers: tuple[tuple[str, float | int], ...] = ()

    def encoded(self) -> dict[str, Any]:
        """The encoding in a vector."""
        return {"callback": self.name, **dict(self.numbers)}

    def function(self) -> Any:
        """The function itself, in 50 digits."""
        return BUILDERS[self.name](**dict(self.numbers))


def callback(name: str, **numbers: float) -> Callback:
    """A named function with its numbers."""
    return Callback(name, tuple(numbers.items()))


def bend(a: Real, b: Real) -> Function:
    """(x, sigma) -> x a / (1 + sigma) + b sigma x^2."""

    def value(x: Array, sigma: Array) -> Array:
        return zip_map(lambda v, s: v * mpf(a) / (1 + s) + mpf(b) * s * v * v, x, per_example(sigma, x))

    return value


def network_bend(a: Real, b: Real) -> Function:
    """(x, c) -> a x + b c + x^2."""

    def value(x: Array, c: Array) -> Array:
        return zip_map(lambda v, n: mpf(a) * v + mpf(b) * n + v * v, x, per_example(c, x))

    return value


def preconditioned_bend(a: Real, b: Real) -> Function:
    """(x, sigma) -> c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma)), F being network_bend."""
    return lambda x, sigma: boundary_parameterization(network_bend(a, b), x, sigma)


def gaussian_score(mean: Real, std: Real) -> Function:
    """(x, sigma) -> (mean - x) / (std^2 + sigma^2)."""

    def value(x: Array, sigma: Array) -> Array:
        return zip_map(lambda v, s: (mpf(mean) - v) / (mpf(std) ** 2 + s * s), x, per_example(sigma, x))

    return value


def gaussian_consistency(mean: Real, std: Real, sigma_min: Real) -> Function:
    """(x, sigma) -> mean + sqrt((std^2 + sigma_min^2) / (std^2 + sigma^2)) (x - mean)."""
    m, variance, least = mpf(mean), mpf(std) ** 2, mpf(sigma_min) ** 2

    def value(x: Array, sigma: Array) -> Array:
        return zip_map(
            lambda v, s: m + mp.sqrt((variance + least) / (variance + s * s)) * (v - m), x, per_example(sigma, x)
        )

    return value


def huber(c: Real) -> Function:
    """(a, b) -> pseudo_huber(a, b, c)."""
    return lambda a, b: pseudo_huber(a, b, c)


def valley(bottom: Real, left: Real, right: Real, position: int) -> Callable[[Array], Real]:
    """levels -> left (-t) if t < 0 else right t, with t = log(levels[position] / bottom)."""

    def value(levels: Array) -> Real:
        t = mp.log(levels.values[position] / mpf(bottom))
        return -t * mpf(left) if t < 0 else t * mpf(right)

    return value


BUILDERS: dict[str, Callable[..., Any]] = {
    "bend": bend,
    "network_bend": network_bend,
    "preconditioned_bend": preconditioned_bend,
    "gaussian_score": gaussian_score,
    "gaussian_consistency": gaussian_consistency,
    "squared_l2": lambda: squared_l2,
    "pseudo_huber": huber,
    "valley": valley,
    "inpainting": inpainting_operator,
    "colorization": colorization_operator,
    "super_resolution": super_resolution_operator,
}
