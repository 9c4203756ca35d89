"""The scatter of a formula's value in a dtype, by evaluations whose arguments and operations are rounded at random.

Each evaluation multiplies every floating-point argument, and the result of every operation, by 1 + u eps. There, u is
uniform in [-1, 1], and eps is the dtype's. An implementation in that dtype cannot be expected to come closer than this
scatter. It is large where a formula is ill-conditioned, such as where two close numbers are subtracted.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ict_ref import formulas
from ict_ref.verify.checks.known_deviations import AS_PRINTED
from ict_ref.verify.target.call import applied, misnamed
from ict_ref.verify.vectors.load import Vector
from ict_ref.verify.vectors.values import decoded

EVALUATIONS = 8
"""Evaluations of each form of a formula."""


class RandomRounding(TorchFunctionMode):
    """A mode in which every operation of torch has a random relative error of at most `eps`."""

    def __init__(self, eps: float, seed: int) -> None:
        super().__init__()
        self.eps, self.generator = eps, torch.Generator().manual_seed(seed)

    def rounded(self, value: Any) -> Any:
        """Return a number or a tensor of numbers with a random relative error; other values are unchanged."""
        if isinstance(value, Tensor) and value.is_floating_point():
            noise = torch.rand(value.shape, generator=self.generator, dtype=torch.float64)
            return value * (1 + self.eps * (2 * noise - 1))
        if isinstance(value, float):
            return value * (1 + self.eps * (2 * float(torch.rand((), generator=self.generator)) - 1))
        if type(value) in (tuple, list):
            return type(value)(map(self.rounded, value))
        return value

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the value of an operation, rounded."""
        return self.rounded(func(*args, **(kwargs or {})))


def scatter(vector: Vector, formula: str, dtype: torch.dtype) -> tuple[object, ...]:
    """Return values of a formula with rounded arguments and operations; none if the reference rejects all of them.

    `formula` is its name in `ict_ref.formulas`. The arguments are those of the vector.
    """
    key = (formula, dtype, str(vector.arguments), str(vector.apply))
    if key not in _SCATTERS:
        _SCATTERS[key] = tuple(_scatter(vector, formula, torch.finfo(dtype).eps))
    return _SCATTERS[key]


_SCATTERS: dict[tuple[str, torch.dtype, str, str], tuple[object, ...]] = {}


def _scatter(vector: Vector, formula: str, eps: float) -> Iterator[object]:
    forms: tuple[Callable[..., object] | None, ...] = (getattr(formulas, formula, None), AS_PRINTED.get(formula))
    arguments = {name: decoded(value) for name, value in vector.arguments.items()}
    for form in forms:
        if form is not None and misnamed(form, arguments) is None:
            for seed in range(EVALUATIONS):
                yield from _evaluated(form, arguments, vector, eps, seed)


def _evaluated(
    form: Callable[..., Any], arguments: dict[str, object], vector: Vector, eps: float, seed: int
) -> list[object]:
    """Return one value in a list, or an empty list if the formula rejects the rounded arguments."""
    mode = RandomRounding(eps, seed)
    rounded = {name: value if callable(value) else _rounded(value, mode) for name, value in arguments.items()}
    # Probabilities whose sum is rounded are rejected: then only the arguments are rounded.
    for context in (mode, contextlib.nullcontext()):
        with contextlib.suppress(ValueError, RuntimeError, ArithmeticError, IndexError), context:
            value = form(**rounded)
            return [applied(value, vector) if vector.apply else value]
    return []


def is_in_reach(vector: Vector, formula: str, dtype: torch.dtype) -> bool:
    """Return whether the reference accepts a vector's arguments after they are rounded to a dtype.

    A level just above sigma_min, or a uniform just below 1, is outside the domain in a narrow dtype. In bfloat16 the
    reference must also accept arguments with random rounding, where neighbours among many levels can change places.
    """
    form: Callable[..., object] | None = getattr(formulas, formula, None)
    arguments = {name: decoded(value) for name, value in vector.arguments.items()}
    if form is None or misnamed(form, arguments):
        return True
    try:
        form(**{name: _nearest(value, dtype) for name, value in arguments.items()})
    except ValueError:
        return False
    return dtype != torch.bfloat16 or bool(scatter(vector, formula, dtype))


def _nearest(value: object, dtype: torch.dtype) -> object:
    """Return an argument with the nearest numbers of a dtype, in float64."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.to(dtype).double()
    if isinstance(value, float):
        return float(torch.tensor(value, dtype=torch.float64).to(dtype))
    return tuple(_nearest(part, dtype) for part in value) if isinstance(value, tuple) else value


def _rounded(value: object, mode: RandomRounding) -> object:
    """Return an argument, rounded; rows of probabilities still sum to 1."""
    found = mode.rounded(value)
    if isinstance(value, Tensor) and value.is_floating_point() and value.ndim and value.numel():
        sums = value.sum(-1, keepdim=True)
        if bool(((sums - 1).abs() < 1e-9).all() and (value >= 0).all()):
            return found / found.sum(-1, keepdim=True)
    return found
