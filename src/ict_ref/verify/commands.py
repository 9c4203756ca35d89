"""The commands of `python -m ict_ref.verify`: what each one checks, and which waivers it can show to be stale."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import SimpleNamespace

from ict_ref.verify import report, run_laws, trace, waivers
from ict_ref.verify.audit import audit
from ict_ref.verify.check import Result, check
from ict_ref.verify.external_process import ExternalTarget
from ict_ref.verify.options import AuditOptions, CheckOptions, ExecOptions, FunctionOptions, TraceOptions
from ict_ref.verify.target import Target, TargetError, load
from ict_ref.verify.values import ARRAYS
from ict_ref.verify.vectors import VERSION, functions

NOT_TRIED = "not tried here"


@dataclass(frozen=True)
class Verification:
    """The checks of one command, which run as `results` is read."""

    target: Target
    results: Iterable[Result]
    is_tried: Callable[[str], bool]
    """Whether the check of this name, or a check of this function, is among the results."""
    total: int | None = None
    """Number of functions, if progress can be measured by them."""
    version: int = VERSION
    laws: str = NOT_TRIED
    """The header's text about the laws."""
    arrays: str = "torch"
    seed: int = 0
    only: tuple[str, ...] = ()
    """Functions that are checked; empty for all."""
    all_required: bool = False
    """Whether a missing function is a failure."""


def verification(options: CheckOptions | ExecOptions | TraceOptions | AuditOptions, stack: ExitStack) -> Verification:
    """Return the verification of a command; `stack` ends what it starts.

    Raises:
        TargetError: The target cannot be loaded, or is not what the command checks.
        ExternalTargetError: The command cannot be started.
    """
    match options:
        case CheckOptions():
            return _check(options)
        case ExecOptions():
            return _exec(options, stack)
        case TraceOptions():
            target = Target(str(options.file), None, str(options.file.resolve()), "unknown")
            results = trace.compare_file(options.file, options.rtol, options.version)
            return Verification(target, results, _only_of(trace.FUNCTION), version=options.version)
        case AuditOptions():
            return _audit(options)


def _check(options: CheckOptions) -> Verification:
    target = load(options.target)
    chosen = options.only or functions(options.version)
    laws = f"on {options.examples} examples each" if _laws_are_tried() else "not tried: pip install hypothesis"

    def is_tried(name: str) -> bool:
        if run_laws.is_law(name, options.version) and not _laws_are_tried():
            return False
        return _is_selected(name, options, chosen if options.only else (*chosen, trace.FUNCTION))

    return Verification(
        target,
        _results(_as_namespace(target.namespace, options.only), options),
        is_tried,
        total=len(chosen),
        version=options.version,
        laws=laws,
        arrays=options.arrays,
        seed=options.seed,
        only=options.only,
        all_required=options.require_all,
    )


def _results(namespace: object, options: CheckOptions) -> Iterator[Result]:
    """Yield the results of vectors and laws, function by function, then those of the trace."""
    arrays, version = ARRAYS[options.arrays], options.version
    for name in options.only or functions(version):
        found = check(namespace, only=[name], arrays=arrays, version=version)
        yield from (result for result in found if not (options.values_only and report.is_refusal(result.id, version)))
        if _laws_are_tried():
            yield from run_laws.check_laws(
                namespace, only=[name], arrays=arrays, examples=options.examples, seed=options.seed, version=version
            )
    if not options.only:
        yield from trace.check_trace(namespace, arrays, version)


def _as_namespace(target: object, only: tuple[str, ...]) -> object:
    """Return the target, or a namespace with the target as the one function of `only`."""
    if len(only) == 1 and callable(target) and not hasattr(target, only[0]):
        return SimpleNamespace(**{only[0]: target})
    return target


def _exec(options: ExecOptions, stack: ExitStack) -> Verification:
    external = stack.enter_context(ExternalTarget(options.command, seconds=options.seconds, version=options.version))
    names = options.only or external.functions(options.version)
    target = Target(options.command, external, shutil.which(external.words[0]) or external.words[0], "unknown")
    found = check(external, only=names, version=options.version)
    results = (
        result for result in found if not (options.values_only and report.is_refusal(result.id, options.version))
    )

    def is_tried(name: str) -> bool:
        return not run_laws.is_law(name, options.version) and _is_selected(name, options, names)

    return Verification(
        target,
        results,
        is_tried,
        total=len(names),
        version=options.version,
        only=options.only,
        all_required=options.require_all,
    )


def _audit(options: AuditOptions) -> Verification:
    target = load(options.target)
    if not callable(target.namespace):
        raise TargetError(f"TARGET: expected a callable, got {options.target}. Name it as module:function.")
    return Verification(target, audit(target.namespace, seed=options.seed), _only_of("step"), seed=options.seed)


def _laws_are_tried() -> bool:
    return run_laws.hypothesis_is_installed()


def _only_of(function: str) -> Callable[[str], bool]:
    return lambda name: waivers.function(name) == function


def _is_selected(name: str, options: FunctionOptions, chosen: tuple[str, ...]) -> bool:
    """Return whether a check of a vector, or of a function, is selected."""
    if options.values_only and report.is_refusal(name, options.version):
        return False
    return waivers.function(name) in chosen
