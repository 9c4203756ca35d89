"""The results of a verification as a table to read, as JSON and as JUnit's XML."""

import json
from collections import Counter
from dataclasses import asdict
from xml.etree import ElementTree as ET

import torch

from ict_ref import __version__
from ict_ref.verify import trace
from ict_ref.verify.check import Result, Status
from ict_ref.verify.run_laws import law_names
from ict_ref.verify.target import Target
from ict_ref.verify.vectors import VERSION, deviations, vectors

WORST_FIRST: tuple[Status, ...] = ("fail", "waived", "missing", "pass")
LAST_IS_READ_FIRST: tuple[Status, ...] = ("missing", "pass", "waived", "fail")
WORDS: dict[Status, str] = {"pass": "pass", "fail": "FAIL", "missing": "missing", "waived": "waived"}


def header(target: Target, arrays: str, seed: int, laws: str, version: int = VERSION) -> dict[str, object]:
    """Return the target of the verification and its settings."""
    return {
        "ict_ref": __version__,
        "vectors": version,
        "target": target.text,
        "version": target.version,
        "file": target.file,
        "torch": torch.__version__,
        "arrays": arrays,
        "dtype": "float64",
        "seed": seed,
        "laws": laws,
    }


Row = tuple[str, str, str, str]
"""Status, function, counts and source."""


def rows(results: list[Result], version: int = VERSION) -> list[Row]:
    """Return one row per function, failures last."""
    of_function: dict[str, list[Result]] = {}
    for result in results:
        traced = result.id.startswith(f"{trace.FUNCTION}:")
        of_function.setdefault(trace.FUNCTION if traced else result.function, []).append(result)
    found = [_row(function, of, version) for function, of in of_function.items()]
    return [row for status in LAST_IS_READ_FIRST for worst, row in found if worst == status]


def _row(function: str, results: list[Result], version: int) -> tuple[Status, Row]:
    """Return the worst status of a function's results, and its row."""
    statuses = {result.status for result in results}
    worst = next(status for status in WORST_FIRST if status in statuses)
    counts = "" if worst == "missing" else _counts(results, version)
    source = next((result.source for result in results if result.source), "")
    place = "a training step, value after value" if function == trace.FUNCTION else source.split("; ")[0]
    return worst, (WORDS[worst], function, counts, place)


def _counts(results: list[Result], version: int) -> str:
    """Return how many values are right, how many invalid calls were refused, and how many laws hold."""
    total = Counter(kind(result, version) for result in results)
    passed = Counter(kind(result, version) for result in results if result.status == "pass")
    return ", ".join(f"{passed[word]}/{total[word]} {word}" for word in ("right", "refused", "laws") if total[word])


def kind(result: Result, version: int = VERSION) -> str:
    """Return the column of a result: value, refusal or law."""
    if result.id in law_names(version):
        return "laws"
    return "refused" if is_refusal(result.id, version) else "right"


def is_refusal(name: str, version: int = VERSION) -> bool:
    """Return whether a name is that of a vector with invalid arguments."""
    function, _, number = name.partition("#")
    if not number:
        return False
    return any(vector.name == name and vector.result == "invalid" for vector in vectors(function, version))


def text(head: dict[str, object], results: list[Result]) -> str:
    """Return the report to read."""
    version = int(str(head["vectors"]))
    lines = [
        f"ict_ref {head['ict_ref']}, vectors {head['vectors']}, torch {head['torch']}, "
        f"{head['arrays']} arrays of {head['dtype']}, seed {head['seed']}, laws {head['laws']}",
        f"target {head['target']}, version {head['version']}, {head['file']}",
        "",
    ]
    table = rows(results, version)
    widths = [max((len(row[k]) for row in table), default=0) for k in range(3)]
    lines += [
        "  ".join([*(f"{part:{width}}" for part, width in zip(row, widths, strict=False)), row[3]]).rstrip()
        for row in table
    ]
    failures = _failures(results, version)
    return "\n".join([*lines, *([""] if failures else []), *failures, "", summary_line(results)])


def _failures(results: list[Result], version: int) -> list[str]:
    """Return the lines about what fails; a known deviation is described once, later only its id is given."""
    lines: list[str] = []
    described: set[str] = set()
    for result in results:
        if result.status not in ("fail", "waived"):
            continue
        message = result.message
        if name := result.deviation:
            message = message.replace(str(deviations(version)[name]), name) if name in described else message
            described.add(name)
        lines.append(message)
        if result.counterexample is not None:
            lines.append(f"  as a vector: {json.dumps(result.counterexample)}")
    return lines


def summary(results: list[Result]) -> dict[Status, int]:
    """Return the numbers of checks that passed, failed and were waived, and of missing functions."""
    statuses = Counter(result.status for result in results)
    return {status: statuses[status] for status in WORDS}


def summary_line(results: list[Result]) -> str:
    """Return the last line of the report."""
    count = summary(results)
    parts = [f"{count['pass']} passed", f"{count['fail']} failed"]
    parts += [f"{count['waived']} waived"] if count["waived"] else []
    parts += [f"{count['missing']} functions missing"] if count["missing"] else []
    return ", ".join(parts)


def as_json(head: dict[str, object], results: list[Result]) -> str:
    """Return the report for programs; docs/verify.md documents it."""
    return json.dumps(
        {**head, "results": [asdict(result) for result in results], "summary": summary(results)}, indent=1
    )


def as_junit(head: dict[str, object], results: list[Result]) -> str:
    """Return the report as JUnit's XML."""
    count = summary(results)
    suite = ET.Element(
        "testsuite",
        name="ict_ref.verify",
        tests=str(len(results)),
        failures=str(count["fail"]),
        skipped=str(count["missing"] + count["waived"]),
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in head.items():
        ET.SubElement(properties, "property", name=name, value=str(value))
    for result in results:
        case = ET.SubElement(suite, "testcase", classname=result.function, name=result.id)
        if result.status == "fail":
            ET.SubElement(case, "failure", message=result.message)
        elif result.status != "pass":
            ET.SubElement(case, "skipped", message=result.message)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
