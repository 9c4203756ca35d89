"""The commands of `python -m ict_ref.verify`: what each one checks, and which waivers it can show to be stale."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass

from ict_ref.utils.progress import Stream
from ict_ref.utils.regular_file import real_path
from ict_ref.utils.system import has_locks_and_signals, needs_linux_or_macos
from ict_ref.verify.audit.data.audit import audit as audit_data
from ict_ref.verify.audit.model.audit import audit as audit_model
from ict_ref.verify.audit.options import AuditOptions
from ict_ref.verify.audit.sampler import audit as audit_sampler
from ict_ref.verify.audit.score.audit import audit as audit_score
from ict_ref.verify.audit.step.audit import audit as audit_step
from ict_ref.verify.audit.training.audit import audit as audit_training
from ict_ref.verify.checks import run_laws, trace
from ict_ref.verify.checks.check import check
from ict_ref.verify.checks.function_checks import Plan, as_namespace, is_checked, refusal, results_of
from ict_ref.verify.checks.result import Result
from ict_ref.verify.errors import VerifyError
from ict_ref.verify.options import (
    CheckOptions,
    ExecOptions,
    FunctionOptions,
    TraceOptions,
)
from ict_ref.verify.report import waivers
from ict_ref.verify.report.finding import CONDUCT
from ict_ref.verify.report.options import ReportOptions
from ict_ref.verify.target.captured import captured_output
from ict_ref.verify.target.external_process import ExternalTarget
from ict_ref.verify.target.load import Target, TargetError, load
from ict_ref.verify.vectors.load import VERSION, functions

NOT_TRIED = "not tried here"
AUDITORS: dict[str, Callable[..., Iterable[Result]]] = {
    "step": lambda target, options: audit_step(target, options.settings),
    "model": audit_model,
    "sampler": audit_sampler,
    "training": audit_training,
    "data": audit_data,
    "score": audit_score,
}
"""The audit of each kind: of a target with its options."""


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
    dtype: str = "float64"
    device: str = "cpu"
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
            stack.enter_context(run_laws.without_files())
            return _check(options)
        case ExecOptions():
            return _exec(options, stack)
        case TraceOptions():
            target = Target(str(options.file), None, str(real_path(options.file)), "unknown")
            results = trace.compare_file(options.file, options.rtol, options.version)
            return Verification(target, results, _only_of(trace.FUNCTION), version=options.version)
        case AuditOptions():
            return _audit(options)


def _check(options: CheckOptions) -> Verification:
    with captured(options):
        target = load(options.target)
    plan = Plan(
        functions=options.only or functions(options.version),
        version=options.version,
        arrays=options.arrays,
        dtype=options.dtype,
        device=options.device,
        seconds=options.seconds,
        values_only=options.values_only,
        strict=options.strict,
        laws=_laws_are_tried(),
        examples=options.examples,
        seed=options.seed,
        traced=not options.only,
    )
    tried = _laws_are_tried() and options.device == "cpu"
    laws = f"on {options.examples} examples each" if tried else f"not tried: {_reason()}"

    def is_tried(name: str) -> bool:
        if is_law(name, options.version) and not tried:
            return False
        return _is_selected(name, options, plan.functions if options.only else (*plan.functions, trace.FUNCTION))

    return Verification(
        target,
        results_of(as_namespace(target.namespace, options.only), plan),
        is_tried,
        total=len(plan.functions),
        version=options.version,
        laws=laws,
        arrays=options.arrays,
        dtype=options.dtype,
        device=options.device,
        seed=options.seed,
        only=options.only,
        all_required=options.require_all,
    )


def _reason() -> str:
    """Return why laws are not tried."""
    return "only on the CPU" if _laws_are_tried() else "pip install hypothesis"


def _exec(options: ExecOptions, stack: ExitStack) -> Verification:
    if not has_locks_and_signals():
        raise VerifyError(needs_linux_or_macos())
    external = stack.enter_context(ExternalTarget(options.command, seconds=options.seconds, version=options.version))
    names = options.only or external.functions(options.version)
    target = Target(options.command, external, shutil.which(external.words[0]) or external.words[0], "unknown")
    plan = Plan(names, options.version, values_only=options.values_only)
    found = check(external, only=names, version=options.version)
    results = (result for result in found if is_checked(result, plan))

    def is_tried(name: str) -> bool:
        return not is_law(name, options.version) and _is_selected(name, options, names)

    return Verification(
        target,
        results,
        is_tried,
        total=len(names),
        version=options.version,
        only=options.only,
        all_required=options.require_all,
    )


def captured(options: ReportOptions) -> AbstractContextManager[Stream]:
    """Return a context that keeps the target's own output out of the report, unless -s shows it, and gives stderr."""
    return nullcontext(sys.stderr) if options.show_output else captured_output()


def _audit(options: AuditOptions) -> Verification:
    with captured(options):
        target = load(options.target)
    if options.kind != "data" and not callable(target.namespace):
        raise TargetError(f"TARGET: expected a callable, got {options.target}. Name it as module:function.")
    results = _late(AUDITORS[options.kind], target.namespace, options)
    device, dtype = getattr(options, "device", "cpu"), getattr(options, "dtype", "float64")
    return Verification(target, results, _only_of(options.kind), dtype=dtype, device=device, seed=options.seed)


def _late(auditor: Callable[..., Iterable[Result]], target: object, options: AuditOptions) -> Iterator[Result]:
    """Yield the results of an audit, which begins when the first is read."""
    yield from auditor(target, options)


def _laws_are_tried() -> bool:
    return run_laws.hypothesis_is_installed()


def is_law(name: str, version: int) -> bool:
    """Return whether the name of a check is that of a law, not of a rule about types and side effects."""
    return run_laws.is_law(name, version) and name.partition(":")[2] not in CONDUCT


def _only_of(function: str) -> Callable[[str], bool]:
    return lambda name: waivers.function(name) == function


def _is_selected(name: str, options: FunctionOptions, chosen: tuple[str, ...]) -> bool:
    """Return whether a check of a vector, or of a function, is selected."""
    if options.values_only and refusal(name, options.version):
        return False
    return waivers.function(name) in chosen
