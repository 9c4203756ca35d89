"""The check of the laws of an implementation: many examples for each, and the smallest counterexample."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ict_ref.formulas import Operator
from ict_ref.verify.check import (
    CALLERS_ARGUMENTS,
    GLOBAL_STATE,
    GlobalStateGuard,
    Result,
    equal_arrays,
    is_array,
    misnamed,
)
from ict_ref.verify.laws import LAWS, BrokenError, Law
from ict_ref.verify.laws.law import shown
from ict_ref.verify.values import TORCH, Arrays, encoded
from ict_ref.verify.vectors import VERSION, vectors
from ict_ref.verify.versions import signature

EXAMPLES, THOROUGH_EXAMPLES = 50, 1000


def hypothesis_is_installed() -> bool:
    """Return whether Hypothesis, which generates the examples, is installed."""
    return find_spec("hypothesis") is not None


def law_name(law: Law, version: int = VERSION) -> str:
    """Return the name of a law in a version of the vectors, which contains the function's name in that version."""
    return replace(law, function=signature(law.function, version).function).name


@cache
def law_names(version: int = VERSION) -> frozenset[str]:
    """Return the names of all laws."""
    return frozenset(law_name(law, version) for law in LAWS)


class FunctionUnderTest:
    """A function under test that takes and returns tensors, for any array type of the implementation."""

    def __init__(self, function: Callable[..., object], name: str, arrays: Arrays, version: int = VERSION) -> None:
        self.function, self.name, self.arrays, self.version = function, name, arrays, version

    @property
    def differentiates(self) -> bool:
        """Whether its arrays carry gradients."""
        return self.arrays is TORCH

    def __call__(self, **arguments: object) -> object:
        """Return the function's value: tensors for arrays and lists, numbers unchanged."""
        arguments = signature(self.name, self.version).arguments(arguments)
        # One network as student and teacher stays one network.
        once = {id(value): self._handed(value) for value in arguments.values() if callable(value)}
        handed = {name: once.get(id(value)) or self._handed(value) for name, value in arguments.items()}
        got = self._called(handed)
        if isinstance(got, tuple):
            return tuple(map(_received, got))
        if hasattr(got, "forward") and hasattr(got, "inverse"):
            return Operator(
                *(FunctionUnderTest(getattr(got, way), way, self.arrays).apply for way in ("forward", "inverse"))
            )
        return _received(got)

    def _called(self, handed: dict[str, object]) -> object:
        """Return the function's value. Raises BrokenError for a side effect."""
        before = {name: torch.as_tensor(value).detach().clone() for name, value in handed.items() if is_array(value)}
        with GlobalStateGuard() as guard:
            got = self.function(**handed)
        if guard.changes:
            raise BrokenError(f"the function changed {GLOBAL_STATE}: {', '.join(guard.changes)}")
        changed = [name for name, value in before.items() if not equal_arrays(handed[name], value)]
        if changed:
            raise BrokenError(f"the function changed its argument {', '.join(changed)}; {CALLERS_ARGUMENTS}")
        return got

    def apply(self, value: Tensor) -> Tensor:
        """Return the value of a function of one array."""
        found: Tensor = _received(self.function(self.arrays.of(value.clone())))
        return found

    def _handed(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self.arrays.of(value.clone())  # a clone passes gradients and keeps the layout
        if isinstance(value, Operator):
            return Operator(self.arrays.wrapped(value.forward), self.arrays.wrapped(value.inverse))  # type: ignore[arg-type]
        return self.arrays.wrapped(value) if callable(value) else value


def _received(value: Any) -> Any:
    if isinstance(value, Tensor | bool | int | float):
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
) -> Iterator[Result]:
    """Yield the result of every law of the functions that exist."""
    wanted = set(only)
    for law in LAWS:
        name = signature(law.function, version).function
        function = getattr(namespace, name, None)
        if callable(function) and (not wanted or name in wanted):
            if misnamed(function, vectors(name, version)[0].arguments):
                continue  # the vectors report it, and laws cannot be run
            yield check_law(law, function, arrays, examples=examples, seed=seed, version=version)


def check_law(
    law: Law,
    function: Callable[..., object],
    arrays: Arrays = TORCH,
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    version: int = VERSION,
) -> Result:
    """Return the result of one law; seed 0 always uses the same examples."""
    import hypothesis
    from hypothesis.errors import Flaky

    from ict_ref.verify.strategies import inputs

    tested = FunctionUnderTest(function, law.function, arrays, version)
    name, of = law_name(law, version), signature(law.function, version).function
    last_inputs: dict[str, object] = {}

    @hypothesis.settings(
        max_examples=examples,
        derandomize=seed == 0,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    @hypothesis.given(inputs(law.symbols))
    def law_holds_for(values: dict[str, object]) -> None:
        last_inputs.clear()
        last_inputs.update(values)
        law.holds(tested, **values)

    if seed:
        law_holds_for = hypothesis.seed(seed)(law_holds_for)
    source = vectors(law.function)[0].source
    try:
        law_holds_for()
    except (Exception, SystemExit) as error:
        if isinstance(error, Flaky):
            wrong = "the same arguments give a different value the second time"
        elif isinstance(error, BrokenError):
            wrong = str(error)
        else:
            wrong = f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        at = ", ".join(f"{symbol} = {shown(value)}" for symbol, value in last_inputs.items())
        message = f"{name}: {wrong}; at {at}; the law: {law.text} [{source}]"
        example = {symbol: encoded(value) for symbol, value in last_inputs.items()}
        return Result(name, of, source, "fail", counterexample=example, message=message)
    return Result(name, of, source, "pass")
