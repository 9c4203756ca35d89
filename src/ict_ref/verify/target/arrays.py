"""Arrays of an implementation: their conversion to tensors, their dtype and device, and which kind it takes."""

import contextlib
import numbers
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ict_ref.verify.vectors.load import Json
from ict_ref.verify.vectors.values import Arrays, encoded


def as_tensor(value: Any) -> Tensor:
    """Return a value as a tensor on the CPU, with Python numbers as float64.

    The value may be a tensor, or anything that numpy.asarray or torch.as_tensor takes, such as an array of JAX.

    Raises:
        TypeError: The value is not a number or an array.
    """
    if isinstance(value, Tensor):
        return value.detach().cpu()
    found = _from_numpy(value)
    if found is not None:
        return found
    try:
        found = torch.as_tensor(value)
        # torch would round Python's numbers to float32.
        plain = found.is_floating_point() and isinstance(value, tuple | list | numbers.Number)
        return (torch.as_tensor(value, dtype=torch.float64) if plain else found).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{type(value).__name__} is not a number or an array") from error


def _from_numpy(value: Any) -> Tensor | None:
    """Return an array that NumPy can read as a tensor; None for others, and for plain numbers and lists."""
    if not (isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__")):
        return None
    try:
        return torch.as_tensor(np.array(value))
    except (TypeError, ValueError, RuntimeError):
        return None


def stored(value: Any) -> Json:
    """Return the encoding of a returned value; its text if it is not a number or an array."""
    if isinstance(value, tuple | list):
        return {"tuple": [stored(part) for part in value]}
    found = encoded(value)
    if isinstance(found, str) and not isinstance(value, str):
        with contextlib.suppress(TypeError):
            return encoded(as_tensor(value))
    return found


def as_whole(value: Any) -> Any:
    """Return a whole number of another type, such as 11.0, as an integer; other values are unchanged."""
    with contextlib.suppress(TypeError):
        found = as_tensor(value)
        if found.numel() == 1 and not found.is_complex() and float(found) == found.double().round():
            return int(found)
    return value


def is_array(value: object) -> bool:
    """Return whether a value is a tensor or an array."""
    return isinstance(value, Tensor | np.ndarray)


def is_whole(value: object) -> bool:
    """Return whether a value is a whole number, or an array of whole numbers."""
    if isinstance(value, numbers.Integral):
        return True
    try:
        found = as_tensor(value)
    except TypeError:
        return False
    return hasattr(value, "dtype") and not found.is_floating_point() and not found.is_complex()


def equal_arrays(a: object, b: object) -> bool:
    """Return whether two arrays hold equal values, where NaN equals NaN."""
    one, other = torch.as_tensor(a), torch.as_tensor(b)
    return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())


def placed(arrays: Arrays, dtype: torch.dtype, device: str) -> Arrays:
    """Return arrays of this type with a floating-point dtype and on a device."""
    if dtype == torch.float64 and device == "cpu":
        return arrays

    def of(tensor: Tensor) -> object:
        return arrays.of(tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype))

    return replace(arrays, of=of)
