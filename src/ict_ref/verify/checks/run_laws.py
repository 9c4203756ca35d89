"""The check of the laws of an implementation: many examples for each, and the smallest counterexample."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ict_ref.formulas import Operator
from ict_ref.verify.checks.check import (
    CALLERS_ARGUMENTS,
    GLOBAL_STATE,
    GlobalStateGuard,
    Kind,
    Result,
    equal_arrays,
    is_array,
    misnamed,
)
from ict_ref.verify.checks.law import (
    BrokenError,
    Comparisons,
    Law,
    Need,
    NotTriedError,
    in_dtype,
    shown,
    tolerances,
)
from ict_ref.verify.vectors.load import VERSION, functions, vectors
from ict_ref.verify.vectors.values import TORCH, Arrays, encoded
from ict_ref.verify.vectors.versions import signature

EXAMPLES, THOROUGH_EXAMPLES = 50, 1000
GRADIENTS = "it is about gradients"
UNMET: dict[Need, str] = {
    "gradients": f"{GRADIENTS}, which these arrays do not carry",
    "float64": "it is about digits that only float64 has",
    "float32": "it is about digits that bfloat16 does not have",
}
"""Why a law is not tried."""
PAPER = {
    "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "sigma_data": 0.5, "p_mean": -1.1, "p_std": 2.0, "s0": 10,
    "s1": 1280,
}  # fmt: skip
"""The paper's settings: iCT, Section 2 and Table 1."""
_NUMPY_OF_A_GRADIENT = "Can't call numpy() on Tensor that requires grad"


def hypothesis_is_installed() -> bool:
    """Return whether Hypothesis, which generates the examples, is installed."""
    return find_spec("hypothesis") is not None


@contextmanager
def without_files() -> Iterator[None]:
    """Keep Hypothesis from leaving its caches in the working directory while the block runs."""
    if not hypothesis_is_installed():
        yield
        return
    from hypothesis.configuration import set_hypothesis_home_dir

    with TemporaryDirectory() as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)


@cache
def all_laws() -> tuple[Law, ...]:
    """Return all laws; none without Hypothesis, which draws their inputs."""
    if not hypothesis_is_installed():
        return ()
    from ict_ref.verify.laws import LAWS

    return LAWS


def law_name(law: Law, version: int = VERSION) -> str:
    """Return the name of a law in a version of the vectors, which contains the function's name in that version."""
    return replace(law, function=signature(law.function, version).function).name


def is_law(name: str, version: int = VERSION) -> bool:
    """Return whether the name of a check is that of a law, by its form: FUNCTION:LAW."""
    function, colon, _ = name.partition(":")
    return bool(colon) and function in functions(version)


class FunctionUnderTest:
    """A function under test that takes and returns float64 tensors, for any array type and dtype of it."""

    def __init__(
        self,
        function: Callable[..., object],
        name: str,
        arrays: Arrays,
        version: int = VERSION,
        *,
        dtype: str = "float64",
        gradients: bool = False,
    ) -> None:
        self.function, self.name, self.arrays, self.version = function, name, arrays, version
        self.gradients = gradients
        self.dtype: torch.dtype = getattr(torch, dtype)

    def __call__(self, **arguments: object) -> object:
        """Return the function's value: float64 tensors for arrays and lists, numbers unchanged.

        Raises:
            BrokenError: The function has a side effect, or returns something else.
            NotTriedError: Gradients are needed, and the function computes in NumPy.
        """
        arguments = signature(self.name, self.version).arguments(arguments)
        # One network as student and teacher stays one network.
        once = {id(value): self._handed(value) for value in arguments.values() if callable(value)}
        handed = {name: once.get(id(value)) or self._handed(value) for name, value in arguments.items()}
        got = self._called(handed)
        if isinstance(got, tuple):
            return tuple(map(_received, got))
        if self.gradients and hasattr(got, "__array__") and not isinstance(got, Tensor):
            raise NotTriedError(f"{GRADIENTS}, which a {type(got).__name__} does not carry")
        if hasattr(got, "forward") and hasattr(got, "inverse"):
            return Operator(*(self._method(getattr(got, way)) for way in ("forward", "inverse")))
        return _received(got)

    def _called(self, handed: dict[str, object]) -> object:
        """Return the function's value."""
        before = {name: torch.as_tensor(value).detach().clone() for name, value in handed.items() if is_array(value)}
        with GlobalStateGuard() as guard:
            got = self._without_numpy(handed)
        if guard.changes:
            raise BrokenError(f"the function changed {GLOBAL_STATE}: {', '.join(guard.changes)}")
        changed = [name for name, value in before.items() if not equal_arrays(handed[name], value)]
        if changed:
            raise BrokenError(f"the function changed its argument {', '.join(changed)}; {CALLERS_ARGUMENTS}")
        return got

    def _without_numpy(self, handed: dict[str, object]) -> object:
        """Return the function's value.

        Raises:
            NotTriedError: It takes a tensor with a gradient to NumPy, or does not have a parameter of the law.
        """
        try:
            return self.function(**handed)
        except RuntimeError as error:
            if _NUMPY_OF_A_GRADIENT in str(error):
                raise NotTriedError(f"{GRADIENTS}: the function computes in NumPy (--arrays numpy)") from None
            raise
        except TypeError:
            if mistake := misnamed(self.function, handed):
                raise NotTriedError(f"the function cannot be called so: {mistake}") from None
            raise

    def _method(self, method: Callable[[object], object]) -> Callable[[Tensor], Tensor]:
        """Return a function of one array as one of float64 tensors."""

        def apply(value: Tensor) -> Tensor:
            found: Tensor = _received(method(self._array(value)))
            return found

        return apply

    def _array(self, value: Tensor) -> object:
        """Return a tensor as an array for the function: a copy that passes gradients and keeps the layout."""
        return self.arrays.of(value.to(self.dtype, copy=True) if value.is_floating_point() else value.clone())

    def _handed(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self._array(value)
        if isinstance(value, Operator):
            return Operator(*(self._callback(way) for way in (value.forward, value.inverse)))  # type: ignore[arg-type]
        return self._callback(value) if callable(value) else value

    def _callback(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return a function of float64 tensors as one of the arrays of the function under test."""

        def called(*arguments: object) -> object:
            value = function(*(_float64(argument) for argument in arguments))
            return self._array(value) if isinstance(value, Tensor) else value

        return called


def _float64(argument: object) -> Tensor:
    """Return an argument of a callback as a tensor, floating-point numbers in float64."""
    found = torch.as_tensor(argument)
    return found.double() if found.is_floating_point() else found


def _received(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _float64(value)
    if isinstance(value, bool | int | float):
        return value
    try:
        found = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise BrokenError(f"got a {type(value).__name__}, should be a number or an array") from None
    return torch.as_tensor(value, dtype=torch.float64) if found.is_floating_point() else found


def check_laws(
    namespace: object,
    *,
    only: Iterable[str] = (),
    arrays: Arrays = TORCH,
    examples: int = EXAMPLES,
    seed: int = 0,
    version: int = VERSION,
    dtype: str = "float64",
) -> Iterator[Result]:
    """Yield the result of every law of the functions that exist."""
    wanted = set(only)
    for law in all_laws():
        name = signature(law.function, version).function
        function = getattr(namespace, name, None)
        if callable(function) and (not wanted or name in wanted):
            if misnamed(function, vectors(name, version)[0].arguments):
                continue  # the vectors report it, and laws cannot be run
            yield check_law(law, function, arrays, examples=examples, seed=seed, version=version, dtype=dtype)


def check_law(
    law: Law,
    function: Callable[..., object],
    arrays: Arrays = TORCH,
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    version: int = VERSION,
    dtype: str = "float64",
) -> Result:
    """Return the result of one law; seed 0 always uses the same examples.

    Its status is `skipped` if what it needs is missing, or if no example compared a value.
    """
    from hypothesis.errors import Unsatisfiable

    source = vectors(law.function)[0].source
    passed = Result(law_name(law, version), signature(law.function, version).function, source, "pass", kind=law.kind)
    if missing := [UNMET[need] for need in law.needs if not _is_met(need, arrays, dtype)]:
        return _skipped(passed, law, missing[0])
    gradients = "gradients" in law.needs
    tested = FunctionUnderTest(function, law.function, arrays, version, dtype=dtype, gradients=gradients)
    found = _run(law, tested, examples, seed, dtype)
    if found.error is None:
        return passed if found.compared else _skipped(passed, law, "no example compared a value")
    if isinstance(found.error, NotTriedError):
        return _skipped(passed, law, str(found.error))
    if isinstance(found.error, Unsatisfiable):
        return _skipped(passed, law, "every example was discarded")
    kind: Kind = law.kind
    if kind == "wrong" and dtype == "float64":
        kind = _milder_kind(law, tested, examples, seed)
    at = ", ".join(f"{symbol} = {shown(value)}" for symbol, value in found.inputs.items())
    message = f"{passed.id}: {_description(found.error)}; at {at}; the law: {law.text} [{source}]"
    example = {symbol: encoded(value) for symbol, value in found.inputs.items()}
    return replace(passed, status="fail", kind=kind, counterexample=example, message=message)


def _milder_kind(law: Law, tested: FunctionUnderTest, examples: int, seed: int) -> Kind:
    """Return the kind of a broken law in float64: it may hold to float32, or at the paper's settings."""
    if "float64" not in law.needs and _holds(_run(law, tested, examples, seed, "float32")):
        return "precision"
    fixed = {name: PAPER[name] for name in law.symbols if name in PAPER}
    if fixed and _holds(_run(law, tested, examples, seed, "float64", fixed)):
        return "elsewhere"
    return "wrong"


def _holds(found: "_Run") -> bool:
    return found.error is None and found.compared > 0


@dataclass(frozen=True)
class _Run:
    """The outcome of the examples of a law: the error of the last one, its inputs, and how many compared values."""

    error: BaseException | None
    inputs: dict[str, object]
    compared: int


def _run(
    law: Law,
    tested: FunctionUnderTest,
    examples: int,
    seed: int,
    dtype: str,
    fixed: Mapping[str, float] = MappingProxyType({}),
) -> _Run:
    """Run the examples of a law, and reduce one that breaks it. The inputs in `fixed` always have these values."""
    import hypothesis
    import hypothesis.strategies as st

    last_inputs: dict[str, object] = {}
    compared = 0

    @hypothesis.settings(
        max_examples=examples,
        derandomize=seed == 0,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(st.fixed_dictionaries(law.symbols | {name: st.just(value) for name, value in fixed.items()}))
    def law_holds_for(values: Any) -> None:
        nonlocal compared
        rounded = {name: in_dtype(value) if isinstance(value, Tensor) else value for name, value in values.items()}
        last_inputs.clear()
        last_inputs.update(rounded)
        before = Comparisons.made
        law.check(tested, rounded)
        compared += Comparisons.made > before

    if seed:
        law_holds_for = hypothesis.seed(seed)(law_holds_for)
    try:
        with tolerances(dtype):
            law_holds_for()
    except (Exception, SystemExit) as error:
        return _Run(error, last_inputs, compared)
    return _Run(None, last_inputs, compared)


def _is_met(need: Need, arrays: Arrays, dtype: str) -> bool:
    """Return whether the arrays have what a law needs."""
    if need == "gradients":
        return arrays is TORCH
    return dtype == "float64" or (need == "float32" and dtype == "float32")


def _skipped(result: Result, law: Law, reason: str) -> Result:
    """Return the result of a law that was not tried."""
    return replace(result, status="skipped", message=f"{result.id}: not tried: {reason}; the law: {law.text}")


def _description(error: BaseException) -> str:
    """Return how a law was broken, in one line."""
    from hypothesis.errors import Flaky

    if isinstance(error, Flaky):
        return "the same arguments give a different value the second time"
    if isinstance(error, BrokenError):
        return str(error)
    return f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
