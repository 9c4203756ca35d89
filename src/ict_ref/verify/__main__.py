"""`python -m ict_ref.verify TARGET`: which formulas of an implementation are right, which are wrong, and how."""

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

from ict_ref.verify import prove, report, trace, waivers
from ict_ref.verify.audit import audit
from ict_ref.verify.check import Result, check
from ict_ref.verify.peer import Peer, PeerError
from ict_ref.verify.target import Target, TargetError, load
from ict_ref.verify.values import ARRAYS
from ict_ref.verify.vectors import VERSION, functions
from ict_ref.verify.versions import chosen

DESCRIPTION = """\
Check an implementation of consistency training against the reference.

TARGET is package.module, package.module:attribute or path/to/file.py[:attribute]: any module or object with some of
the names of ict_ref.formulas (`python -m ict_ref eq` lists them). Each function that it has is called by parameter
name with float64 arrays on the CPU, Python ints and floats; what comes back may be anything torch.as_tensor takes.
Functions that it does not have are listed as missing, which is no failure.

A function is checked by vectors, values from 50-digit arithmetic; by laws, which are tried on examples that Hypothesis
picks (pip install hypothesis), always the same ones unless --seed is given; and all together by the trace of one
training step, of which the first value that differs is named. --trace FILE compares the values of a step that you have
written down yourself, a JSON object of names and nested lists; --trace-inputs prints what it is a step of.

--exec COMMAND checks an implementation in any language instead: COMMAND is started, without a shell, and answers one
JSON object a line, {"id": 7, "function": "c_in", "args": {...}} with {"id": 7, "value": ...}, "error" or "missing"
(ict_ref/verify/peer.py says more; tests/verify/implementations has one in JavaScript). It is not asked for functions
that take others.
"""
EPILOG = """\
exit status:
  0  everything that is there passes
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
    """Return the command line."""
    line = argparse.ArgumentParser(
        prog="python -m ict_ref.verify",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    line.add_argument("target", nargs="?", metavar="TARGET", help="what to check")
    line.add_argument("--exec", dest="command", metavar="COMMAND", help="check a command that speaks JSON instead")
    line.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="of --exec: how long an answer may take (default: 10)"
    )
    line.add_argument("--only", nargs="+", default=[], metavar="NAME", help="check these functions only")
    line.add_argument("--arrays", choices=sorted(ARRAYS), default="torch", help="what arrays are handed over as")
    line.add_argument("--json", type=Path, metavar="FILE", help="write the report for programs")
    line.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit's XML")
    line.add_argument("--waivers", type=Path, metavar="FILE", help="TOML: failures that are known, each with a reason")
    line.add_argument(
        "--values-only",
        action="store_true",
        help="leave out the vectors of arguments that must be refused: for code that leaves checks to its caller",
    )
    line.add_argument("--require-all", action="store_true", help="a missing function is a failure")
    line.add_argument(
        "--audit",
        choices=["step"],
        help="TARGET is a training step, a callable step(network, x, *, step, total_steps) -> loss: a network that "
        "records its calls is put in, and what the step does is read from them",
    )
    line.add_argument("--trace", type=Path, metavar="FILE", help="compare the values of a training step, in JSON")
    line.add_argument(
        "--rtol", type=float, metavar="R", help="of --trace: how near a value must come, for float32 about 1e-4"
    )
    line.add_argument("--trace-inputs", action="store_true", help="print what the traced step is given, and its names")
    line.add_argument(
        "--vectors-version",
        default=str(VERSION),
        metavar="N",
        help="check by this version of the vectors, and call TARGET by its argument names: 1 is for code that was "
        f"written for version 1 (default: {VERSION})",
    )
    line.add_argument(
        "--seed", type=int, default=0, metavar="N", help="other examples for the laws, other draws for the audit"
    )
    line.add_argument(
        "--thorough", action="store_true", help=f"try each law on {prove.MANY} examples instead of {prove.EXAMPLES}"
    )
    return line


def everything(namespace: object, options: argparse.Namespace) -> Iterator[Result]:
    """Return the results of vectors and laws, function by function, then those of the trace."""
    arrays, examples = ARRAYS[options.arrays], prove.MANY if options.thorough else prove.EXAMPLES
    version, seed = options.version, options.seed
    for name in options.only or functions(version):
        found = check(namespace, only=[name], arrays=arrays, version=version)
        yield from (one for one in found if not (options.values_only and report.is_refusal(one.id, version)))
        if prove.available():
            yield from prove.prove(namespace, only=[name], arrays=arrays, examples=examples, seed=seed, version=version)
    if not options.only:
        yield from trace.follow(namespace, arrays, version)


def as_namespace(target: object, only: list[str]) -> object:
    """Return the target, or a function that is to be checked as the one of `only` as a namespace of its own."""
    if len(only) == 1 and callable(target) and not hasattr(target, only[0]):
        return SimpleNamespace(**{only[0]: target})
    return target


def is_tried(name: str, options: argparse.Namespace) -> bool:
    """Return whether a check of this name, or a function's checks, are among what the options ask for."""
    function = waivers.function(name)
    if options.audit or options.trace:
        return function == ("step" if options.audit else trace.FUNCTION)
    if name in prove.names(options.version) and (options.command or not prove.available()):
        return False
    if options.values_only and report.is_refusal(name, options.version):
        return False
    return function in (options.only or (*functions(options.version), trace.FUNCTION))


def of_version(version: int) -> str:
    """Return the end of a message that holds for an earlier version only."""
    return "" if version == VERSION else f", which version {version} of the vectors does not have"


def how_laws_are_tried(options: argparse.Namespace) -> str:
    """Return what the header says of the laws."""
    if options.command or options.audit or options.trace:
        return "not tried here"
    if not prove.available():
        return "not tried: pip install hypothesis"
    return f"on {prove.MANY if options.thorough else prove.EXAMPLES} examples each"


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    line = parser()
    options = line.parse_args(arguments)
    try:
        version = options.version = chosen(options.vectors_version)
    except ValueError as error:
        return refuse(f"--vectors-version: {error}")
    if options.audit and version != VERSION:
        return refuse("--vectors-version: --audit does not use vectors; leave the option out")
    unknown = [name for name in options.only if name not in functions(version)]
    if unknown:
        return refuse(f"--only needs names of ict_ref.formulas; got {', '.join(unknown)}{of_version(version)}")
    if options.trace_inputs:
        if options.target or options.command or options.trace:
            return refuse("--trace-inputs prints, and checks nothing: it goes alone")
        print(trace.inputs(version))
        return 0
    if options.audit and options.only:
        return refuse("--audit looks at a whole step; --only goes without it")
    if sum(map(bool, (options.target, options.command, options.trace))) != 1 or (options.audit and not options.target):
        return refuse("needs a TARGET, --exec COMMAND or --trace FILE, and --audit a TARGET; see --help")
    if options.rtol is not None and not (options.trace and 0 < options.rtol < 1):
        return refuse(f"--rtol goes with --trace and needs a number between 0 and 1; got {options.rtol}")
    if not 0 <= options.seed < 2**32:
        return refuse(f"--seed needs a whole number from 0 to 2^32 - 1; got {options.seed}")
    if options.command and (beyond := [name for name in options.only if name not in Peer.functions(version)]):
        return refuse(f"--exec cannot hand functions to a command, which {', '.join(beyond)} would need")
    for file in filter(None, (options.json, options.junit)):
        if not file.parent.is_dir():
            return refuse(f"{file}: there is no folder {file.parent}")
    try:
        waived = waivers.load(options.waivers, version) if options.waivers else {}
        # What is not tried cannot show that its waiver is no longer needed.
        waived = {name: reason for name, reason in waived.items() if is_tried(name, options)}
        with contextlib.ExitStack() as stack:
            if options.command:
                peer = stack.enter_context(Peer(options.command, seconds=options.seconds, version=version))
                target = Target(options.command, peer, shutil.which(peer.words[0]) or peer.words[0], "unknown")
                found: Iterable[Result] = check(peer, only=options.only or peer.functions(version), version=version)
            elif options.trace:
                target = Target(str(options.trace), None, str(options.trace.resolve()), "unknown")
                found = trace.compare(options.trace, options.rtol, version)
            else:
                target = load(options.target)
                if options.audit:
                    if not callable(target.namespace):
                        return refuse(
                            f"--audit step needs a callable; {options.target} is none; name it as module:function"
                        )
                    found = audit(target.namespace, seed=options.seed)
                else:
                    found = everything(as_namespace(target.namespace, options.only), options)
            total = len(options.only or (Peer.functions(version) if options.command else functions(version)))
            every = list(found) if options.audit or options.trace else with_progress(found, total)
            results = waivers.applied(every, waived)
    except (TargetError, PeerError, trace.TraceError, waivers.WaiverError) as error:
        return refuse(str(error))
    head = report.header(target, options.arrays, options.seed, how_laws_are_tried(options), version)
    if all(result.status == "missing" for result in results):
        which = ", ".join(options.only) or "the functions of ict_ref.formulas; `python -m ict_ref eq` lists them"
        return refuse(f"{target.text} has none of {which}")
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
    """Return the results; on a terminal, say after two seconds how far it is."""
    found: list[Result] = []
    start = time.monotonic()
    for result in results:
        found.append(result)
        if sys.stderr.isatty() and time.monotonic() - start > 2:
            done = len({one.function for one in found})
            left = (time.monotonic() - start) / done * (total - done)
            print(f"\r{done}/{total} functions, {left:.0f} s left ", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty() and time.monotonic() - start > 2:
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    return found


def refuse(message: str) -> int:
    """Say in one line why nothing was checked."""
    print(f"python -m ict_ref.verify: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Asked to end, we end as after Ctrl-C, so that nothing that --exec started is left behind. An implementation's own
    # SystemExit is a failure of it, so this must be another.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
