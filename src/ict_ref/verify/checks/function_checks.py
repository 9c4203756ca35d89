"""The checks of each function of an implementation: vectors, then laws, then the trace of a training step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import wraps
from time import perf_counter
from types import SimpleNamespace

import torch

from ict_ref.verify.checks import run_laws, trace
from ict_ref.verify.checks.check import Calling, check_function
from ict_ref.verify.checks.law import Law
from ict_ref.verify.checks.result import FAILING, Result
from ict_ref.verify.target.arrays import as_whole
from ict_ref.verify.target.call import GlobalStateGuard, misnamed, recognised
from ict_ref.verify.target.time_limit import NoAnswerError, limited
from ict_ref.verify.vectors.load import VERSION, is_refusal, vectors
from ict_ref.verify.vectors.values import ARRAYS, NUMPY, TORCH, Arrays
from ict_ref.verify.vectors.versions import signature


@dataclass(frozen=True)
class Plan:
    """The functions and checks of a verification, and how functions are called."""

    functions: tuple[str, ...]
    version: int = VERSION
    arrays: str = "auto"
    """Name of the array type; auto recognises that of each function."""
    dtype: str = "float64"
    device: str = "cpu"
    seconds: float = 0.0
    """Time limit of a call; 0 is no limit."""
    values_only: bool = False
    """Whether refusals are left out."""
    strict: bool = False
    """Whether laws are tried in float64 for functions that compute in float32 too."""
    laws: bool = True
    examples: int = run_laws.EXAMPLES
    seed: int = 0
    traced: bool = True
    """Whether the trace is checked as well."""


def results_of(namespace: object, plan: Plan) -> Iterator[Result]:
    """Yield the results of each function, vectors first, then those of the trace."""
    functions = {name: getattr(namespace, name, None) for name in plan.functions}
    arrays = _arrays({name: function for name, function in functions.items() if callable(function)}, plan)
    for name, function in functions.items():
        if callable(function):
            yield from _of_function(function, name, arrays[name], plan)
        else:
            yield Result(name, name, vectors(name, plan.version)[0].source, "missing", message=f"no function {name}")
    if plan.traced:
        yield from _of_trace(namespace, arrays, plan)


def is_checked(result: Result, plan: Plan) -> bool:
    """Return whether a result counts: with `values_only`, arguments outside the domain do not."""
    return not (plan.values_only and (result.kind == "accepts" or refusal(result.id, plan.version)))


def refusal(name: str, version: int) -> bool:
    """Return whether a name is that of a vector with arguments outside the domain."""
    function, _, number = name.partition("#")
    return bool(number) and any(vector.name == name and is_refusal(vector) for vector in vectors(function, version))


def _arrays(functions: dict[str, Callable[..., object]], plan: Plan) -> dict[str, Arrays]:
    """Return the array type of each function; what takes both gets that which others need."""
    if plan.arrays != "auto":
        return dict.fromkeys(functions, ARRAYS[plan.arrays])
    found: dict[str, Arrays | None] = {}
    for name, function in functions.items():
        first = next((vector for vector in vectors(name, plan.version) if not is_refusal(vector)), None)
        found[name] = None if first is None else recognised(limited(function, plan.seconds), first)
    needed = set(filter(None, found.values()))
    default = NUMPY if needed == {NUMPY} else TORCH
    return {name: arrays or default for name, arrays in found.items()}


def _of_function(function: Callable[..., object], name: str, arrays: Arrays, plan: Plan) -> Iterator[Result]:
    how = Calling(arrays, getattr(torch, plan.dtype), plan.device, plan.seconds)
    found = check_function(function, name, how, plan.version)
    laws = _laws(function, name, arrays, plan, found) if plan.laws and plan.device == "cpu" else ()
    yield from (result for result in (*found, *laws) if is_checked(result, plan))


def _is_narrow(found: list[Result]) -> bool:
    """Return whether a function seems to compute in float32."""
    narrow = any(isinstance(result.got, dict) and result.got.get("dtype") == "float32" for result in found)
    return narrow or any(result.kind == "precision" for result in found if result.status == "fail")


def _laws(
    function: Callable[..., object], name: str, arrays: Arrays, plan: Plan, found: list[Result]
) -> Iterator[Result]:
    """Yield the results of a function's laws, none if it cannot be called by its parameters.

    `found` are the results of its vectors.
    """
    narrow = _is_narrow(found) and not plan.strict and plan.dtype == "float64"
    right = not any(result.status == "fail" and result.kind in FAILING for result in found)
    needed = dict(vectors(name, plan.version)[0].arguments)
    if misnamed(function, needed):
        return  # the vectors report it
    whole = all(isinstance(vector.value, int) for vector in vectors(name, plan.version) if not is_refusal(vector))
    tested = _isolated(limited(function, plan.seconds), whole)
    unanswered, source = "", vectors(name, plan.version)[0].source
    for law in run_laws.all_laws():
        if signature(law.function, plan.version).function != name:
            continue
        if unanswered:
            reason = f"not tried: {unanswered}"
            yield Result(run_laws.law_name(law, plan.version), name, source, "skipped", message=reason)
            continue
        began = perf_counter()
        try:
            result = _law(law, tested, arrays, plan, "float32" if narrow else plan.dtype)
        except NoAnswerError as error:
            unanswered = str(error)
            law_name = run_laws.law_name(law, plan.version)
            result = Result(law_name, name, source, "fail", message=f"{law_name}: {error} [{source}]")
        if narrow and right and result.status == "fail" and result.kind in FAILING:
            # Its values are right to float32; laws compare small differences and tails, which float32 loses.
            result = replace(result, kind="precision")
        yield replace(result, seconds=perf_counter() - began)


def _law(law: Law, function: Callable[..., object], arrays: Arrays, plan: Plan, dtype: str) -> Result:
    """Return the result of a law in a dtype."""
    return run_laws.check_law(
        law, function, arrays, examples=plan.examples, seed=plan.seed, version=plan.version, dtype=dtype
    )


def _isolated(function: Callable[..., object], whole: bool) -> Callable[..., object]:
    """Return the function without what vectors report once: effects on torch's global state, and floats for `whole`."""

    @wraps(function)
    def call(*arguments: object, **named: object) -> object:
        with GlobalStateGuard():
            got = function(*arguments, **named)
        return as_whole(got) if whole else got

    return call


def _of_trace(namespace: object, arrays: dict[str, Arrays], plan: Plan) -> Iterator[Result]:
    """Yield the results of the trace; each function is called with its arrays."""
    how = {name: Calling(of, getattr(torch, plan.dtype), plan.device, plan.seconds) for name, of in arrays.items()}
    yield from trace.check_trace(namespace, version=plan.version, calling=how)


def as_namespace(target: object, only: tuple[str, ...]) -> object:
    """Return the target, or a namespace with the target as the one function of `only`."""
    if len(only) == 1 and callable(target) and not hasattr(target, only[0]):
        return SimpleNamespace(**{only[0]: target})
    return target
