"""The generator of the vectors and the known deviations: `python -m tools.vectors.generate`, or `nox -s vectors`.

Every value comes from the oracles in this package, in 50 digits; `digits` come from a second computation in 110. The
code of the formulas is not imported; only the `Source:` lines of their docstrings are read.
"""

import hashlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ict_ref.equations import formulas
from ict_ref.verify.vectors.load import VERSION, functions, read
from tools.vectors import (
    cases_ect,
    cases_model,
    cases_sampling,
    cases_schedule,
    cases_slct,
    cases_tcm,
    cases_theory,
    cases_trigflow,
    oracle_ect,
    oracle_editing,
    oracle_model,
    oracle_schedule,
    oracle_slct,
    oracle_tcm,
    oracle_theory,
    oracle_trigflow,
    trace,
)
from tools.vectors.arrays import Array, mp, mpf
from tools.vectors.callbacks import Callback
from tools.vectors.case import Case
from tools.vectors.deviations import DEVIATIONS
from tools.vectors.flags import NOTES, flags_of
from tools.vectors.generated import Integers, Levels, Uniform, entries_of, summary

SOURCES = {formula.name: formula.source for formula in formulas()}
DATA = Path(__file__).parents[2] / "src" / "ict_ref" / "verify" / "data" / f"v{VERSION}"
SCHEMA = Path(__file__).with_name("schema.json")
LICENSE = "CC0-1.0"
ORACLE = "mpmath, 50 digits"
DIGITS, DIGITS_OF_THEIR_ORACLE = 30, 110
CASES = {
    **cases_schedule.CASES,
    **cases_model.CASES,
    **cases_sampling.CASES,
    **cases_theory.CASES,
    **cases_ect.CASES,
    **cases_trigflow.CASES,
    **cases_tcm.CASES,
    **cases_slct.CASES,
}
ORACLES = (
    oracle_schedule,
    oracle_model,
    oracle_editing,
    oracle_theory,
    oracle_ect,
    oracle_trigflow,
    oracle_tcm,
    oracle_slct,
)
CLEARLY = 100  # tolerances between a deviation's value and the right one


def oracle(function: str) -> Callable[..., Any]:
    """The function in 50 digits."""
    found: Callable[..., Any] = next(getattr(module, function) for module in ORACLES if hasattr(module, function))
    return found


def number(value: Any) -> Any:
    """A number inside nested lists: an int or a bool as it is, the rest as the nearest double."""
    if isinstance(value, int):
        return value
    double = float(value)
    if math.isfinite(double):
        return double if double else 0.0
    return "nan" if math.isnan(double) else "inf" if double > 0 else "-inf"


def mapped(function: Callable[[Any], Any], nested: Any) -> Any:
    """function of every number in nested lists."""
    return [mapped(function, part) for part in nested] if isinstance(nested, list) else function(nested)


def encode(value: Any) -> Any:
    """An argument or a value, as JSON has it."""
    if isinstance(value, Array):
        return {"tensor": mapped(number, value.nested()), "dtype": value.dtype}
    if isinstance(value, Callback | Uniform | Integers | Levels):
        return value.encoded()
    if isinstance(value, tuple):
        return {"tuple": [encode(part) for part in value]}
    if value is None:
        return None
    encoded = number(value)
    return {"float": encoded} if isinstance(encoded, str) else encoded


def rounded(argument: Any) -> Any:
    """An argument in the doubles that its vector will carry."""
    if isinstance(argument, Array) and argument.dtype == "float64":
        return argument.map(lambda value: mpf(float(value)))
    return argument


def exact(argument: Any) -> Any:
    """An argument for the oracle: functions and large arrays built, doubles exactly as they are."""
    if isinstance(argument, Callback | Uniform | Integers | Levels):
        return argument.function()
    if isinstance(argument, tuple):
        return tuple(exact(part) for part in argument)
    return mpf(argument) if isinstance(argument, float) else argument


def all_exact(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments for the oracle, in the doubles that a vector has."""
    return {name: exact(rounded(argument)) for name, argument in arguments.items()}


def reduced(value: Any, case: Case, entries: list[int]) -> Any:
    """The quantity that a vector compares: the value, the operator's value at the case's tensor, or a summary."""
    if case.forward is not None:
        return oracle_editing.apply_forward(value, rounded(case.forward))
    return summary(value, entries) if case.is_summary and isinstance(value, Array) else value


def value_of(function: Callable[..., Any], case: Case, arguments: dict[str, Any], entries: list[int]) -> Any:
    """function(arguments), reduced."""
    return reduced(function(**arguments), case, entries)


def digits(value: Any) -> Any:
    """A value in 30 digits, as text in nested lists; None unless it is real."""
    if isinstance(value, tuple):
        return [digits(part) for part in value]
    if isinstance(value, Array):
        return mapped(digits, value.nested()) if value.dtype == "float64" else None
    return None if isinstance(value, int | None) else mp.nstr(mpf(value), DIGITS).removeprefix("+")


def flat(encoded: Any) -> list[Any]:
    """All numbers of an encoded value; its type and shape go first."""
    if isinstance(encoded, dict):
        return [list(encoded), encoded.get("dtype"), *flat(next(iter(encoded.values())))]
    if isinstance(encoded, list):
        return [len(encoded), *(item for part in encoded for item in flat(part))]
    return [type(encoded).__name__, encoded]


def differs(value: Any, other: Any, case: Case) -> bool:
    """Whether other is another value than `value`, by far more than the tolerance or in type."""
    a, b = flat(value), flat(other)
    if len(a) != len(b):
        return True
    for p, q in zip(a, b, strict=True):
        if isinstance(p, float) and isinstance(q, float):
            if abs(p - q) > CLEARLY * (case.atol + case.rtol * abs(p)):
                return True
        elif p != q:
            return True
    return False


def deviations_of(
    function: str, case: Case, arguments: dict[str, Any], value: Any, entries: list[int]
) -> dict[str, Any]:
    """The value of each known deviation, where it clearly differs."""
    found: dict[str, Any] = {}
    for name, deviation in DEVIATIONS.items():
        if deviation.function == function:
            other = encode(value_of(deviation.compute, case, arguments, entries))
            if other is not None and differs(value, other, case):
                found[name] = other
    return found


def call(case: Case) -> dict[str, Any]:
    """The arguments of a case, and what is done with the operator that it returns: the identity of its vector."""
    row: dict[str, Any] = {"arguments": {name: encode(rounded(part)) for name, part in case.arguments.items()}}
    if case.forward is not None:
        row["apply"] = {"forward": encode(rounded(case.forward))}
    if case.compare is not None:
        row["compare"] = case.compare
    return row


def identity(row: dict[str, Any]) -> str:
    """The call of a vector as text."""
    applied = {} if "summary" in row.get("apply", {}) else {"apply": row.get("apply")}
    return json.dumps({"arguments": row["arguments"], **applied, "compare": row.get("compare")}, sort_keys=True)


def vector(function: str, number_of_vector: int, case: Case) -> dict[str, Any]:
    """A case with its value."""
    row: dict[str, Any] = {"id": number_of_vector, "result": case.result, "comment": case.comment}
    flags = flags_of(function, case)
    row |= {"flags": flags} if flags else {}
    row |= call(case)
    if case.result == "invalid":
        return row
    arguments = all_exact(case.arguments)
    whole = oracle(function)(**arguments)
    entries = entries_of(len(whole.values)) if case.is_summary else []
    row |= {"apply": {"summary": {"entries": entries}}} if case.is_summary else {}
    found = reduced(whole, case, entries)
    value = encode(found)
    row |= {"value": value, "rtol": case.rtol, "atol": case.atol}
    text = digits(found) if case.is_summary else digits_of(function, case, arguments)
    row |= {"digits": text} if text is not None else {}
    if case.alternatives:
        row["alternatives"] = {
            name: encode(other if isinstance(other, int) else value_of(oracle(function), case, all_exact(other), []))
            for name, other in case.alternatives.items()
        }
    deviations = deviations_of(function, case, arguments, value, entries)
    return row | {"deviations": deviations} if deviations else row


def digits_of(function: str, case: Case, arguments: dict[str, Any]) -> Any:
    """The value of a case in 30 digits, computed in 110."""
    with mp.workdps(DIGITS_OF_THEIR_ORACLE):  # near-singular roots and difference quotients lose half of their digits
        return digits(value_of(oracle(function), case, arguments, []))


def earlier_rows(function: str, version: int) -> list[dict[str, Any]]:
    """The vectors of a function in an earlier version."""
    rows: list[dict[str, Any]] = []
    if function in functions(version):
        rows = read(function, version)["vectors"]
    return rows


def identifiers(function: str) -> list[int]:
    """The number of each case: that of the same call in an earlier version, else one that was never used.

    Version 2 changed the names of arguments and gave numbers of version 1 again; numbers are kept from then on.
    """
    kept = {identity(row): row["id"] for version in range(2, VERSION) for row in earlier_rows(function, version)}
    used = [row["id"] for version in range(1, VERSION) for row in earlier_rows(function, version)]
    calls = [identity(call(case)) for case in CASES[function]]
    if len(set(calls)) < len(calls):
        raise ValueError(f"{function}: two cases have the same call")
    last, found = max(used, default=0), []
    for one in calls:
        number_of_vector = kept.get(one)
        if number_of_vector is None:
            last += 1
        found.append(number_of_vector or last)
    return found


def rows(function: str, *, with_large: bool = True) -> list[dict[str, Any]]:
    """The vectors of a function by their numbers."""
    cases = zip(identifiers(function), CASES[function], strict=True)
    chosen = [(n, case) for n, case in cases if with_large or not case.is_summary]
    return [vector(function, n, case) for n, case in sorted(chosen, key=lambda pair: pair[0])]


def compact(value: Any) -> str:
    """JSON in one row."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def sealed(lines: list[str]) -> str:
    """A file with its checksum in line 2: the SHA-256 of all other lines."""
    digest = hashlib.sha256("\n".join([*lines, ""]).encode()).hexdigest()
    return "\n".join([lines[0], f' "sha256": "{digest}",', *lines[1:], ""])


def head(**fields: Any) -> list[str]:
    """The first lines of a file."""
    fields = {"version": VERSION, "license": LICENSE, **fields}
    return ["{"] + [f" {compact(name)}: {compact(value)}," for name, value in fields.items()]


def listed(name: str, entries: list[dict[str, Any]]) -> list[str]:
    """The last lines of a file: a list with a row for each entry."""
    return [f' "{name}": [', *",\n".join(f"  {compact(entry)}" for entry in entries).split("\n"), " ]", "}"]


def book(function: str) -> str:
    """The file of one function: a row per vector."""
    found = rows(function)
    flags = {flag for row in found for flag in row.get("flags", ())}
    notes = {
        flag: dict(zip(("bug_type", "description", "effect"), note, strict=True))
        for flag, note in NOTES.items()
        if flag in flags
    }
    first = head(function=function, source=SOURCES[function], oracle=ORACLE, notes=notes)
    return sealed([*first, *listed("vectors", found)])


def trace_book() -> str:
    """The file of one training step: a row per value."""
    given = {name: encode(value) for name, value in trace.inputs().items()}
    found = []
    for entry in trace.entries():
        row: dict[str, Any] = {"name": entry.name, "meaning": entry.meaning, "source": entry.source}
        if entry.function:
            arguments = {name: part if isinstance(part, dict) else encode(part) for name, part in entry.arguments}
            row |= {"function": entry.function, "arguments": arguments}
        found.append(row | {"value": encode(entry.value), "rtol": entry.rtol})
    return sealed([*head(oracle=ORACLE, network=trace.NETWORK, inputs=given), *listed("values", found)])


def deviation_book() -> str:
    """The file of known deviations."""
    table = {
        name: {"function": d.function, "what": d.what, "effect": d.effect, "seen_in": d.seen_in}
        for name, d in DEVIATIONS.items()
    }
    lines = json.dumps({"deviations": table}, indent=1, ensure_ascii=False).split("\n")
    return sealed([*head(), *lines[1:]])


def main(folder: Path) -> None:
    """Write all files."""
    if CASES.keys() != SOURCES.keys():
        raise ValueError(f"functions without cases or sources: {sorted(CASES.keys() ^ SOURCES.keys())}")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {f"{function}.json": book(function) for function in SOURCES}
    texts |= {"trace.json": trace_book(), "deviations.json": deviation_book(), "schema.json": SCHEMA.read_text("utf-8")}
    texts["SHA256SUMS"] = "".join(
        f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(texts.items())
    )
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
