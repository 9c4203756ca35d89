"""The check of a function by its vectors: call it, compare each value, and note wrong types and side effects once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from ict_ref.verify.checks.compare import Comparison, agrees, compare
from ict_ref.verify.checks.explain import explained, type_deviation, with_cause
from ict_ref.verify.checks.result import FAILING, Kind, Result, Status
from ict_ref.verify.checks.rounding import is_in_reach
from ict_ref.verify.target.arrays import equal_arrays, is_array, placed, stored
from ict_ref.verify.target.call import Call, GlobalStateGuard, called, misnamed
from ict_ref.verify.target.external_process import MissingError
from ict_ref.verify.target.line_process import ExternalTargetError
from ict_ref.verify.target.time_limit import NoAnswerError, limited
from ict_ref.verify.vectors.load import VERSION, Vector, functions, is_refusal, vectors
from ict_ref.verify.vectors.shown import short
from ict_ref.verify.vectors.values import TORCH, Arrays

__all__ = [
    "CALLERS_ARGUMENTS",
    "GLOBAL_STATE",
    "Calling",
    "GlobalStateGuard",
    "Kind",
    "Result",
    "Status",
    "check",
    "check_vector",
    "equal_arrays",
    "is_array",
    "misnamed",
    "short",
]
CALLERS_ARGUMENTS = "a function must not change its arguments"
GLOBAL_STATE = "torch's global state"
TYPE = "returns_the_type_of_its_formula"
# Vectors that code for images, or for batches of them, need not take.
OF_ANOTHER_SHAPE = frozenset({"NoEventAxes", "NotAnImage"})


@dataclass(frozen=True)
class Calling:
    """How an implementation is called: with which arrays, of which dtype, where, and for how long at most."""

    arrays: Arrays = TORCH
    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    seconds: float = 0.0
    """Time limit of a call; 0 is no limit."""


@dataclass(frozen=True)
class Conduct:
    """A wrong type or a side effect of one call; `name` is the rule that is broken."""

    name: str
    kind: Kind
    message: str


def check(
    namespace: object,
    *,
    only: Iterable[str] = (),
    arrays: Arrays = TORCH,
    version: int = VERSION,
    calling: Calling | None = None,
) -> Iterator[Result]:
    """Yield one result for each vector of each function, or one for a missing function.

    A wrong type or a side effect has a result of its own, one for each function. `calling` replaces `arrays`.
    """
    how = calling or Calling(arrays)
    for name in list(only) or functions(version):
        function = getattr(namespace, name, None)
        if callable(function):
            yield from check_function(function, name, how, version)
        else:
            yield Result(name, name, vectors(name, version)[0].source, "missing", message=f"no function {name}")


def check_function(function: Callable[..., object], name: str, how: Calling, version: int = VERSION) -> list[Result]:
    """Return the results of a function's vectors, and of its types and side effects."""
    found: list[Result] = []
    broken: dict[str, Result] = {}
    for vector in vectors(name, version):
        result, conduct = check_call(function, vector, how)
        if result.status == "missing":
            return [*found, result]
        found.append(result)
        for one in conduct:
            if one.name not in broken:
                broken[one.name] = replace(
                    _failed(result, one.message, one.kind), id=f"{name}:{one.name}", got=None, expected=None
                )
    if odd := broken.get(TYPE):
        broken[TYPE] = with_cause(odd, type_deviation(found, version), version)
    return [*explained(found, version), *broken.values()]


def check_vector(
    function: Callable[..., object], vector: Vector, arrays: Arrays = TORCH, formula: str | None = None
) -> Result:
    """Return the result of the value of one vector, whose formula may have another name than its function."""
    return check_call(function, vector, Calling(arrays), formula)[0]


def check_call(
    function: Callable[..., object], vector: Vector, how: Calling, formula: str | None = None
) -> tuple[Result, list[Conduct]]:
    """Return the result of the value of one vector, and the wrong types and side effects of the call."""
    passed = Result(vector.name, vector.function, vector.source, "pass", expected=vector.value, rtol=vector.rtol)
    if mistake := misnamed(function, dict.fromkeys(vector.arguments)):
        return _failed(passed, f"cannot be called by the names of the parameters: {mistake}", "type"), []
    began = perf_counter()
    call = called(limited(function, how.seconds), vector, placed(how.arrays, how.dtype, how.device))
    passed = replace(passed, seconds=perf_counter() - began)
    conduct = list(_side_effects(call))
    if call.raised is not None:
        return _in_reach(_after_exception(passed, vector, call.raised), vector, how, formula), conduct
    passed = replace(passed, got=stored(call.got))
    if is_refusal(vector):
        message = f"got {short(passed.got)}, should be refused: {vector.comment}"
        return _failed(passed, message, "accepts"), conduct
    compared = compare(call.got, vector.value, vector, how.dtype, formula)
    if compared.odd_type and not compared.differs:
        values = f"got {short(passed.got)}, should be {short(vector.value)}"
        conduct.append(Conduct(TYPE, "type", f"{compared.odd_type}{values}"))
    return _in_reach(_compared(passed, vector, call.got, compared, how, formula), vector, how, formula), conduct


def _in_reach(result: Result, vector: Vector, how: Calling, formula: str | None) -> Result:
    """Return the result, with another verdict on a failure where a narrow dtype cannot hold the arguments."""
    narrow = torch.float32 if how.dtype == torch.float64 else how.dtype
    is_checked = result.status != "fail" or result.kind not in FAILING
    if is_checked or is_in_reach(vector, formula or vector.function, narrow):
        return result
    if how.dtype == torch.float64:
        return replace(result, kind="precision")
    reason = f"arguments that are outside the domain in {str(how.dtype).removeprefix('torch.')}"
    return replace(result, status="skipped", message=f"{result.id}: {reason} [{result.source}]")


def _side_effects(call: Call) -> Iterator[Conduct]:
    if call.changed_arguments:
        message = f"changed its argument {', '.join(call.changed_arguments)}; {CALLERS_ARGUMENTS}"
        yield Conduct("keeps_its_arguments", "wrong", message)
    if call.changed_state:
        yield Conduct("keeps_global_state", "type", f"changed {GLOBAL_STATE}: {', '.join(call.changed_state)}")


def _failed(result: Result, message: str, kind: Kind) -> Result:
    """Return the result as a failure with this message."""
    return replace(result, status="fail", kind=kind, message=f"{result.id}: {message} [{result.source}]")


def _kind(vector: Vector) -> Kind:
    """Return the kind of a wrong value."""
    return "elsewhere" if "Elsewhere" in vector.flags else "wrong"


def _after_exception(passed: Result, vector: Vector, raised: BaseException) -> Result:
    """Return the result of a call that raised an exception."""
    if isinstance(raised, MissingError):
        return Result(vector.function, vector.function, vector.source, "missing", message=str(raised))
    if isinstance(raised, ExternalTargetError | NoAnswerError):
        # A command that fails, or a call that does not end, does not reject the arguments.
        return _failed(passed, str(raised), "accepts" if is_refusal(vector) else _kind(vector))
    if is_refusal(vector):
        return passed
    kind = "type" if OF_ANOTHER_SHAPE & set(vector.flags) else _kind(vector)
    text = " ".join(str(raised).split())[:200]
    return _failed(passed, f"raised {type(raised).__name__}: {text}; should be {short(vector.value)}", kind)


def _compared(
    passed: Result, vector: Vector, got: object, compared: Comparison, how: Calling, formula: str | None
) -> Result:
    """Return the result of a value that was compared with the vector's."""
    result = replace(passed, max_rel_error=compared.max_rel_error)
    if not compared.differs:
        return result
    is_right_to_float32 = (
        how.dtype == torch.float64 and not compare(got, vector.value, vector, torch.float32, formula).differs
    )
    for name, alternative in vector.alternatives.items():
        # A variant within rounding of the right value is named only if all digits are those of the variant.
        if agrees(got, alternative, vector, vector.rtol if is_right_to_float32 else 1e-5):
            return replace(result, status="note", kind="note", message=f"{result.id}: {name} [{result.source}]")
    kind: Kind = "precision" if is_right_to_float32 else _kind(vector)
    # All digits are shown where the first six agree.
    digits = 6 if compared.max_rel_error is None or compared.max_rel_error > 1e-5 else 17
    values = f"got {short(result.got, digits)}, should be {short(vector.value, digits)}"
    return _failed(result, f"{compared.what or compared.odd_type}{values} (rtol {vector.rtol:g})", kind)
