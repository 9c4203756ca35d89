"""The vectors: arguments, expected values, and the values that known deviations return.

They are package data in a folder per version. `nox -s vectors` generates the newest from mpmath oracles. Versions are
not edited by hand, and earlier ones stay as they were published. `data/VECTORS.md` describes the files.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, Literal, TypeAlias

# A value in JSON; a recursive type cannot be checked at run time.
Json: TypeAlias = object
Verdict = Literal["valid", "invalid", "acceptable"]
# A change of the value, the name or the meaning of any vector or argument increases the version.
VERSION = 3


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
class Note:
    """The meaning of a flag: the kind of bug that a vector with it finds, and its effect."""

    flag: str
    bug_type: str
    description: str
    effect: str


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
    flags: tuple[str, ...] = ()
    digits: Json = None
    """The value in 30 digits, as text in nested lists; None if it is not a real number, or before version 3."""

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


# Papers by the first word of a `Source:` line, in the order of a report; what others print belongs to the first.
PAPERS = ("iCT", "ECT", "sCM", "TCM", "sLCT")


def paper_of(source: str) -> str:
    """Return the paper of a function by its source; what iCT takes from other papers belongs to iCT."""
    return next((paper for paper in PAPERS if source.startswith(f"{paper}, ")), PAPERS[0])


# Files of a version that do not belong to one function.
OTHERS = ("deviations", "trace", "schema")


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
        Vector(
            function=function,
            source=content["source"],
            version=version,
            **{**FIELDS, **entry, "flags": tuple(entry["flags"] if "flags" in entry else _flags(entry))},
        )
        for entry in content["vectors"]
    )


def _flags(entry: dict[str, Any]) -> Iterator[str]:
    """Yield the flags of a vector of a version without flags."""
    if entry["result"] == "invalid":
        yield "Refusal"
    if re.search(r"\bno (event )?axes\b", str(entry["comment"])):
        yield "NoEventAxes"


def is_refusal(vector: Vector) -> bool:
    """Return whether a vector has arguments that are to be rejected."""
    return vector.result == "invalid" or "Refusal" in vector.flags


@cache
def functions(version: int = VERSION) -> tuple[str, ...]:
    """Return the functions that have vectors, in alphabetical order."""
    return tuple(name for name in _names(version) if name not in OTHERS)


def _names(version: int) -> list[str]:
    names = (path.name for path in _folder(version).iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


@cache
def notes(version: int = VERSION) -> dict[str, Note]:
    """Return the meaning of each flag. Versions 1 and 2 do not have flags."""
    books = (read(function, version).get("notes", {}) for function in functions(version))
    keys = ("bug_type", "description", "effect")
    return {flag: Note(flag, *(note[key] for key in keys)) for book in books for flag, note in book.items()}


@cache
def checksum(version: int = VERSION) -> str:
    """Return the SHA-256 of a version: that of its list of checksums, one line for each JSON file.

    The list is what `sha256sum *.json` prints, sorted by name; version 3 has it as the file SHA256SUMS.
    """
    return hashlib.sha256(checksums(version).encode()).hexdigest()


def checksums(version: int = VERSION) -> str:
    """Return the SHA-256 of each JSON file of a version, in the format of `sha256sum`."""
    folder = _folder(version)
    files_and_digests = ((f"{name}.json", (folder / f"{name}.json").read_bytes()) for name in _names(version))
    return "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files_and_digests)


@cache
def deviations(version: int = VERSION) -> dict[str, Deviation]:
    """Return the known deviations by id."""
    book, keys = read("deviations", version), ("function", "what", "effect", "seen_in")
    # Versions 1 and 2 have the entries alone.
    entries = book.get("deviations", book)
    return {name: Deviation(name, *(entry[key] for key in keys)) for name, entry in entries.items()}
