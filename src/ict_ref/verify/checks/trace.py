"""The trace of one training step on a tiny batch: the first value that differs is the one to fix.

`data/trace.json` has the values in the order of computation, each with its meaning. A namespace computes those that are
formulas, from the correct earlier values. A user's file may have any of the values.
"""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ict_ref.utils.json_file import shown
from ict_ref.utils.regular_file import read_regular
from ict_ref.verify.checks.check import Calling, check_call, check_vector
from ict_ref.verify.checks.result import FAILING, Result
from ict_ref.verify.errors import VerifyError
from ict_ref.verify.target.call import misnamed
from ict_ref.verify.vectors.load import VERSION, Json, Vector, read
from ict_ref.verify.vectors.values import TORCH, Arrays, decoded

FUNCTION = "trace"


class TraceError(VerifyError):
    """A file of values cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class TracedValue:
    """One value of the step, as a vector of the function that computes it."""

    vector: Vector
    name: str
    function: str | None


@cache
def entries(version: int = VERSION) -> tuple[TracedValue, ...]:
    """Return the values of the step, in order."""
    book = read(FUNCTION, version)
    known: dict[str, Json] = dict(book["inputs"])
    found = []
    for number, row in enumerate(book["values"], start=1):
        arguments = {name: _looked_up(value, known) for name, value in row.get("arguments", {}).items()}
        vector = Vector(
            FUNCTION, row["source"], number, row["meaning"], arguments, "valid", row["value"], row["rtol"],
            0.0, {}, {}, {}, "all", version,
        )  # fmt: skip
        known[row["name"]] = row["value"]
        found.append(TracedValue(vector, row["name"], row.get("function")))
    return tuple(found)


def _looked_up(value: Json, known: dict[str, Json]) -> Json:
    """Return an argument, or the earlier value that it names."""
    return known[str(value["value"])] if isinstance(value, dict) and value.keys() == {"value"} else value


def inputs(version: int = VERSION) -> str:
    """Return the inputs of the step, and the names and meanings of its values, as JSON."""
    book = read(FUNCTION, version)
    values = {row["name"]: row["meaning"] for row in book["values"]}
    return json.dumps({"network": book["network"], "inputs": book["inputs"], "values": values}, indent=1)


def check_trace(
    namespace: object,
    arrays: Arrays = TORCH,
    version: int = VERSION,
    calling: Mapping[str, Calling] | None = None,
) -> Iterator[Result]:
    """Yield a result for each value that the namespace can compute, up to the first that is wrong.

    `calling` is how each function is called, by its name; by default with `arrays`.
    """
    how = calling or {}
    for traced in entries(version):
        function = getattr(namespace, traced.function, None) if traced.function else None
        if callable(function):
            one = how.get(str(traced.function), Calling(arrays))
            if misnamed(function, dict.fromkeys(traced.vector.arguments)):
                continue  # the vectors report it
            result = _named(traced, check_call(function, traced.vector, one, traced.function)[0])
            yield result
            if result.status == "fail" and result.kind in FAILING:
                return


def compare_file(path: Path, rtol: float | None = None, version: int = VERSION) -> Iterator[Result]:
    """Yield a result for each value in a user's file, up to the first that differs.

    Raises:
        TraceError: The file cannot be read, or is not an object of values of the step.
    """
    given = _read_values(path)
    known = [traced.name for traced in entries(version)]
    if unknown := sorted(given.keys() - set(known)):
        raise TraceError(f"{path}: {unknown[0]} is not a value of the step; the values are {', '.join(known)}")
    if not given:
        raise TraceError(f"{path}: expected some of the values {', '.join(known)}, got an empty object")
    for traced in entries(version):
        if traced.name in given:
            result = _named(traced, check_vector(_constant(given[traced.name]), _loosened(traced.vector, rtol)))
            # The tolerance of a file is that of --rtol.
            result = replace(result, kind="wrong") if result.kind == "precision" else result
            yield result
            if result.status == "fail":
                return


LARGEST = 2**28
"""Largest trace in bytes."""
DEEPEST = 8
"""Deepest lists in lists: a batch of images has four."""


def _read_values(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(read_regular(path, LARGEST))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError, OverflowError, MemoryError) as error:
        raise TraceError(f"{path} is not JSON: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict):
        raise TraceError(f"{path}: expected an object of names and nested lists, got a {type(given).__name__}")
    for name, value in given.items():
        if _depth(value) > DEEPEST:
            raise TraceError(f"{path}: expected lists in lists up to {DEEPEST} deep, got deeper ones for {shown(name)}")
    return given


def _depth(value: Json) -> int:
    """Return how deep lists are nested, without recursion."""
    level, depth = [value], 0
    while level := [inner for one in level if isinstance(one, list) for inner in one]:
        depth += 1
    return depth


def _constant(value: Json) -> Callable[..., object]:
    """Return a function that returns this value for all arguments."""
    if isinstance(value, list):
        # A ragged list, or one with other values than numbers, stays a list, and its check fails.
        with contextlib.suppress(TypeError, ValueError, OverflowError, RuntimeError):
            value = torch.tensor(value, dtype=torch.float64 if _has_floats(value) else None)
    return lambda **_: value


def _has_floats(value: Json) -> bool:
    return any(map(_has_floats, value)) if isinstance(value, list) else isinstance(value, float)


def _loosened(vector: Vector, rtol: float | None) -> Vector:
    """Return the vector with a tolerance for a narrower dtype, relative to the largest value."""
    if rtol is None:
        return vector
    largest = float(torch.as_tensor(decoded(vector.value)).double().abs().max())
    return replace(vector, rtol=rtol, atol=rtol * largest)


def _named(traced: TracedValue, result: Result) -> Result:
    """Return the result with the value's name, and its meaning in the message of a failure."""
    name = f"{FUNCTION}:{traced.name}"
    reason = result.message.removeprefix(f"{traced.vector.name}: ")
    message = f"{name}: the first value of a training step that differs, {traced.vector.comment}: {reason}"
    function = traced.function or FUNCTION
    return replace(result, id=name, function=function, message=message if result.status == "fail" else "")
