"""One training step on a tiny batch, value after value: the first that differs is the one to mend.

`data/trace.json` has the values in the order in which a step computes them, each with its meaning. A namespace is asked
for those that a formula computes, given the right values before them; a file of somebody's own has as many as it likes.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ict_ref.verify.check import Result, run
from ict_ref.verify.values import TORCH, Arrays, Json, decoded
from ict_ref.verify.vectors import VERSION, Vector, read

FUNCTION = "trace"


class TraceError(Exception):
    """A file of values cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class Entry:
    """One value of the step, as a vector of what computes it."""

    vector: Vector
    name: str
    function: str | None


@cache
def entries(version: int = VERSION) -> tuple[Entry, ...]:
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
        found.append(Entry(vector, row["name"], row.get("function")))
    return tuple(found)


def _looked_up(value: Json, known: dict[str, Json]) -> Json:
    """Return an argument, or the earlier value that it names."""
    return known[str(value["value"])] if isinstance(value, dict) and value.keys() == {"value"} else value


def inputs(version: int = VERSION) -> str:
    """Return what the step is given, and the names and meanings of its values, as JSON."""
    book = read(FUNCTION, version)
    values = {row["name"]: row["meaning"] for row in book["values"]}
    return json.dumps({"network": book["network"], "inputs": book["inputs"], "values": values}, indent=1)


def follow(namespace: object, arrays: Arrays = TORCH, version: int = VERSION) -> Iterator[Result]:
    """Return a result for each value that the namespace can compute, up to the first that differs."""
    for entry in entries(version):
        function = getattr(namespace, entry.function, None) if entry.function else None
        if callable(function):
            result = _named(entry, run(function, entry.vector, arrays))
            yield result
            if result.status == "fail":
                return


def compare(path: Path, rtol: float | None = None, version: int = VERSION) -> Iterator[Result]:
    """Return a result for each value in a file of somebody's own, up to the first that differs."""
    given = _read_values(path)
    known = [entry.name for entry in entries(version)]
    if unknown := sorted(given.keys() - set(known)):
        raise TraceError(f"{path}: no value of the step is called {unknown[0]}; there are {', '.join(known)}")
    if not given:
        raise TraceError(f"{path}: needs some of the values {', '.join(known)}; got none")
    for entry in entries(version):
        if entry.name in given:
            result = _named(entry, run(_constant(given[entry.name]), _loosened(entry.vector, rtol)))
            yield result
            if result.status == "fail":
                return


def _read_values(path: Path) -> dict[str, Any]:
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise TraceError(f"{path} is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise TraceError(f"{path}: needs an object of names and nested lists; got a {type(given).__name__}")
    return given


def _constant(value: Json) -> Callable[..., object]:
    """Return a function that returns this value whatever it is asked."""
    if isinstance(value, list):
        # A list that is ragged, or not of numbers, stays what it is, and the report says so.
        with contextlib.suppress(TypeError, ValueError):
            value = torch.tensor(value, dtype=torch.float64 if _has_floats(value) else None)
    return lambda **_: value


def _has_floats(value: Json) -> bool:
    return any(map(_has_floats, value)) if isinstance(value, list) else isinstance(value, float)


def _loosened(vector: Vector, rtol: float | None) -> Vector:
    """Return the vector with a tolerance for values in a narrower dtype: relative to the largest of them."""
    if rtol is None:
        return vector
    largest = float(torch.as_tensor(decoded(vector.value)).double().abs().max())
    return replace(vector, rtol=rtol, atol=rtol * largest)


def _named(entry: Entry, result: Result) -> Result:
    """Return the result with the value's name; of a failure, what the value is."""
    name = f"{FUNCTION}:{entry.name}"
    said = result.message.removeprefix(f"{entry.vector.name}: ")
    message = f"{name}: the first value of a training step that differs, {entry.vector.comment}: {said}"
    function = entry.function or FUNCTION
    return replace(result, id=name, function=function, message=message if result.status == "fail" else "")
