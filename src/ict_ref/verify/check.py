"""Run the vectors on an implementation: what it returns, refuses, or does wrong, and by which known slip."""

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
from ict_ref.verify.peer import MissingError, PeerError
from ict_ref.verify.values import TORCH, Arrays, Json, decoded, encoded, number
from ict_ref.verify.vectors import VERSION, Vector, deviations, functions, vectors

Status = Literal["pass", "fail", "missing", "waived"]


@dataclass(frozen=True)
class Result:
    """What came of one vector, or that a function is missing."""

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


class DifferenceError(Exception):
    """What an implementation returned is not what it should be; the message says how."""

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
    """Return one result for each vector of each function, or one for a function that is missing."""
    chosen = list(only) or functions(version)
    for name in chosen:
        function = getattr(namespace, name, None)
        if callable(function):
            for vector in vectors(name, version):
                result = run(function, vector, arrays)
                yield result
                if result.status == "missing":
                    break
        else:
            yield Result(name, name, vectors(name, version)[0].source, "missing", message=f"no function {name}")


def run(function: Callable[..., object], vector: Vector, arrays: Arrays = TORCH) -> Result:
    """Return what came of one vector."""
    passed = Result(vector.name, vector.function, vector.source, "pass", expected=vector.value, rtol=vector.rtol)

    def failed(message: str) -> Result:
        sentence = f"{vector.name}: {message} [{vector.source}]"
        return replace(passed, status="fail", message=sentence)

    arguments = {name: decoded(value, arrays) for name, value in vector.arguments.items()}
    if mistake := misnamed(function, arguments):
        return failed(f"cannot be called by the names of the parameters: {mistake}")
    before = {name: copy.deepcopy(value) for name, value in arguments.items() if is_array(value)}
    try:
        with World() as world:
            got = function(**arguments)
        if vector.apply:
            got = _applied(got, vector, arrays)
    except MissingError as missing:
        return Result(vector.function, vector.function, vector.source, "missing", message=str(missing))
    except PeerError as silent:
        return failed(str(silent))  # no answer is no refusal
    except (Exception, SystemExit) as raised:
        if vector.result == "invalid":
            return passed
        said = " ".join(str(raised).split())[:200]
        return failed(f"raised {type(raised).__name__}: {said}; should be {short(vector.value)}")
    passed = replace(passed, got=encoded(got))
    changed = [name for name, value in before.items() if not same(arguments[name], value)]
    if changed:
        return failed(f"changed its argument {', '.join(changed)}; arguments are the caller's")
    if world.changes:
        return failed(f"changed {', '.join(world.changes)}, which is everybody's")
    if vector.result == "invalid":
        return failed(f"got {short(encoded(got))}, should be refused: {vector.comment}")
    try:
        return replace(passed, max_rel_error=difference(got, vector.value, vector))
    except DifferenceError as wrong:
        if any(agrees(got, alternative, vector) for alternative in vector.alternatives.values()):
            return passed
        slip = next((name for name, value in vector.deviations.items() if agrees(got, value, vector)), None)
        story = f"; {deviations(vector.version)[slip]}" if slip else ""
        # Where six digits agree all are shown.
        digits = 6 if wrong.max_rel_error is None or wrong.max_rel_error > 1e-5 else 17
        values = f"got {short(encoded(got), digits)}, should be {short(vector.value, digits)}"
        sentence = f"{wrong}{values} (rtol {vector.rtol:g}){story}"
        return replace(failed(sentence), max_rel_error=wrong.max_rel_error, deviation=slip)


def misnamed(function: Callable[..., object], arguments: dict[str, object]) -> str | None:
    """Return why a function cannot be called by these names, or None if it can, or does not say."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(**arguments)
    except TypeError as error:
        return str(error)
    return None


class World:
    """What a function shares with all others, as it was before; what it changed is named and put back."""

    def __enter__(self) -> "World":
        self.changes: list[str] = []
        self._before = self._state()
        return self

    def __exit__(self, *_: object) -> None:
        random, gradients, dtype = self._before
        now = self._state()
        if not torch.equal(random, now[0]):
            self.changes.append("torch's random state")
            torch.set_rng_state(random)
        if gradients != now[1]:
            self.changes.append("whether torch records gradients")
            torch.set_grad_enabled(gradients)
        if dtype != now[2]:
            self.changes.append("torch's default dtype")
            torch.set_default_dtype(dtype)

    @staticmethod
    def _state() -> tuple[Tensor, bool, torch.dtype]:
        return torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()


def agrees(got: object, value: Json, vector: Vector) -> bool:
    """Return whether a value is this one, within the vector's tolerance."""
    try:
        difference(got, value, vector)
    except DifferenceError:
        return False
    return True


def difference(got: object, value: Json, vector: Vector) -> float:
    """Return the largest relative error of what came back, or raise DifferenceError if it is not the value."""
    expected = decoded(value)
    if isinstance(expected, tuple):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            raise DifferenceError(f"not {len(expected)} values, ")
        return max(difference(part, encoded(whole), vector) for part, whole in zip(got, expected, strict=True))
    if isinstance(expected, int) and not isinstance(got, numbers.Integral) and not _is_integer_array(got):
        raise DifferenceError(f"of type {type(got).__name__}, not a whole number, ")
    try:
        mine = _as_tensor(got)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DifferenceError(f"of type {type(got).__name__}, not a number or an array, ") from error
    theirs = _as_tensor(expected)
    if mine.shape != theirs.shape:
        raise DifferenceError(f"of shape {list(mine.shape)}, not {list(theirs.shape)}, ")
    if not theirs.is_floating_point():
        if mine.is_floating_point() or not torch.equal(mine.to(theirs.dtype), theirs):
            raise DifferenceError("")
        return 0.0
    if mine.is_complex():
        raise DifferenceError("complex, ")
    mine, theirs = mine.detach().double(), theirs.double()
    if vector.compare == "kept":
        mine, theirs = mine[~_mask(vector).expand_as(mine)], theirs[~_mask(vector).expand_as(theirs)]
    apart = (mine - theirs).abs()
    # A tolerance relative to infinity would let every number pass.
    close = (apart <= vector.atol + vector.rtol * theirs.abs()) & theirs.isfinite() | (mine == theirs)
    relative = (apart / theirs.abs().clamp_min(1e-300))[mine != theirs]
    worst = float(relative.max()) if relative.numel() else 0.0
    if not bool(close.all()):
        raise DifferenceError("", worst if math.isfinite(worst) else None)
    return worst


def _applied(operator: object, vector: Vector, arrays: Arrays) -> object:
    [(method, argument)] = vector.apply.items()
    found: Callable[[object], object] = getattr(operator, method)
    return found(decoded(argument, arrays))


def _mask(vector: Vector) -> Tensor:
    if vector.function == "colorization_operator":
        return formulas.colorization_mask()
    patch = int(number(vector.arguments["patch"]))
    coordinates = torch.as_tensor(decoded(vector.value)).shape[1]
    return formulas.super_resolution_mask(coordinates // patch**2, patch)


def _as_tensor(value: object) -> Tensor:
    """Return a value as a tensor, Python's numbers as float64, where torch would round them to float32."""
    found = torch.as_tensor(value)
    return torch.as_tensor(value, dtype=torch.float64) if found.is_floating_point() and not is_array(value) else found


def is_array(value: object) -> bool:
    """Return whether a value is a tensor or an array."""
    return isinstance(value, Tensor | np.ndarray)


def _is_integer_array(value: object) -> bool:
    return is_array(value) and not torch.as_tensor(value).is_floating_point()


def same(a: object, b: object) -> bool:
    """Return whether two arrays hold the same, a NaN being the same as a NaN."""
    one, other = torch.as_tensor(a), torch.as_tensor(b)
    return one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())


def short(value: Json, digits: int = 6) -> str:
    """Return a value as a report has it: so many digits, and of a long one the beginning."""
    if isinstance(value, dict) and "tensor" in value:
        complex_numbers = "complex" in str(value["dtype"])
        parts = [] if complex_numbers else torch.as_tensor(decoded(value)).flatten().tolist()
        text = str(value["tensor"]) if len(parts) <= 6 else f"{str(parts[:6])[:-1]}, ...]"
        return _rounded(text.replace("'", ""), digits)
    return _rounded(str(value["float"] if isinstance(value, dict) and "float" in value else value), digits)


def _rounded(text: str, digits: int) -> str:
    return re.sub(r"-?\d+\.\d{6,}(?:e[-+]?\d+)?", lambda match: f"{float(match[0]):.{digits}g}", text)
