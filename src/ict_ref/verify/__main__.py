"""`python -m ict_ref.verify TARGET`: a report of the formulas of an implementation that are right and wrong."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ict_ref.utils.command_line import guarded
from ict_ref.utils.option_parser import parse_options
from ict_ref.utils.progress import bar
from ict_ref.verify import report, trace, waivers
from ict_ref.verify.check import Result
from ict_ref.verify.commands import Verification, verification
from ict_ref.verify.line_process import ExternalTargetError
from ict_ref.verify.options import COMMANDS, EPILOG, Options, TraceInputsOptions, with_command
from ict_ref.verify.target import TargetError

NAME = "ict_ref.verify"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    expected_errors = (ValueError, TargetError, ExternalTargetError, trace.TraceError, waivers.WaiverError)
    return guarded(f"python -m {NAME}", lambda: verify(options_of(arguments)), refused=expected_errors)


def options_of(arguments: Sequence[str] | None) -> Options:
    """Return the options of the command that the arguments name.

    Raises:
        ValueError: An option does not exist, or has a value that is not allowed.
    """
    command, *words = with_command(sys.argv[1:] if arguments is None else arguments)
    return parse_options(COMMANDS[command], words, NAME if command == "check" else f"{NAME} {command}", EPILOG)


def verify(options: Options) -> int:
    """Run the checks, print and write the reports, and return the exit status.

    Raises:
        TargetError: The target cannot be loaded, or does not have any of the functions.
        ExternalTargetError: A command cannot be started.
        TraceError: The file of values cannot be used.
        WaiverError: The file of waivers cannot be used.
        OSError: A report cannot be written.
    """
    if isinstance(options, TraceInputsOptions):
        print(trace.inputs(options.version))
        return 0
    with ExitStack() as stack:
        checks = verification(options, stack)
        waived = waivers.load(options.waivers, checks.version) if options.waivers else {}
        # A check that is not run cannot show that its waiver is not needed.
        waived = {name: reason for name, reason in waived.items() if checks.is_tried(name)}
        results = waivers.applied(with_progress(checks), waived)
    statuses = {result.status for result in results}
    if statuses <= {"missing"}:
        which = ", ".join(checks.only) or "the functions of ict_ref.formulas; `python -m ict_ref eq` lists them"
        raise TargetError(f"{checks.target.text} does not have any of {which}")
    write_reports(checks, results, options.json, options.junit)
    return 1 if "fail" in statuses or (checks.all_required and "missing" in statuses) else 0


def with_progress(checks: Verification) -> list[Result]:
    """Return the results; show the progress on a terminal if the number of functions is known."""
    if checks.total is None:
        return list(checks.results)
    found: list[Result] = []
    functions = set[str]()
    with bar(checks.total, "checking", "functions", shown=sys.stderr.isatty()) as progress:
        for result in checks.results:
            found.append(result)
            functions.add(result.function)
            progress.update(min(len(functions), checks.total) - progress.n)
    return found


def write_reports(checks: Verification, results: list[Result], json: Path | None, junit: Path | None) -> None:
    """Print the report, and write it for programs.

    Raises:
        OSError: A file cannot be written.
    """
    head = report.header(checks.target, checks.arrays, checks.seed, checks.laws, checks.version)
    print(report.text(head, results))
    for file, write in ((json, report.as_json), (junit, report.as_junit)):
        if file:
            file.write_text(write(head, results), encoding="utf-8")


def interrupt(number: int, _frame: FrameType | None) -> NoReturn:
    """End the command like Ctrl-C, so that the processes of exec are killed.

    SystemExit would not do: it counts as a failure of the implementation.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupt)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
