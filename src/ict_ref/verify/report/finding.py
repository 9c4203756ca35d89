"""Findings: what a person should know about an implementation, one for each cause.

The results of one function that have one cause are one finding. A cause that several functions share, such as a side
effect, is one finding too.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeAlias

from ict_ref.verify.checks.audited import causes, deviation_book, is_audited
from ict_ref.verify.checks.result import MEANINGS, Kind, Result
from ict_ref.verify.report.waivers import STALE
from ict_ref.verify.vectors.load import VERSION, Deviation, Json, Vector, deviations, vectors
from ict_ref.verify.vectors.shown import short

Group: TypeAlias = Literal["waiver", "value", "call", "signature", "conduct", "precision", "accepts", "note"]


@dataclass(frozen=True)
class Seen:
    """A place in public code with a known deviation."""

    repository: str
    commit: str
    path: str = ""
    line: int = 0

    def __str__(self) -> str:
        """Return repository@commit path:line."""
        path = f" {self.path}" if self.path else ""
        return f"{self.repository}@{self.commit}{path}{f':{self.line}' if self.line else ''}"


@dataclass(frozen=True)
class Finding:
    """One cause of results that are not passes."""

    cause: str
    kind: Kind
    fails: bool
    """Whether it decides the exit status."""
    functions: tuple[str, ...]
    checks: tuple[str, ...]
    """Names of its vectors and laws."""
    source: str
    example: str = ""
    """Smallest example: arguments, value and expected value."""
    effect: str = ""
    """Effect on training."""
    fix: str = ""
    seen: tuple[Seen, ...] = ()
    deviations: tuple[str, ...] = ()
    counterexample: Json = None

    def as_json(self) -> dict[str, object]:
        """Return the finding for programs."""
        return asdict(self) | {"meaning": MEANINGS[self.kind]}


@cache
def _book() -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((files("ict_ref.verify.report") / "seen_in.json").read_text("utf-8"))
    return found


def seen_in(deviation: str) -> tuple[Seen, ...]:
    """Return the places in public code that have a deviation."""
    return tuple(Seen(**place) for place in _book().get(deviation, {}).get("seen", ()))


@cache
def known_deviations(version: int = VERSION) -> Mapping[str, Deviation]:
    """Return the known deviations of formulas, of training loops, of data and of scores by id."""
    found = dict(deviations(version))
    for name, entry in _book().items():
        if "what" in entry and name not in found:
            function, count = entry.get("function", "training"), len(entry["seen"])
            found[name] = Deviation(name, function, entry["what"], entry["effect"], f"{count} public codes")
    return found


def fix_of(deviation: str) -> str:
    """Return the fix of a deviation."""
    return str(_book().get(deviation, {}).get("fix", ""))


@cache
def _costs() -> Mapping[str, str]:
    found: Mapping[str, Any] = json.loads((files("ict_ref.verify.report") / "costs.json").read_text("utf-8"))
    costs: Mapping[str, str] = found["costs"]
    return costs


def effect_of(deviation: str, version: int = VERSION) -> str:
    """Return the effect of a deviation on training, and its cost in a small run if that was measured."""
    return "; ".join(filter(None, (known_deviations(version)[deviation].effect, _costs().get(deviation, ""))))


def findings(results: Iterable[Result], version: int = VERSION) -> list[Finding]:
    """Return the findings of some results: those that fail first, each kind in the order of the functions."""
    by_function: dict[str, list[Result]] = {}
    of_audits: dict[tuple[str, bool], list[Result]] = {}
    for result in results:
        if result.status not in ("fail", "note"):
            continue
        if not is_audited(result.function) or _group(result) == "waiver":
            by_function.setdefault(result.function, []).append(result)
            continue
        for cause in causes(result):
            of_audits.setdefault((cause, result.status == "fail"), []).append(result)
    found = [finding for of in by_function.values() for finding in _of_function(of, version)]
    found += [_of_audit(cause, of, version) for (cause, _), of in of_audits.items()]
    order = list(MEANINGS)
    return sorted(_merged(found), key=lambda finding: (not finding.fails, order.index(finding.kind)))


def _of_audit(cause: str, results: list[Result], version: int) -> Finding:
    """Return the finding of one cause in an audit, which results of several functions may share."""
    first = results[0]
    book = {**known_deviations(version), **deviation_book(version)}
    named = cause in book
    text = _text(first)
    return Finding(
        cause=book[cause].what if named else cause if first.status == "fail" else f"{cause}: {text}",
        kind=min((result.kind for result in results), key=list(MEANINGS).index),
        fails=first.status == "fail",
        functions=tuple(dict.fromkeys(result.function for result in results)),
        checks=tuple(result.id for result in results),
        source=first.source,
        example=text if named or first.status == "fail" else "",
        effect=book[cause].effect if named else "",
        fix=fix_of(cause),
        seen=seen_in(cause),
        deviations=(cause,) if named else (),
    )


def _merged(found: Iterable[Finding]) -> list[Finding]:
    """Return the findings, where those of one cause in several functions are one."""
    of_cause: dict[tuple[str, Kind, bool], Finding] = {}
    for finding in found:
        key = (finding.cause, finding.kind, finding.fails)
        first = of_cause.get(key)
        if first is not None:
            functions, checks = first.functions + finding.functions, first.checks + finding.checks
            finding = replace(first, functions=functions, checks=checks)
        of_cause[key] = finding
    return list(of_cause.values())


def _of_function(results: list[Result], version: int) -> Iterator[Finding]:
    """Yield the findings of one function."""
    groups: dict[Group, list[Result]] = {}
    for result in results:
        groups.setdefault(_group(result), []).append(result)
    calls = groups.pop("call", [])
    # Exceptions of a function whose values have a known cause, and its laws, follow from that cause.
    if calls and any(result.deviation for result in groups.get("value", [])):
        groups["value"] += calls
    elif calls:
        groups["call"] = calls
    for group, of in groups.items():
        if group in ("conduct", "waiver"):
            yield from (_finding(group, [result], version) for result in of)
        else:
            yield _finding(group, of, version)


def _group(result: Result) -> Group:
    """Return the group of causes that a result belongs to."""
    if result.message.startswith(f"{result.id}: {STALE}"):
        return "waiver"
    if result.kind == "note":
        return "note"
    if result.kind in ("precision", "accepts"):
        return "precision" if result.kind == "precision" else "accepts"
    if " cannot be called by the names of the parameters: " in result.message:
        return "signature"
    number = result.id.removeprefix(f"{result.function}:")
    if number in CONDUCT:
        return "conduct"
    return "call" if ": raised " in result.message and result.counterexample is None else "value"


CONDUCT = {
    "keeps_its_arguments": "changes its arguments",
    "keeps_global_state": "changes torch's global state",
    "returns_the_type_of_its_formula": "returns another type or shape",
}
"""Rules about types and side effects, and the cause if one is broken."""


def _finding(group: Group, results: list[Result], version: int) -> Finding:
    """Return the finding of results with one cause."""
    first = _smallest(results, version)
    kinds = [result.kind for result in results if result.status == "fail"] or [first.kind]
    kind = next(kind for kind in MEANINGS if kind in kinds)
    known = known_deviations(version)
    names = tuple(name for name in _names(results) if name in known)
    fixes = dict.fromkeys(filter(None, map(fix_of, names)))
    seen = dict.fromkeys(place for name in names for place in seen_in(name))
    return Finding(
        cause=_cause(group, first, results, version),
        kind=kind,
        fails=any(result.status == "fail" for result in results),
        functions=(first.function,),
        checks=tuple(result.id for result in results),
        source=first.source.split("; ")[0],
        example=_example(group, first, version),
        effect="; ".join(effect_of(name, version) for name in names),
        fix="; ".join(fixes),
        seen=tuple(seen),
        deviations=names,
        counterexample=first.counterexample,
    )


def _names(results: list[Result]) -> list[str]:
    """Return the deviations that the causes of some results consist of."""
    causes = (result.deviation.split(", ")[0].split(" and ") for result in results if result.deviation)
    return list(dict.fromkeys(name for names in causes for name in names))


def _smallest(results: list[Result], version: int) -> Result:
    """Return the result with the shortest example: a vector of the named cause if there is one, else a law."""
    named = [result for result in results if result.deviation] or results
    of_vectors = [result for result in named if _vector(result, version)] or named
    return min(of_vectors, key=lambda result: (*_size(_vector(result, version)), result.id))


def _size(vector: Vector | None) -> tuple[bool, int]:
    """Return how large an example is: a summarised one is larger than all others, whose length decides."""
    return (False, 0) if vector is None else ("summary" in vector.apply, len(str(vector.arguments)))


def _vector(result: Result, version: int) -> Vector | None:
    name, number, _ = result.id.partition("#")
    return next((one for one in vectors(name, version) if one.name == result.id), None) if number else None


def _cause(group: Group, first: Result, results: list[Result], version: int) -> str:
    """Return the cause in one sentence without its end."""
    name = first.function
    known = known_deviations(version)
    if group == "waiver":
        return first.message
    if first.id.startswith(("trace:", "training:")) and not first.deviation:
        return first.id
    if _is_plain(first):
        return f"{first.id}: {_text(first)}"
    if first.deviation and group in ("value", "precision", "conduct"):
        texts = [known[one].what for one in _names(results) if one in known]
        return f"{name}: {'; '.join(texts or [first.deviation])}{_factor(first.deviation)}"
    if group == "conduct":
        return CONDUCT[first.id.removeprefix(f"{name}:")]
    if group == "signature":
        return f"{name} cannot be called as {needed_signature(name, version)}"
    if group == "call":
        return f"{name} fails for {len(results)} of its vectors"
    if group == "precision":
        worst = max((result.max_rel_error or 0.0 for result in results), default=0.0)
        laws = "" if worst else " by its laws"
        return f"{name} is right to float32{laws}{f', to {worst:.1g}' if 0 < worst < 1e-5 else ''}"
    if group == "accepts":
        return f"{name} accepts {len(results)} arguments outside its domain"
    if group == "note":
        return f"{name} is a variant: {_text(first)}"
    return f"{name} differs from its formula" if _vector(first, version) else f"{name} breaks a law"


def _is_plain(result: Result) -> bool:
    """Return whether a result is that of an audit of a step, whose message is the cause, or a note about it."""
    return result.id.startswith("step:") and (not result.deviation or result.kind == "note")


def _factor(deviation: str) -> str:
    """Return the constant factor in a named cause that has deviations too."""
    _, comma, factor = deviation.partition(", ")
    return comma + factor


def needed_signature(function: str, version: int) -> str:
    """Return the call that the vectors of a function make."""
    names = dict.fromkeys(name for vector in vectors(function, version) for name in vector.arguments)
    return f"{function}({', '.join(names)})"


def _text(result: Result) -> str:
    """Return the message of a result without its name and source."""
    return result.message.removeprefix(f"{result.id}: ").removesuffix(f" [{result.source}]")


def _example(group: Group, first: Result, version: int) -> str:
    """Return the smallest example of a finding."""
    vector = _vector(first, version)
    if group in ("note", "waiver") or _is_plain(first):
        return ""
    if group == "signature" or vector is None:
        return _text(first).removeprefix("cannot be called by the names of the parameters: ")
    if group == "accepts":
        return f"{_text(first)}"
    shown = {name: _argument(value) for name, value in vector.arguments.items()}
    where = ", ".join([f"#{vector.id}", *(f"{name} = {text}" for name, text in shown.items() if text)])
    if first.got is None:
        return f"at {where}: {_text(first)}"
    digits = 5 if first.max_rel_error is None or first.max_rel_error > 1e-3 else 9
    return f"at {where}: {short(first.got, digits)}, should be {short(vector.value, digits)}"


def _argument(value: Json) -> str:
    """Return an argument in few characters; an empty text for functions, which the vector names."""
    if isinstance(value, dict) and "callback" in value:
        return ""
    text = short(value)
    return text[1:-1] if text.startswith("[[") and text.count("[") == 2 else text
