"""The vectors: arguments, expected values, and the values that known deviations return.

They are package data in a folder per version. `nox -s vectors` generates the newest from mpmath oracles. Versions are
not edited by hand, and earlier ones stay as they were published.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal

from ict_ref.verify.values import Json

Verdict = Literal["valid", "invalid", "acceptable"]
# A change of the value, the name or the meaning of any vector or argument increases the version.
VERSION = 2


@dataclass(frozen=True)
class Deviation:
    """A known deviation: its id, its description, its effect on training and its frequency."""

    name: str
    function: str
    what: str
    effect: str
    seen_in: str

    def __str__(self) -> str:
        """Return id and description in one line."""
        return f"{self.name}: {self.what}; {self.effect}; seen in {self.seen_in}"


@dataclass(frozen=True)
class Vector:
    """One call and its result."""

    function: str
    source: str
    id: int
    comment: str
    arguments: dict[str, Json]
    result: Verdict
    value: Json
    rtol: float
    atol: float
    deviations: dict[str, Json]
    alternatives: dict[str, Json]
    apply: dict[str, Json]
    compare: str
    version: int = VERSION

    @property
    def name(self) -> str:
        """The name in reports and waivers: pseudo_huber#3."""
        return f"{self.function}#{self.id}"


FIELDS: dict[str, Json] = {
    "id": None,
    "comment": None,
    "arguments": None,
    "result": None,
    "value": None,
    "rtol": 0.0,
    "atol": 0.0,
    "deviations": {},
    "alternatives": {},
    "apply": {},
    "compare": "all",
}


def _folder(version: int) -> Traversable:
    return files("ict_ref.verify") / "data" / f"v{version}"


def read(name: str, version: int = VERSION) -> dict[str, Any]:
    """Return one of the files of vectors."""
    content: dict[str, Any] = json.loads((_folder(version) / f"{name}.json").read_text("utf-8"))
    return content


@cache
def vectors(function: str, version: int = VERSION) -> tuple[Vector, ...]:
    """Return the vectors of a function."""
    content = read(function, version)
    return tuple(
        Vector(function=function, source=content["source"], version=version, **{**FIELDS, **entry})
        for entry in content["vectors"]
    )


@cache
def functions(version: int = VERSION) -> tuple[str, ...]:
    """Return the functions that have vectors, in alphabetical order."""
    names = (path.name.removesuffix(".json") for path in _folder(version).iterdir())
    return tuple(sorted(name for name in names if name not in ("deviations", "trace")))


@cache
def deviations(version: int = VERSION) -> dict[str, Deviation]:
    """Return the known deviations by id."""
    book, keys = read("deviations", version), ("function", "what", "effect", "seen_in")
    return {name: Deviation(name, *(entry[key] for key in keys)) for name, entry in book.items()}
