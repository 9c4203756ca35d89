"""The report of a verification: its head, a row for each function, the findings, and the exit status."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

from ict_ref.verify.checks import trace
from ict_ref.verify.checks.result import FAILING, MEANINGS, Result, Status
from ict_ref.verify.report.finding import Finding, findings
from ict_ref.verify.vectors.load import PAPERS, VERSION, paper_of

Word: TypeAlias = Literal["missing", "right", "skipped", "note", "waived", "FAIL", "WRONG"]
LAST_IS_READ_FIRST: tuple[Word, ...] = ("missing", "right", "skipped", "note", "waived", "FAIL", "WRONG")
STATUSES: tuple[Status, ...] = ("pass", "fail", "skipped", "note", "missing", "waived")
NOTHING_CHECKED = 3


def graded(results: Iterable[Result], strict: bool) -> list[Result]:
    """Return the results, with those as notes that fail only if the verification is strict."""
    return [
        replace(result, status="note")
        if result.status == "fail" and result.kind not in FAILING and not strict
        else result
        for result in results
    ]


@dataclass(frozen=True)
class Row:
    """One function of the report."""

    word: Word
    function: str
    count: str
    """Number of checks, with that of failures if there are some."""
    remark: str
    """Source, or the causes of what was found."""
    paper: str = ""
    """The paper of the function."""


@dataclass(frozen=True)
class Report:
    """Everything that a report shows, in any format."""

    head: dict[str, object]
    results: list[Result]
    version: int = VERSION
    all_required: bool = False
    """Whether a missing function is a failure."""
    verbose: bool = False

    @cached_property
    def findings(self) -> list[Finding]:
        """The findings; those that fail first."""
        return findings(self.results, self.version)

    @cached_property
    def failures(self) -> list[Finding]:
        """The findings that decide the exit status."""
        return [finding for finding in self.findings if finding.fails]

    @cached_property
    def rows(self) -> list[Row]:
        """One row for each function that exists, what is wrong last."""
        of_function: dict[str, list[Result]] = {}
        for result in self.results:
            traced = result.id.startswith(f"{trace.FUNCTION}:")
            of_function.setdefault(trace.FUNCTION if traced else result.function, []).append(result)
        found = [self._row(function, of) for function, of in of_function.items()]
        return [row for word in LAST_IS_READ_FIRST for row in found if row.word == word != "missing"]

    def _row(self, function: str, results: list[Result]) -> Row:
        counted = [result for result in results if counts(result)]
        failed = sum(result.status == "fail" for result in counted)
        word = _word(results)
        total = str(len(counted))
        count = f"{failed} of {total}" if failed else total
        source = next((result.source for result in results if result.source), "")
        return Row(word, function, count, self._remark(word, function, results), paper_of(source))

    def _remark(self, word: Word, function: str, results: list[Result]) -> str:
        """Return what stands behind the count of a function."""
        ids = {result.id for result in results}
        found = [finding for finding in self.findings if ids & set(finding.checks)]
        found = [finding for finding in found if finding.fails == (word in ("FAIL", "WRONG"))]
        texts = [_short_cause(finding, function) for finding in found if finding.fails or finding.kind != "accepts"]
        if word == "waived":
            texts = [f"{sum(result.status == 'waived' for result in results)} known failures"]
        if word == "skipped":
            texts = texts or [next(result.message for result in results if result.status == "skipped")]
        if function == trace.FUNCTION and word == "note":
            texts = list(dict.fromkeys(MEANINGS[finding.kind] for finding in found))
        if texts and word != "right":
            source = next((f" [{finding.source}]" for finding in found if finding.fails and finding.source), "")
            return ("; ".join(dict.fromkeys(texts)) + source).strip()
        if function == trace.FUNCTION:
            return "a training step, value after value"
        return next((result.source for result in results if result.source), "").split("; ")[0]

    @cached_property
    def summary(self) -> dict[Status, int]:
        """The numbers of results by status."""
        statuses = Counter(result.status for result in self.results)
        return {status: statuses[status] for status in STATUSES}

    @property
    def missing(self) -> int:
        """The number of functions that the target does not have."""
        return self.summary["missing"]

    @property
    def accepted(self) -> list[Result]:
        """The arguments outside the domain that were accepted, and do not count."""
        return [result for result in self.results if result.status == "note" and result.kind == "accepts"]

    @property
    def exit_status(self) -> int:
        """0 if nothing is wrong, 1 if something is, 3 if nothing could be checked."""
        if self.summary["fail"] or (self.all_required and self.missing):
            return 1
        return 0 if any(map(is_checked, self.results)) else NOTHING_CHECKED

    @property
    def papers(self) -> list[str]:
        """The papers of the functions that exist, in the order in which they appeared."""
        return [paper for paper in PAPERS if any(row.paper == paper for row in self.rows)]

    @property
    def is_audit(self) -> bool:
        """Whether the rows are checks of an audit, whose names begin with what is audited, not functions."""
        return bool(self.rows) and all(":" in row.function for row in self.rows)

    @property
    def verdict(self) -> str:
        """The last line of the report."""
        wrong = [row for row in self.rows if row.word in ("WRONG", "FAIL")]
        checked = [row for row in self.rows if row.word != "skipped"]
        wrong, checked = ([row for row in rows if row.function != trace.FUNCTION] or rows for rows in (wrong, checked))
        parts = [f"{wrong[-1].word}  {len(wrong)} of {len(checked)}" if wrong else f"right  {len(checked)}"]
        parts[0] += " checks" if self.is_audit else " functions"
        for word, text in (("note", "with a note"), ("waived", "waived"), ("skipped", "not counted")):
            number = sum(row.word == word for row in self.rows)
            parts += [f"{number} {text}"] if number else []
        parts += [f"{self.missing} missing"] if self.missing and self.all_required else []
        return "; ".join([*parts, f"status {self.exit_status}"])

    @property
    def badge(self) -> tuple[str, str]:
        """The message and the colour of a badge."""
        checked = [row for row in self.rows if row.word != "skipped" and row.function != trace.FUNCTION]
        right = sum(row.word in ("right", "note") for row in checked)
        colour = {0: "brightgreen", 1: "red"}.get(self.exit_status, "lightgrey")
        return f"{right}/{len(checked)} right, vectors {self.version}", colour


def counts(result: Result) -> bool:
    """Return whether a result is one of the checks of its function: skipped ones and uncounted refusals are not."""
    return result.status not in ("skipped", "missing") and not (result.status == "note" and result.kind == "accepts")


def is_checked(result: Result) -> bool:
    """Return whether a result is a verdict about a value."""
    return result.status in ("pass", "waived") or (result.status == "note" and result.kind in ("precision", "note"))


def _word(results: list[Result]) -> Word:
    """Return the word for all results of a function."""
    statuses = {result.status for result in results}
    failed = {result.kind for result in results if result.status == "fail"}
    if statuses == {"missing"}:
        return "missing"
    if failed:
        return "WRONG" if failed & FAILING else "FAIL"
    if "waived" in statuses:
        return "waived"
    if not any(map(is_checked, results)):
        return "skipped"
    return "note" if any(result.status == "note" and result.kind != "accepts" for result in results) else "right"


def _short_cause(finding: Finding, function: str) -> str:
    """Return the cause of a finding in few words."""
    names = " and ".join(finding.deviations)
    if finding.fails and (names or finding.cause.startswith("step:")):
        return names  # the whole cause of an audit is in the findings
    text = finding.cause.removeprefix(f"{function}: ").removeprefix(f"{function} ")
    return text.removeprefix("is ") + (f" ({names})" if names else "")
