"""The check of one vector: call the implementation, find side effects, compare the value, explain a known deviation."""

import copy
import inspect
import math
import numbers
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.external_process import MissingError
from ict_ref.verify.line_process import ExternalTargetError
from ict_ref.verify.values import TORCH, Arrays, Json, decoded, encoded, number, summary
from ict_ref.verify.vectors import VERSION, Vector, deviations, functions, vectors

Status = Literal["pass", "fail", "skipped", "note", "missing", "waived"]
Kind = Literal["wrong", "elsewhere", "type", "precision", "accepts", "note"]
CALLERS_ARGUMENTS = "a function must not change its arguments"
GLOBAL_STATE = "torch's global state"


@dataclass(frozen=True)
class Result:
    """The result of one vector or law, or of a missing function."""

    id: str
    function: str
    source: str
    status: Status
    got: Json = None
    expected: Json = None
    rtol: float | None = None
    max_rel_error: float | None = None
    deviation: str | None = None
    counterexample: Json = None
    message: str = ""
    kind: Kind = "wrong"
    """What sort of finding a failure is."""


class DifferenceError(Exception):
    """A returned value differs from the expected one; the message describes the difference."""

    def __init__(self, message: str, max_rel_error: float | None = None) -> None:
        super().__init__(message)
        self.max_rel_error = max_rel_error


def check(
    namespace: object,
    *,
    only: Iterable[str] = (),
    arrays: Arrays = TORCH,
    version: int = VERSION,
) -> Iterator[Result]:
    """Yield one result for each vector of each function, or one for a missing function."""
    chosen = list(only) or functions(version)
    for name in chosen:
        function = getattr(namespace, name, None)
        if callable(function):
            for vector in vectors(name, version):
                result = check_vector(function, vector, arrays)
                yield result
                if result.status == "missing":
                    break
        else:
            yield Result(name, name, vectors(name, version)[0].source, "missing", message=f"no function {name}")


def check_vector(function: Callable[..., object], vector: Vector, arrays: Arrays = TORCH) -> Result:
    """Return the result of one vector."""
    passed = Result(vector.name, vector.function, vector.source, "pass", expected=vector.value, rtol=vector.rtol)
    arguments = {name: decoded(value, arrays) for name, value in vector.arguments.items()}
    if mistake := misnamed(function, arguments):
        return _failed(passed, f"cannot be called by the names of the parameters: {mistake}")
    call = _called(function, arguments, vector, arrays)
    if call.raised is not None:
        return _after_exception(passed, vector, call.raised)
    passed = replace(passed, got=encoded(call.got))
    if call.changed_arguments:
        return _failed(passed, f"changed its argument {', '.join(call.changed_arguments)}; {CALLERS_ARGUMENTS}")
    if call.changed_state:
        return _failed(passed, f"changed {GLOBAL_STATE}: {', '.join(call.changed_state)}")
    if vector.result == "invalid":
        return _failed(passed, f"got {short(encoded(call.got))}, should be refused: {vector.comment}")
    return _compared(passed, vector, call.got)


@dataclass(frozen=True)
class _Call:
    """The value or exception of a call, and its side effects."""

    got: object = None
    raised: BaseException | None = None
    changed_arguments: tuple[str, ...] = ()
    changed_state: tuple[str, ...] = ()


def _called(function: Callable[..., object], arguments: dict[str, object], vector: Vector, arrays: Arrays) -> _Call:
    """Call the function and record its value or exception, and its side effects."""
    before = {name: copy.deepcopy(value) for name, value in arguments.items() if is_array(value)}
    try:
        with GlobalStateGuard() as guard:
            got = function(**arguments)
        if vector.apply:
            got = _applied(got, vector, arrays)
    except (Exception, SystemExit) as error:
        return _Call(raised=error)
    changed = tuple(name for name, value in before.items() if not equal_arrays(arguments[name], value))
    return _Call(got, None, changed, tuple(guard.changes))


def _failed(result: Result, message: str) -> Result:
    """Return the result as a failure with this message."""
    return replace(result, status="fail", message=f"{result.id}: {message} [{result.source}]")


def _after_exception(passed: Result, vector: Vector, raised: BaseException) -> Result:
    """Return the result of a call that raised an exception."""
    if isinstance(raised, MissingError):
        return Result(vector.function, vector.function, vector.source, "missing", message=str(raised))
    if isinstance(raised, ExternalTargetError):
        return _failed(passed, str(raised))  # a command that fails does not reject the arguments
    if vector.result == "invalid":
        return passed
    text = " ".join(str(raised).split())[:200]
    return _failed(passed, f"raised {type(raised).__name__}: {text}; should be {short(vector.value)}")


def _compared(passed: Result, vector: Vector, got: object) -> Result:
    """Compare a value with the vector's value and its alternatives."""
    try:
        return replace(passed, max_rel_error=difference(got, vector.value, vector))
    except DifferenceError as wrong:
        if any(agrees(got, alternative, vector) for alternative in vector.alternatives.values()):
            return passed
        return _explained(passed, vector, got, wrong)


def _explained(passed: Result, vector: Vector, got: object, wrong: DifferenceError) -> Result:
    """Return the failure, with the known deviation that returns the same value."""
    deviation = next((name for name, value in vector.deviations.items() if agrees(got, value, vector)), None)
    explanation = f"; {deviations(vector.version)[deviation]}" if deviation else ""
    # All digits are shown where the first six agree.
    digits = 6 if wrong.max_rel_error is None or wrong.max_rel_error > 1e-5 else 17
    values = f"got {short(encoded(got), digits)}, should be {short(vector.value, digits)}"
    failed = _failed(passed, f"{wrong}{values} (rtol {vector.rtol:g}){explanation}")
    return replace(failed, max_rel_error=wrong.max_rel_error, deviation=deviation)


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


def agrees(got: object, value: Json, vector: Vector) -> bool:
    """Return whether a value equals this one, within the vector's tolerance."""
    try:
        difference(got, value, vector)
    except DifferenceError:
        return False
    return True


def difference(got: object, value: Json, vector: Vector) -> float:
    """Return the largest relative error of a returned value. Raises DifferenceError if it is outside the tolerance."""
    expected = decoded(value)
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            raise DifferenceError(f"not {len(expected)} values, ")
        return max(difference(part, encoded(whole), vector) for part, whole in zip(got, expected, strict=True))
    mine, theirs = _of_one_shape(got, expected)
    if not theirs.is_floating_point():
        if mine.is_floating_point() or not torch.equal(mine.to(theirs.dtype), theirs):
            raise DifferenceError("")
        return 0.0
    if mine.is_complex():
        raise DifferenceError("complex, ")
    kept = ~_mask(vector).expand_as(theirs) if vector.compare == "kept" else torch.ones_like(theirs, dtype=torch.bool)
    return _largest_relative_error(mine.detach().double()[kept], theirs.double()[kept], vector.rtol, vector.atol)


def _of_one_shape(got: object, expected: object) -> tuple[Tensor, Tensor]:
    """Return both values as tensors. Raises DifferenceError if their types or shapes differ."""
    if isinstance(expected, int) and not isinstance(got, numbers.Integral) and not _is_integer_array(got):
        raise DifferenceError(f"of type {type(got).__name__}, not a whole number, ")
    try:
        mine = _as_tensor(got)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DifferenceError(f"of type {type(got).__name__}, not a number or an array, ") from error
    theirs = _as_tensor(expected)
    if mine.shape != theirs.shape:
        raise DifferenceError(f"of shape {list(mine.shape)}, not {list(theirs.shape)}, ")
    return mine, theirs


def _largest_relative_error(mine: Tensor, theirs: Tensor, rtol: float, atol: float) -> float:
    """Return the largest relative error. Raises DifferenceError if one is outside the tolerance."""
    apart = (mine - theirs).abs()
    # A tolerance relative to infinity would let every number pass.
    close = (apart <= atol + rtol * theirs.abs()) & theirs.isfinite() | (mine == theirs)
    relative = (apart / theirs.abs().clamp_min(1e-300))[mine != theirs]
    worst = float(relative.max()) if relative.numel() else 0.0
    if not bool(close.all()):
        raise DifferenceError("", worst if math.isfinite(worst) else None)
    return worst


def _applied(operator: object, vector: Vector, arrays: Arrays) -> object:
    [(method, argument)] = vector.apply.items()
    if method == "summary" and isinstance(argument, dict):
        return summary(operator, **argument)
    found: Callable[[object], object] = getattr(operator, method)
    return found(decoded(argument, arrays))


def _mask(vector: Vector) -> Tensor:
    if vector.function == "colorization_operator":
        return formulas.colorization_mask()
    patch = int(number(vector.arguments["patch"]))
    coordinates = torch.as_tensor(decoded(vector.value)).shape[1]
    return formulas.super_resolution_mask(coordinates // patch**2, patch)


def _as_tensor(value: object) -> Tensor:
    """Return a value as a tensor, with Python numbers as float64, which torch would round to float32."""
    found = torch.as_tensor(value)
    return torch.as_tensor(value, dtype=torch.float64) if found.is_floating_point() and not is_array(value) else found


def is_array(value: object) -> bool:
    """Return whether a value is a tensor or an array."""
    return isinstance(value, Tensor | np.ndarray)


def _is_integer_array(value: object) -> bool:
    return is_array(value) and not torch.as_tensor(value).is_floating_point()


def equal_arrays(a: object, b: object) -> bool:
    """Return whether two arrays hold equal values, where NaN equals NaN."""
    one, other = torch.as_tensor(a), torch.as_tensor(b)
    return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())


def short(value: Json, digits: int = 6) -> str:
    """Return a value for a report: numbers with this many digits, and only the beginning of a long array."""
    if isinstance(value, dict) and "tensor" in value:
        complex_numbers = "complex" in str(value["dtype"])
        parts = [] if complex_numbers else torch.as_tensor(decoded(value)).flatten().tolist()
        text = str(value["tensor"]) if len(parts) <= 6 else f"{str(parts[:6])[:-1]}, ...]"
        return _rounded(text.replace("'", ""), digits)
    return _rounded(str(value["float"] if isinstance(value, dict) and "float" in value else value), digits)


def _rounded(text: str, digits: int) -> str:
    return re.sub(r"-?\d+\.\d{6,}(?:e[-+]?\d+)?", lambda match: f"{float(match[0]):.{digits}g}", text)
