"""The run of a command: checks, then the report on paper and in files."""

from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter

from ict_ref.utils.command_line import say
from ict_ref.utils.progress import Stream, bar
from ict_ref.verify.checks import trace
from ict_ref.verify.checks.result import Result
from ict_ref.verify.commands import Verification, captured, verification
from ict_ref.verify.options import (
    Options,
    TraceInputsOptions,
)
from ict_ref.verify.report import waivers
from ict_ref.verify.report.options import ReportOptions, files_of
from ict_ref.verify.report.output import append_step_summary, as_badge, write
from ict_ref.verify.report.provenance import vectors_sha256, versions
from ict_ref.verify.report.render_data import as_json, as_junit
from ict_ref.verify.report.render_document import as_latex, as_markdown
from ict_ref.verify.report.render_text import as_text
from ict_ref.verify.report.report import NOTHING_CHECKED, Report, graded

NAME = "ict_ref.verify"


def verify(options: Options) -> int:
    """Run the checks, print and write the reports, and return the exit status.

    Raises:
        TargetError: The target cannot be loaded.
        ExternalTargetError: A command cannot be started.
        TraceError: The file of values cannot be used.
        WaiverError: The file of waivers cannot be used.
        OSError: A report cannot be written.
    """
    if isinstance(options, TraceInputsOptions):
        print(trace.inputs(options.version))
        return 0
    began = perf_counter()
    with ExitStack() as stack:
        checks = verification(options, stack)
        waived = waivers.load(options.waivers, checks.version) if options.waivers else {}
        # A check that is not run cannot show that its waiver is not needed.
        waived = {name: reason for name, reason in waived.items() if checks.is_tried(name)}
        with captured(options) as stderr:
            found = with_progress(checks, stderr)
    results = waivers.applied(graded(found, options.strict), waived)
    if {result.status for result in results} <= {"missing"}:
        which = ", ".join(checks.only) or (
            "the functions of ict_ref.formulas; `python -m ict_ref eq` lists them, "
            f"and `python -m {NAME} audit step` checks a step without their names"
        )
        return say(f"python -m {NAME}", NOTHING_CHECKED, f"{checks.target.text} does not have any of {which}")
    report = Report(head_of(checks, began), results, checks.version, checks.all_required, options.verbose)
    write_reports(report, options)
    return report.exit_status


def head_of(checks: Verification, began: float) -> dict[str, object]:
    """Return the target of the verification, its settings and its duration in seconds."""
    return {
        **versions(checks.target),
        "vectors": checks.version,
        "vectors_sha256": vectors_sha256(checks.version),
        "arrays": checks.arrays,
        "dtype": checks.dtype,
        "device": checks.device,
        "seed": checks.seed,
        "laws": checks.laws,
        "duration": round(perf_counter() - began, 3),
    }


def with_progress(checks: Verification, stderr: Stream) -> list[Result]:
    """Return the results; show the progress on a terminal if the number of functions is known."""
    if checks.total is None:
        return list(checks.results)
    found: list[Result] = []
    functions = set[str]()
    with bar(checks.total, "checking", "functions", shown=stderr.isatty(), file=stderr) as progress:
        for result in checks.results:
            found.append(result)
            functions.add(result.function)
            progress.set_postfix_str(result.function)
            progress.update(min(len(functions), checks.total) - progress.n)
    return found


PRINTED: dict[str, Callable[[Report], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}
WRITTEN: dict[str, Callable[[Report], str]] = {
    "--json": as_json,
    "--junit": as_junit,
    "--badge": lambda report: as_badge(*report.badge),
}


def write_reports(report: Report, options: ReportOptions) -> None:
    """Print the report, and write it for programs.

    Raises:
        ValueError: A file belongs to something else.
        OSError: A file cannot be written.
    """
    print(PRINTED[options.format](report))
    for option, file in files_of(options):
        write(file, option, WRITTEN[option](report))
    append_step_summary(as_markdown(report))
