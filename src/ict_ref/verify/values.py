"""The encoding of values in a vector's JSON, and their conversion to arguments of an implementation under test.

A number is itself. A tensor is {"tensor": nested lists, "dtype": name}, a tuple {"tuple": list}. Numbers that JSON
cannot hold are {"float": "nan"}. A function that the formula calls is {"callback": name, its numbers}. Tensors are
float64, int64 or bool, on the CPU.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ict_ref import formulas

# A value in JSON; a recursive type cannot be checked at run time.
Json: TypeAlias = object

DTYPES = {
    name: getattr(torch, name) for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "bool")
}


def column(sigma: Tensor, x: Tensor) -> Tensor:
    """Return sigma with the trailing axes of x."""
    return sigma.reshape(-1, *(1 for _ in x.shape[1:]))


def bend(x: Tensor, sigma: Tensor, *, a: float, b: float) -> Tensor:
    """Return a x / (1 + sigma) + b sigma x^2."""
    return a * x / (1 + column(sigma, x)) + b * column(sigma, x) * x**2


def network_bend(x: Tensor, c: Tensor, *, a: float, b: float) -> Tensor:
    """Return a x + b c + x^2."""
    return a * x + b * column(c, x) + x**2


def preconditioned_bend(x: Tensor, sigma: Tensor, *, a: float, b: float) -> Tensor:
    """Return c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x, c_noise(sigma)) with F = `network_bend`."""
    return formulas.boundary_parameterization(partial(network_bend, a=a, b=b), x, sigma)


def gaussian_score(x: Tensor, sigma: Tensor, *, mean: float, std: float) -> Tensor:
    """Return (mean - x) / (std^2 + sigma^2)."""
    return (mean - x) / (std**2 + column(sigma, x) ** 2)


def gaussian_consistency(x: Tensor, sigma: Tensor, *, mean: float, std: float, sigma_min: float) -> Tensor:
    """Return mean + sqrt((std^2 + sigma_min^2) / (std^2 + sigma^2)) (x - mean)."""
    return mean + ((std**2 + sigma_min**2) / (std**2 + column(sigma, x) ** 2)).sqrt() * (x - mean)


def valley(levels: Tensor, *, bottom: float, left: float, right: float, position: int) -> float:
    """Return a score that falls to `bottom` and rises from it."""
    away = math.log(float(levels[position]) / bottom)
    return -left * away if away < 0 else right * away


# The functions that a vector may pass to a formula. Only `edit` takes operators.
CALLBACKS: dict[str, Callable[..., object]] = {
    "bend": bend,
    "network_bend": network_bend,
    "preconditioned_bend": preconditioned_bend,
    "gaussian_score": gaussian_score,
    "gaussian_consistency": gaussian_consistency,
    "squared_l2": formulas.squared_l2,
    "pseudo_huber": formulas.pseudo_huber,
    "valley": valley,
}
OPERATORS: dict[str, Callable[..., formulas.Operator]] = {
    "inpainting": formulas.inpainting_operator,
    "colorization": formulas.colorization_operator,
    "super_resolution": formulas.super_resolution_operator,
}


@dataclass(frozen=True)
class Arrays:
    """The array type of an implementation, for its arguments and for the functions among them."""

    name: str
    of: Callable[[Tensor], object]

    def wrapped(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return a function of tensors as one of these arrays."""

        def call(*arguments: object) -> object:
            value = function(*(torch.as_tensor(argument) for argument in arguments))
            return self.of(value) if isinstance(value, Tensor) else value

        return call


TORCH = Arrays("torch", lambda tensor: tensor)
NUMPY = Arrays("numpy", lambda tensor: np.array(tensor.detach().numpy()))
ARRAYS = {arrays.name: arrays for arrays in (TORCH, NUMPY)}


def number(value: Json) -> float | int:
    """Return a number that JSON may hold as a word.

    Raises:
        ValueError: The value is not a number.
    """
    if isinstance(value, str):
        return float(value)
    if isinstance(value, int | float):
        return value
    raise ValueError(f"expected a number, got {value!r}; see ict_ref/verify/values.py")


def decoded(value: Json, arrays: Arrays = TORCH) -> object:
    """Return the argument or value that a vector encodes.

    Raises:
        ValueError: The value is not one of the encodings.
    """
    if not isinstance(value, dict):
        return tuple(decoded(part, arrays) for part in value) if isinstance(value, list) else value
    if "tensor" in value:
        return arrays.of(torch.tensor(_numbers(value["tensor"]), dtype=DTYPES[str(value["dtype"])]))
    if isinstance(value.get("tuple"), list):
        return decoded(value["tuple"], arrays)
    if "float" in value:
        return number(value["float"])
    if "callback" in value:
        return _callback(value, arrays)
    raise ValueError(f"expected a tensor, tuple, float or callback, got {value!r}; see ict_ref/verify/values.py")


def _callback(value: dict[str, Json], arrays: Arrays) -> object:
    """Return the function, or the operator, that a vector names."""
    name = str(value["callback"])
    options = {key: part for key, part in value.items() if key != "callback"}
    if name not in OPERATORS:
        return arrays.wrapped(partial(CALLBACKS[name], **options))
    operator = OPERATORS[name](**options)
    forward, inverse = arrays.wrapped(operator.forward), arrays.wrapped(operator.inverse)
    return formulas.Operator(forward, inverse)  # type: ignore[arg-type]


def encoded(value: object) -> Json:
    """Return the encoding of a value in a vector, or its text if it has no encoding."""
    if isinstance(value, np.ndarray | np.generic):
        value = torch.as_tensor(value)
    if isinstance(value, Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return {"tensor": _words(value.detach().tolist()), "dtype": dtype}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, tuple | list):
        return {"tuple": [encoded(part) for part in value]}
    return repr(value)


def _numbers(value: Json) -> object:
    """Return nested lists with the words for NaN and infinity as numbers."""
    return [_numbers(part) for part in value] if isinstance(value, list) else number(value)


def _words(value: object) -> Json:
    """Return nested lists with the numbers that JSON cannot hold as words."""
    if isinstance(value, list):
        return [_words(part) for part in value]
    plain = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else str(value)
