"""The generator of the vectors and the known deviations: `python -m tools.vectors.generate`, or `nox -s vectors`.

Every value comes from the oracles in this package, in 50 digits. The code of the formulas is not imported; only the
`Source:` lines of their docstrings are read.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ict_ref.equations import formulas
from ict_ref.verify.vectors import VERSION
from tools.vectors import (
    cases_model,
    cases_sampling,
    cases_schedule,
    cases_theory,
    oracle_editing,
    oracle_model,
    oracle_schedule,
    oracle_theory,
    trace,
)
from tools.vectors.arrays import Array, mpf
from tools.vectors.callbacks import Callback
from tools.vectors.case import Case
from tools.vectors.deviations import DEVIATIONS

SOURCES = {formula.name: formula.source for formula in formulas()}
DATA = Path(__file__).parents[2] / "src" / "ict_ref" / "verify" / "data" / f"v{VERSION}"
CASES = {**cases_schedule.CASES, **cases_model.CASES, **cases_sampling.CASES, **cases_theory.CASES}
ORACLES = (oracle_schedule, oracle_model, oracle_editing, oracle_theory)
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
    if isinstance(value, Callback):
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
    """An argument for the oracle: functions built, doubles exactly as they are."""
    if isinstance(argument, Callback):
        return argument.function()
    if isinstance(argument, tuple):
        return tuple(exact(part) for part in argument)
    return mpf(argument) if isinstance(argument, float) else argument


def value_of(function: Callable[..., Any], case: Case, arguments: dict[str, Any]) -> Any:
    """function(arguments), applied to the case's tensor where it is an operator."""
    value = function(**{name: exact(argument) for name, argument in arguments.items()})
    return value if case.forward is None else oracle_editing.apply_forward(value, rounded(case.forward))


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


def deviations_of(function: str, case: Case, arguments: dict[str, Any], value: Any) -> dict[str, Any]:
    """The value of each known deviation, where it clearly differs."""
    found: dict[str, Any] = {}
    for name, deviation in DEVIATIONS.items():
        if deviation.function == function:
            other = encode(value_of(deviation.compute, case, arguments))
            if other is not None and differs(value, other, case):
                found[name] = other
    return found


def vector(function: str, number_of_vector: int, case: Case) -> dict[str, Any]:
    """A case with its value."""
    arguments = {name: rounded(argument) for name, argument in case.arguments.items()}
    row: dict[str, Any] = {"id": number_of_vector, "result": case.result, "comment": case.comment}
    row["arguments"] = {name: encode(argument) for name, argument in arguments.items()}
    if case.result == "invalid":
        return row
    if case.forward is not None:
        row["apply"] = {"forward": encode(rounded(case.forward))}
    if case.compare is not None:
        row["compare"] = case.compare
    value = encode(value_of(oracle(function), case, arguments))
    row |= {"value": value, "rtol": case.rtol, "atol": case.atol}
    if case.alternatives:
        row["alternatives"] = {
            name: encode(value_of(oracle(function), case, other)) for name, other in case.alternatives.items()
        }
    deviations = deviations_of(function, case, arguments, value)
    return row | {"deviations": deviations} if deviations else row


def compact(value: Any) -> str:
    """JSON in one row."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def book(function: str) -> str:
    """The file of one function: a row per vector."""
    rows = [vector(function, i, case) for i, case in enumerate(CASES[function], start=1)]
    head = {"function": function, "source": SOURCES[function], "oracle": "mpmath, 50 digits"}
    lines = ["{"] + [f" {compact(name)}: {compact(value)}," for name, value in head.items()] + [' "vectors": [']
    return "\n".join([*lines, ",\n".join(f"  {compact(row)}" for row in rows), " ]", "}", ""])


def trace_book() -> str:
    """The file of one training step: a row per value."""
    given = {name: encode(value) for name, value in trace.inputs().items()}
    rows = []
    for entry in trace.entries():
        row: dict[str, Any] = {"name": entry.name, "meaning": entry.meaning, "source": entry.source}
        if entry.function:
            arguments = {name: part if isinstance(part, dict) else encode(part) for name, part in entry.arguments}
            row |= {"function": entry.function, "arguments": arguments}
        rows.append(compact(row | {"value": encode(entry.value), "rtol": entry.rtol}))
    head = {"oracle": "mpmath, 50 digits", "network": trace.NETWORK, "inputs": given}
    lines = ["{"] + [f" {compact(name)}: {compact(value)}," for name, value in head.items()] + [' "values": [']
    return "\n".join([*lines, ",\n".join(f"  {row}" for row in rows), " ]", "}", ""])


def deviation_book() -> str:
    """The file of known deviations."""
    table = {
        name: {"function": d.function, "what": d.what, "effect": d.effect, "seen_in": d.seen_in}
        for name, d in DEVIATIONS.items()
    }
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def main(folder: Path) -> None:
    """Write all files."""
    if CASES.keys() != SOURCES.keys():
        raise ValueError(f"functions without cases or sources: {sorted(CASES.keys() ^ SOURCES.keys())}")
    folder.mkdir(parents=True, exist_ok=True)
    for function in SOURCES:
        (folder / f"{function}.json").write_text(book(function), encoding="utf-8")
    (folder / "trace.json").write_text(trace_book(), encoding="utf-8")
    (folder / "deviations.json").write_text(deviation_book(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DATA)
