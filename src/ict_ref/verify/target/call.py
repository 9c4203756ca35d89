"""A call of an implementation: its value or exception, and its side effects."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ict_ref.verify.target.arrays import as_tensor, equal_arrays, is_array
from ict_ref.verify.target.time_limit import NoAnswerError
from ict_ref.verify.vectors.load import Vector
from ict_ref.verify.vectors.values import NUMPY, TORCH, Arrays, decoded, summary


@dataclass(frozen=True)
class Call:
    """The value or exception of a call, and its side effects."""

    got: object = None
    raised: BaseException | None = None
    changed_arguments: tuple[str, ...] = ()
    changed_state: tuple[str, ...] = ()


class GlobalStateGuard:
    """A context that restores torch's global state; `changes` names the parts that the block changed."""

    def __enter__(self) -> "GlobalStateGuard":
        self.changes: list[str] = []
        self._before = self._state()
        return self

    def __exit__(self, *_: object) -> None:
        random, gradients, dtype = self._before
        now = self._state()
        if not torch.equal(random, now[0]):
            self.changes.append("the random state")
            torch.set_rng_state(random)
        if gradients != now[1]:
            self.changes.append("the gradient mode")
            torch.set_grad_enabled(gradients)
        if dtype != now[2]:
            self.changes.append("the default dtype")
            torch.set_default_dtype(dtype)

    @staticmethod
    def _state() -> tuple[Tensor, bool, torch.dtype]:
        return torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()


def called(function: Callable[..., object], vector: Vector, arrays: Arrays) -> Call:
    """Call a function with a vector's arguments, and record its value or exception, and its side effects."""
    arguments = {name: decoded(value, arrays) for name, value in vector.arguments.items()}
    before = {name: copy.deepcopy(value) for name, value in arguments.items() if is_array(value)}
    guard = GlobalStateGuard()
    got, raised = None, None
    try:
        with guard:
            got = function(**arguments)
        if vector.apply:
            got = applied(got, vector, arrays)
    except (Exception, SystemExit, NoAnswerError) as error:
        raised = error
    changed = tuple(name for name, value in before.items() if not equal_arrays(arguments[name], value))
    return Call(got, raised, changed, tuple(guard.changes))


def applied(operator: object, vector: Vector, arrays: Arrays = TORCH) -> object:
    """Return what a vector compares of a returned value: a method's value, or the summary of a large one."""
    [(method, argument)] = vector.apply.items()
    if method == "summary" and isinstance(argument, dict):
        return summary(as_tensor(operator), **argument)
    found: Callable[[object], object] = getattr(operator, method)
    return found(decoded(argument, arrays))


def misnamed(function: Callable[..., object], arguments: dict[str, object]) -> str | None:
    """Return why a function cannot be called by these names; None if it can, or if its signature is not available."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(**arguments)
    except TypeError as error:
        return str(error)
    return None


def recognised(function: Callable[..., object], vector: Vector) -> Arrays | None:
    """Return the arrays that a function takes, or None if it takes both.

    They are NumPy's if it returns them, or takes them and not every tensor. `vector` is a vector with a value.
    """
    has_arrays = "{'tensor': " in str(vector.arguments)
    if misnamed(function, dict(vector.arguments)):
        return TORCH
    with_tensors, with_numpy = (called(function, vector, arrays) for arrays in (TORCH, NUMPY))
    if not has_arrays or isinstance(with_tensors.got, np.ndarray | np.generic):
        return NUMPY if isinstance(with_tensors.got, np.ndarray) else None
    if with_numpy.raised is not None:
        return TORCH
    # NumPy's functions take tensors too, but not those that need a gradient.
    if with_tensors.raised or called(function, vector, NEEDING_GRADIENTS).raised:
        return NUMPY
    return TORCH if isinstance(with_numpy.got, Tensor) else None


NEEDING_GRADIENTS = Arrays(
    "torch", lambda tensor: tensor.detach().requires_grad_() if tensor.is_floating_point() else tensor
)
