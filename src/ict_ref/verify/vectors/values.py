"""The encoding of values in a vector's JSON, and their conversion to arguments of an implementation under test.

A number is itself. A tensor is {"tensor": nested lists, "dtype": name}, a tuple {"tuple": list}. Numbers that JSON
cannot hold are {"float": "nan"}. A function that the formula calls is {"callback": name, its numbers}. Large tensors
are {"generated": {"seed": ...}} or {"levels": N}. Tensors are float64, int64 or bool, on the CPU. `data/VECTORS.md`
defines all of them for other languages.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.vectors.load import Json

# The attribute of a generated tensor that holds its encoding in the vector.
ENCODING = "encoding_in_vector"
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


class NamedFunction:
    """A function that a vector names; its encoding lets a program in another language compute it."""

    def __init__(self, encoding: Json, function: Callable[..., object]) -> None:
        self.encoding, self.function = encoding, function

    def __call__(self, *arguments: object) -> object:
        """Return the value of the function."""
        return self.function(*arguments)


@dataclass(frozen=True)
class NamedOperator(formulas.Operator):
    """An operator that a vector names, with its encoding."""

    encoding: Json


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
    raise ValueError(f"expected a number, got {value!r}; see ict_ref/verify/vectors/values.py")


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
    if isinstance(value.get("generated"), dict):
        return _with_encoding(arrays.of(generated(**value["generated"])), value)
    if "levels" in value:
        return _with_encoding(arrays.of(generated_levels(int(number(value["levels"])))), value)
    raise ValueError(
        f"expected a tensor, tuple, float, callback, generated or levels, got {value!r}; "
        "see ict_ref/verify/vectors/values.py"
    )


def _with_encoding(array: object, encoding: Json) -> object:
    """Return an array that keeps its short encoding; numbers of this size in full would take seconds to send."""
    if isinstance(array, Tensor):
        setattr(array, ENCODING, encoding)
    return array


def _callback(value: dict[str, Json], arrays: Arrays) -> object:
    """Return the function, or the operator, that a vector names."""
    name = str(value["callback"])
    options = {key: part for key, part in value.items() if key != "callback"}
    if name not in OPERATORS:
        return NamedFunction(value, arrays.wrapped(partial(CALLBACKS[name], **options)))
    operator = OPERATORS[name](**options)
    forward, inverse = arrays.wrapped(operator.forward), arrays.wrapped(operator.inverse)
    return NamedOperator(forward, inverse, value)  # type: ignore[arg-type]


def random_bits(seed: int, count: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    """Return the first 64-bit integers of SplitMix64 from a seed.

    Source: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators".
    """
    # Products and sums of uint64 arrays are modulo 2^64.
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def generated(seed: int, shape: Sequence[int], low: float = 0.0, high: float = 1.0, below: int | None = None) -> Tensor:
    """Return the tensor of a seed: float64 in [low, high), or int64 in [0, below).

    u is the upper 53 bits of an integer of SplitMix64, divided by 2^53. A value is low + (high - low) u, or
    floor(below u). Values fill the last axis first.
    """
    u = (random_bits(seed, math.prod(shape)) >> np.uint64(11)) * 2.0**-53
    values = low + (high - low) * u if below is None else np.floor(below * u).astype(np.int64)
    return torch.from_numpy(values.reshape(tuple(shape)))


# The doubles nearest to 0.002^(1/7) and 80^(1/7).
LEVEL_ROOTS = (0.4115597137836079, 1.8701222535385968)


def generated_levels(n: int) -> Tensor:
    """Return n levels from 0.002 to 80, which every language computes to the same bit.

    They are the paper's, up to a few roundings: t^7 by six products, t = a + i (b - a) / (n - 1).
    """
    a, b = LEVEL_ROOTS
    t = a + np.arange(n, dtype=np.float64) * (b - a) / (n - 1)
    levels = t * t * t * t * t * t * t
    levels[0], levels[-1] = 0.002, 80.0
    return torch.from_numpy(levels)


def summary(value: object, entries: Sequence[int]) -> Tensor:
    """Return the shape, the mean, the Euclidean norm and some entries of a large value.

    Entries are counted in the flattened value; the last one stands for an entry beyond it.
    """
    found = torch.as_tensor(value).detach().double()
    flat = found.flatten()
    parts = [flat.mean(), flat.norm(), *(flat[min(entry, len(flat) - 1)] for entry in entries)]
    return torch.cat([torch.tensor(found.shape, dtype=torch.float64), torch.stack(parts)])


def encoded(value: object) -> Json:
    """Return the encoding of a value in a vector, or its text if it has no encoding."""
    if isinstance(value, NamedFunction | NamedOperator):
        return value.encoding
    if hasattr(value, ENCODING):
        return getattr(value, ENCODING)
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
