"""The report as text for a terminal: what is right first, then what is wrong, then the findings."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from ict_ref.verify.checks import trace
from ict_ref.verify.checks.result import MEANINGS, Result
from ict_ref.verify.report.finding import Finding
from ict_ref.verify.report.report import Report, Row

WIDTH = 110
"""Width where there is no terminal."""
COLOURS = {"right": "32", "note": "33", "waived": "33", "FAIL": "31", "WRONG": "1;31"}


def as_text(report: Report, width: int | None = None, colour: bool | None = None) -> str:
    """Return the report to read; by default as wide as the terminal, in colour only on one and without NO_COLOR."""
    on_terminal = sys.stdout.isatty()
    width = width or (shutil.get_terminal_size((WIDTH, 0)).columns if on_terminal else WIDTH)
    coloured = colour if colour is not None else on_terminal and "NO_COLOR" not in os.environ
    lines = [*_header(report), "", *_table(report, width, coloured)]
    lines += [""] if report.failures else []
    for number, finding in enumerate(report.failures, start=1):
        lines += _finding(number, finding, width, report.verbose)
    lines += _uncounted(report)
    if report.verbose:
        lines += ["", *_checks(report.results)]
    return "\n".join([*lines, "", _painted(report.verdict, report.verdict.split()[0], coloured)])


def _header(report: Report) -> Iterator[str]:
    """Yield the lines about the target and the settings."""
    head = report.head
    known = {name: "" if head[name] == "unknown" else f", {name} {head[name]}" for name in ("version", "commit")}
    count = sum(row.function != trace.FUNCTION for row in report.rows) or len(report.rows)
    missing = "" if report.is_audit else f" {report.missing} functions missing;"
    yield (
        f"{head['target']}{known['version']}{known['commit']}: {count} {'checks' if report.is_audit else 'functions'} "
        f"in {head['duration']:.0f} s;{missing} {head['dtype']}, {head['arrays']} arrays on {head['device']}"
    )
    yield (
        f"ict_ref {head['ict_ref']}, vectors {head['vectors']} (sha256 {str(head['vectors_sha256'])[:8]}), "
        f"torch {head['torch']}, NumPy {head['numpy']}, Hypothesis {head['hypothesis']}, seed {head['seed']}, "
        f"laws {head['laws']}"
    )


def _table(report: Report, width: int, colour: bool) -> Iterator[str]:
    """Yield the lines of the functions, under the name of their paper if there are several."""
    papers = report.papers
    if len(papers) < 2 or report.is_audit:
        yield from _rows(report, report.rows, width, colour)
        return
    for paper in papers:
        yield f"{paper}:"
        yield from _rows(report, [row for row in report.rows if row.paper == paper], width, colour)


def _rows(report: Report, of: Sequence[Row], width: int, colour: bool) -> Iterator[str]:
    """Yield the lines of some functions: those that are right in one paragraph, unless the report is verbose."""
    right = [row for row in of if row.word == "right" and not report.verbose]
    rows = [row for row in of if row not in right]
    first = max([5, *(len(row.word) for row in rows)])
    if right:
        names = ", ".join(
            row.function.partition(":")[2] if report.is_audit else f"{row.function} {row.count}" for row in right
        )
        yield from (
            _painted(line, "right", colour) for line in _wrapped(f"{'right':{first}}  {names}", width, first + 2)
        )
    widths = [max((len(cell) for cell in column), default=0) for column in _columns(rows)]
    for row in rows:
        start = f"{row.word:{first}}  {row.function:{widths[1]}}  {row.count:>{widths[2]}}  "
        begin, *more = textwrap.wrap(row.remark, max(width - len(start), 20)) or [""]
        yield _painted((start + begin).rstrip(), row.word, colour)
        yield from (" " * len(start) + line for line in more)


def _columns(rows: Sequence[Row]) -> tuple[list[str], list[str], list[str]]:
    return [row.word for row in rows], [row.function for row in rows], [row.count for row in rows]


def _finding(number: int, finding: Finding, width: int, verbose: bool) -> Iterator[str]:
    """Yield the lines of a finding: cause, example, effect, places, fix."""
    severity = "" if finding.kind == "wrong" else f" ({MEANINGS[finding.kind]})"
    functions = f" (in {', '.join(finding.functions)})" if len(finding.functions) > 1 else ""
    yield from _wrapped(f"{number:2}  {finding.cause}{functions}{severity}", width, 4)
    places = _places(finding, width if not verbose else sys.maxsize)
    for label, text in (
        ("e.g.", finding.example),
        ("effect:", finding.effect),
        ("also in:", places),
        ("fix:", finding.fix),
        ("source:", finding.source if verbose else ""),
    ):
        if text:
            yield from _wrapped(f"    {label:8} {text}", width, 13)
    if verbose and finding.counterexample is not None:
        yield f"    as a vector: {json.dumps(finding.counterexample)}"


def _places(finding: Finding, width: int) -> str:
    """Return the places of a finding in public code, as many as fit on one line and at least one."""
    shown = list(map(str, finding.seen))
    count = len(shown)
    while count > 1 and len(", ".join(shown[:count])) + len("    also in:  and 10 more (-v)") > width:
        count -= 1
    more = len(shown) - count
    return ", ".join(shown[:count]) + (f" and {more} more (-v)" if more else "")


def _wrapped(line: str, width: int, indent: int) -> list[str]:
    """Return a line in several of at most `width` characters, if it has no longer word."""
    return textwrap.wrap(
        line, max(width, 40), subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def _uncounted(report: Report) -> Iterator[str]:
    """Yield the lines about what does not count."""
    accepted = report.accepted
    if accepted:
        functions = len({result.function for result in accepted})
        yield (
            f"not counted: {len(accepted)} arguments outside the domain that {functions} functions accept "
            "(--strict counts them)"
        )
    reasons: dict[str, int] = {}
    for result in report.results:
        if result.status == "skipped":
            reason = result.message.removeprefix(f"{result.id}: ").removesuffix(f" [{result.source}]")
            reason = reason.split("; the law: ")[0].removeprefix("not tried: ")
            reasons[reason] = reasons.get(reason, 0) + 1
    for reason, number in reasons.items():
        yield f"not counted: {number} {'check' if number == 1 else 'checks'}: {reason}"
    for result in report.results:
        if result.status == "waived":
            yield result.message


def _checks(results: Sequence[Result]) -> Iterator[str]:
    """Yield a line for every check."""
    for result in results:
        if result.status == "missing":
            continue
        yield f"{result.status:7}  {result.message or result.id}"
        if result.counterexample is not None:
            yield f"  as a vector: {json.dumps(result.counterexample)}"


def _painted(line: str, word: str, colour: bool) -> str:
    return f"\033[{COLOURS[word]}m{line}\033[0m" if colour and word in COLOURS else line
