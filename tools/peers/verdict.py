"""The verdict of each function and of each property of a step, from the JSON of `python -m ict_ref.verify`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Verdict: TypeAlias = Literal[
    "right",
    "right to float32",
    "authors' variant",
    "observed",
    "reading",
    "differs elsewhere",
    "differs at the paper's settings",
    "not claimed",
    "not there",
    "not checked",
]
RIGHT: tuple[Verdict, ...] = ("right", "right to float32", "authors' variant")
DIFFERS: tuple[Verdict, ...] = ("differs elsewhere", "differs at the paper's settings")
ORDER: tuple[Verdict, ...] = (*RIGHT, "observed", "reading", *DIFFERS, "not claimed", "not there", "not checked")
"""All verdicts; what is right comes first."""


@dataclass(frozen=True)
class Row:
    """A function, or a property of a step or of a model, with its verdict."""

    group: Literal["formulas", "step", "model"]
    item: str
    verdict: Verdict
    checks: int = 0
    """Number of checks that were made."""
    differing: int = 0
    """Number of checks with another value."""
    remark: str = ""
    example: str = ""


def rows(
    group: Literal["formulas", "step", "model"],
    report: Mapping[str, Any],
    readings: Iterable[str],
    *,
    laws_decide: bool = True,
) -> list[Row]:
    """Return the rows of a report, in the order of its functions.

    Without `laws_decide` a function differs only by a vector: the random examples of laws can leave float32's range.
    """
    of_item: dict[str, list[Mapping[str, Any]]] = {}
    for result in report["results"]:
        if laws_decide or result["status"] != "fail" or result["counterexample"] is None:
            of_item.setdefault(result["function"], []).append(result)
    known = frozenset(readings)
    return [_row(group, item, results, report["findings"], known) for item, results in of_item.items()]


def _row(
    group: Literal["formulas", "step", "model"],
    item: str,
    results: Sequence[Mapping[str, Any]],
    findings: Sequence[Mapping[str, Any]],
    readings: frozenset[str],
) -> Row:
    made = [one for one in results if one["status"] not in ("missing", "skipped") and not _is_refusal(one)]
    differing = [one for one in made if one["status"] == "fail"]
    verdict = _verdict(results, made, differing, readings)
    # A variant of the authors is a form of a formula; the notes of an audit describe what it saw.
    if verdict == "authors' variant" and group != "formulas":
        verdict = "observed"
    of_item = [one for one in findings if item in one["functions"] and _belongs(one, verdict)]
    causes = dict.fromkeys(_cause(one, item) for one in of_item)
    example = next((one["example"] for one in of_item if verdict in DIFFERS and one["example"]), "")
    name = item.removeprefix("step:").removeprefix("model:")
    return Row(group, name, verdict, len(made), len(differing), "; ".join(causes), example)


def _is_refusal(result: Mapping[str, Any]) -> bool:
    """Return whether a result is about arguments outside the domain, which nobody but ict_ref claims to reject."""
    return bool(result["kind"] == "accepts" and result["status"] != "pass")


def _verdict(
    results: Sequence[Mapping[str, Any]],
    made: Sequence[Mapping[str, Any]],
    differing: Sequence[Mapping[str, Any]],
    readings: frozenset[str],
) -> Verdict:
    if any(one["status"] == "missing" for one in results):
        return "not there"
    if differing:
        # The laws of a function follow from the deviation that explains its vectors.
        of_vectors = [_deviations(one) for one in differing if one["counterexample"] is None]
        if of_vectors and all(names and names <= readings for names in of_vectors):
            return "reading"
        at_paper = any(one["kind"] == "wrong" and one["counterexample"] is None for one in differing)
        return "differs at the paper's settings" if at_paper else "differs elsewhere"
    if not any(one["status"] == "pass" or one["kind"] in ("note", "precision") for one in made):
        return "not checked"
    # A law that does not hold to the last bit is no sign of float32.
    kinds = {one["kind"] for one in made if one["status"] == "note" and one["counterexample"] is None}
    return "authors' variant" if "note" in kinds else "right to float32" if "precision" in kinds else "right"


def _deviations(result: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the known deviations that a result consists of."""
    return frozenset(filter(None, (result["deviation"] or "").split(", ")[0].split(" and ")))


def _belongs(finding: Mapping[str, Any], verdict: Verdict) -> bool:
    """Return whether a finding explains a verdict."""
    if verdict in (*RIGHT, "observed"):
        return not finding["fails"] and finding["kind"] not in ("accepts", "precision")
    return bool(finding["fails"]) or verdict == "not checked"


def _cause(finding: Mapping[str, Any], item: str) -> str:
    """Return the cause of a finding without the name of the function."""
    cause = str(finding["cause"]).removeprefix(f"{item}: ").removeprefix(f"{item} ")
    cause = cause.removeprefix("is ").removeprefix("a variant: ")
    return str(finding["example"]).split("; ")[0] if cause == item else cause
