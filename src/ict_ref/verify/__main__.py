"""`python -m ict_ref.verify TARGET`: a report of the formulas of an implementation that are right and wrong."""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

from ict_ref.verify import report, run_laws, trace, waivers
from ict_ref.verify.audit import audit
from ict_ref.verify.check import Result, check
from ict_ref.verify.external_process import ExternalTarget, ExternalTargetError
from ict_ref.verify.target import Target, TargetError, load
from ict_ref.verify.values import ARRAYS
from ict_ref.verify.vectors import VERSION, functions
from ict_ref.verify.versions import chosen

DESCRIPTION = """\
Check an implementation of consistency training against the reference.

TARGET is package.module, package.module:attribute or path/to/file.py[:attribute]: any module or object with some of
the names of ict_ref.formulas (`python -m ict_ref eq` lists them). Each function is called by parameter name
with float64 arrays on the CPU, Python ints and floats; it may return anything that torch.as_tensor accepts.
Missing functions are listed and do not count as failures.

A function is checked by vectors, whose values come from 50-digit arithmetic, and by laws. Laws run on examples from
Hypothesis (pip install hypothesis), always the same ones unless --seed is given. The trace of one training step checks
all functions together and names the first value that differs. --trace FILE compares values of that step from a JSON
object of names and nested lists; --trace-inputs prints the inputs of the step.

--exec COMMAND checks an implementation in any language instead. COMMAND is started without a shell. For each line
{"id": 7, "function": "c_in", "args": {...}} it writes a line {"id": 7, "value": ...}, "error" or "missing".
ict_ref/verify/external_process.py describes the format; tests/verify/implementations has an example in JavaScript.
Functions that take functions are left out.
"""
EPILOG = """\
exit status:
  0  every function that exists passes
  1  something fails, a waiver is stale, or with --require-all something is missing
  2  usage error, or TARGET cannot be imported

examples:
  python -m ict_ref.verify my_package.my_module
  python -m ict_ref.verify losses.py:Loss.huber --only pseudo_huber
  python -m ict_ref.verify my_package.my_module --json report.json --waivers waivers.toml
  python -m ict_ref.verify my_package.train:step --audit step
  python -m ict_ref.verify --trace-inputs > inputs.json; my_program inputs.json > mine.json
  python -m ict_ref.verify --trace mine.json
  python -m ict_ref.verify --exec "node peer.js"
  python -m ict_ref.verify my_package.my_module --vectors-version 1
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    line = argparse.ArgumentParser(
        prog="python -m ict_ref.verify",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    line.add_argument("target", nargs="?", metavar="TARGET", help="what to check")
    line.add_argument("--exec", dest="command", metavar="COMMAND", help="check a command that exchanges JSON instead")
    line.add_argument(
        "--seconds",
        type=float,
        default=10.0,
        metavar="S",
        help="for --exec: the time limit of a call in seconds (default: 10)",
    )
    line.add_argument("--only", nargs="+", default=[], metavar="NAME", help="check these functions only")
    line.add_argument("--arrays", choices=sorted(ARRAYS), default="torch", help="the array type of the arguments")
    line.add_argument("--json", type=Path, metavar="FILE", help="write the report for programs")
    line.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit's XML")
    line.add_argument("--waivers", type=Path, metavar="FILE", help="TOML: known failures, each with a reason")
    line.add_argument(
        "--values-only",
        action="store_true",
        help="leave out the vectors of invalid arguments, for code that leaves checks to its caller",
    )
    line.add_argument("--require-all", action="store_true", help="a missing function is a failure")
    line.add_argument(
        "--audit",
        choices=["step"],
        help="TARGET is a training step, a callable step(network, x, *, step, total_steps) -> loss: the audit passes a "
        "network that records its calls, and checks the step from the record",
    )
    line.add_argument("--trace", type=Path, metavar="FILE", help="compare the values of a training step, in JSON")
    line.add_argument(
        "--rtol", type=float, metavar="R", help="for --trace: the relative tolerance, for float32 about 1e-4"
    )
    line.add_argument("--trace-inputs", action="store_true", help="print the inputs and the names of the traced step")
    line.add_argument(
        "--vectors-version",
        default=str(VERSION),
        metavar="N",
        help="check by this version of the vectors, and call TARGET by its argument names: 1 is for code that was "
        f"written for version 1 (default: {VERSION})",
    )
    line.add_argument(
        "--seed", type=int, default=0, metavar="N", help="use other examples for the laws and other noise for the audit"
    )
    line.add_argument(
        "--thorough",
        action="store_true",
        help=f"try each law on {run_laws.THOROUGH_EXAMPLES} examples instead of {run_laws.EXAMPLES}",
    )
    return line


def everything(namespace: object, options: argparse.Namespace) -> Iterator[Result]:
    """Yield the results of vectors and laws, function by function, then those of the trace."""
    arrays, examples = ARRAYS[options.arrays], run_laws.THOROUGH_EXAMPLES if options.thorough else run_laws.EXAMPLES
    version, seed = options.version, options.seed
    for name in options.only or functions(version):
        found = check(namespace, only=[name], arrays=arrays, version=version)
        yield from (result for result in found if not (options.values_only and report.is_refusal(result.id, version)))
        if run_laws.hypothesis_is_installed():
            yield from run_laws.check_laws(
                namespace, only=[name], arrays=arrays, examples=examples, seed=seed, version=version
            )
    if not options.only:
        yield from trace.check_trace(namespace, arrays, version)


def as_namespace(target: object, only: list[str]) -> object:
    """Return the target, or a namespace with the target as the one function of `only`."""
    if len(only) == 1 and callable(target) and not hasattr(target, only[0]):
        return SimpleNamespace(**{only[0]: target})
    return target


def is_tried(name: str, options: argparse.Namespace) -> bool:
    """Return whether the options select a check of this name, or a function's checks."""
    function = waivers.function(name)
    if options.audit or options.trace:
        return function == ("step" if options.audit else trace.FUNCTION)
    if name in run_laws.law_names(options.version) and (options.command or not run_laws.hypothesis_is_installed()):
        return False
    if options.values_only and report.is_refusal(name, options.version):
        return False
    return function in (options.only or (*functions(options.version), trace.FUNCTION))


def of_version(version: int) -> str:
    """Return the end of a message that holds for an earlier version only."""
    return "" if version == VERSION else f", which version {version} of the vectors does not have"


def how_laws_are_tried(options: argparse.Namespace) -> str:
    """Return the header's text about the laws."""
    if options.command or options.audit or options.trace:
        return "not tried here"
    if not run_laws.hypothesis_is_installed():
        return "not tried: pip install hypothesis"
    return f"on {run_laws.THOROUGH_EXAMPLES if options.thorough else run_laws.EXAMPLES} examples each"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = parser().parse_args(arguments)
    try:
        options.version = chosen(options.vectors_version)
    except ValueError as error:
        return refuse(f"--vectors-version: {error}")
    if message := wrong_names(options):
        return refuse(message)
    if options.trace_inputs:
        if options.target or options.command or options.trace:
            return refuse("--trace-inputs prints the inputs and does not check anything: use it alone")
        print(trace.inputs(options.version))
        return 0
    if message := wrong_usage(options):
        return refuse(message)
    try:
        waived = waivers.load(options.waivers, options.version) if options.waivers else {}
        # A check that is not run cannot show that its waiver is not needed.
        waived = {name: reason for name, reason in waived.items() if is_tried(name, options)}
        with contextlib.ExitStack() as stack:
            target, found, total = checks(options, stack)
            results = waivers.applied(list(found) if total is None else with_progress(found, total), waived)
    except (TargetError, ExternalTargetError, trace.TraceError, waivers.WaiverError) as error:
        return refuse(str(error))
    return report_results(options, target, results)


def wrong_names(options: argparse.Namespace) -> str:
    """Return the error message about --only and --vectors-version, or ""."""
    if options.audit and options.version != VERSION:
        return "--vectors-version: --audit does not use vectors; leave the option out"
    unknown = [name for name in options.only if name not in functions(options.version)]
    if unknown:
        return f"--only needs names of ict_ref.formulas; got {', '.join(unknown)}{of_version(options.version)}"
    return ""


def wrong_usage(options: argparse.Namespace) -> str:
    """Return the error message about options that do not fit together, or ""."""
    if options.audit and options.only:
        return "--audit checks a whole step; use it without --only"
    if sum(map(bool, (options.target, options.command, options.trace))) != 1 or (options.audit and not options.target):
        return "needs a TARGET, --exec COMMAND or --trace FILE, and --audit a TARGET; see --help"
    if options.rtol is not None and not (options.trace and 0 < options.rtol < 1):
        return f"--rtol goes with --trace and needs a number between 0 and 1; got {options.rtol}"
    if not 0 <= options.seed < 2**32:
        return f"--seed needs a whole number from 0 to 2^32 - 1; got {options.seed}"
    if options.command:
        possible = ExternalTarget.functions(options.version)
        if beyond := [name for name in options.only if name not in possible]:
            return f"--exec cannot send functions to a command, which {', '.join(beyond)} would need"
    for file in filter(None, (options.json, options.junit)):
        if not file.parent.is_dir():
            return f"{file}: the folder {file.parent} does not exist"
    return ""


def checks(options: argparse.Namespace, stack: contextlib.ExitStack) -> tuple[Target, Iterable[Result], int | None]:
    """Return the target, its results, and the number of functions if progress can be measured by them."""
    if options.command:
        return command_checks(options, stack)
    if options.trace:
        target = Target(str(options.trace), None, str(options.trace.resolve()), "unknown")
        return target, trace.compare_file(options.trace, options.rtol, options.version), None
    target = load(options.target)
    if options.audit:
        if not callable(target.namespace):
            raise TargetError(
                f"--audit step needs a callable; {options.target} is not callable; name it as module:function"
            )
        return target, audit(target.namespace, seed=options.seed), None
    total = len(options.only or functions(options.version))
    return target, everything(as_namespace(target.namespace, options.only), options), total


def command_checks(
    options: argparse.Namespace, stack: contextlib.ExitStack
) -> tuple[Target, Iterable[Result], int | None]:
    """Start the command of --exec and return it as a target, its results and the number of its functions."""
    external = stack.enter_context(ExternalTarget(options.command, seconds=options.seconds, version=options.version))
    names = options.only or external.functions(options.version)
    target = Target(options.command, external, shutil.which(external.words[0]) or external.words[0], "unknown")
    return target, check(external, only=names, version=options.version), len(names)


def report_results(options: argparse.Namespace, target: Target, results: list[Result]) -> int:
    """Print and write the reports, and return the exit status."""
    head = report.header(target, options.arrays, options.seed, how_laws_are_tried(options), options.version)
    if all(result.status == "missing" for result in results):
        which = ", ".join(options.only) or "the functions of ict_ref.formulas; `python -m ict_ref eq` lists them"
        return refuse(f"{target.text} does not have any of {which}")
    print(report.text(head, results))
    try:
        for file, write in ((options.json, report.as_json), (options.junit, report.as_junit)):
            if file:
                file.write_text(write(head, results), encoding="utf-8")
    except OSError as error:
        return refuse(f"{error.filename}: {error.strerror}")
    failed = any(result.status == "fail" for result in results)
    lacking = options.require_all and any(result.status == "missing" for result in results)
    return 1 if failed or lacking else 0


def with_progress(results: Iterable[Result], total: int) -> list[Result]:
    """Return the results; after two seconds print the progress on a terminal."""
    found: list[Result] = []
    start = time.monotonic()
    for result in results:
        found.append(result)
        if sys.stderr.isatty() and time.monotonic() - start > 2:
            done = len({result.function for result in found})
            left = (time.monotonic() - start) / done * (total - done)
            print(f"\r{done}/{total} functions, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty() and time.monotonic() - start > 2:
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    return found


def refuse(message: str) -> int:
    """Print a one-line error message and return exit status 2."""
    print(f"python -m ict_ref.verify: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # SIGTERM ends the command like Ctrl-C, so that the processes of --exec are killed. SystemExit would not do: it
    # counts as a failure of the implementation.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
