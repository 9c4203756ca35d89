"""The result of one check: its status, and the kind of what was found."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ict_ref.verify.vectors.load import Json

Status: TypeAlias = Literal["pass", "fail", "skipped", "note", "missing", "waived"]
Kind: TypeAlias = Literal["wrong", "elsewhere", "type", "precision", "accepts", "note"]
FAILING: frozenset[Kind] = frozenset({"wrong", "elsewhere"})
"""Kinds of findings that fail without --strict."""
MEANINGS: dict[Kind, str] = {
    "wrong": "wrong at the paper's settings",
    "elsewhere": "wrong at other settings than the paper's",
    "type": "right numbers of another type or shape, or a side effect",
    "precision": "right to float32",
    "accepts": "an argument outside the domain was not rejected",
    "note": "a variant of the authors, or an observation",
}


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
    """Kind of finding, if the check did not pass."""
    seconds: float = 0.0
