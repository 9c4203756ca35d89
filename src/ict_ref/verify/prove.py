"""Try the laws on an implementation: for each, many examples, and of one that breaks it the smallest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from ict_ref.formulas import Operator
from ict_ref.verify.check import Result, World, is_array, misnamed, same
from ict_ref.verify.laws import LAWS, BrokenError, Law
from ict_ref.verify.laws.law import shown
from ict_ref.verify.values import TORCH, Arrays, encoded
from ict_ref.verify.vectors import VERSION, vectors
from ict_ref.verify.versions import signature

EXAMPLES, MANY = 50, 1000


def available() -> bool:
    """Return whether Hypothesis, which picks the examples, is installed."""
    return find_spec("hypothesis") is not None


def named(law: Law, version: int = VERSION) -> str:
    """Return the name of a law in a version of the vectors, after the function that it has there."""
    return replace(law, function=signature(law.function, version).function).name


@cache
def names(version: int = VERSION) -> frozenset[str]:
    """Return the names of all laws."""
    return frozenset(named(law, version) for law in LAWS)


class Subject:
    """A function under test as a law calls it: tensors go in and tensors come out, whatever arrays it works on."""

    def __init__(self, function: Callable[..., object], name: str, arrays: Arrays, version: int = VERSION) -> None:
        self.function, self.name, self.arrays, self.version = function, name, arrays, version

    @property
    def differentiates(self) -> bool:
        """Whether its arrays carry gradients."""
        return self.arrays is TORCH

    def __call__(self, **arguments: object) -> object:
        """Return the function's value: tensors for arrays and lists, numbers as they are."""
        arguments = signature(self.name, self.version).arguments(arguments)
        # One network as student and teacher is one network there, too.
        once = {id(value): self._handed(value) for value in arguments.values() if callable(value)}
        handed = {name: once.get(id(value)) or self._handed(value) for name, value in arguments.items()}
        before = {name: torch.as_tensor(value).detach().clone() for name, value in handed.items() if is_array(value)}
        with World() as world:
            got = self.function(**handed)
        if world.changes:
            raise BrokenError(f"it changed {', '.join(world.changes)}, which is everybody's")
        changed = [name for name, value in before.items() if not same(handed[name], value)]
        if changed:
            raise BrokenError(f"it changed its argument {', '.join(changed)}; arguments are the caller's")
        if isinstance(got, tuple):
            return tuple(map(_received, got))
        if hasattr(got, "forward") and hasattr(got, "inverse"):
            return Operator(*(Subject(getattr(got, way), way, self.arrays).apply for way in ("forward", "inverse")))
        return _received(got)

    def apply(self, value: Tensor) -> Tensor:
        """Return what a function of one array makes of it."""
        found: Tensor = _received(self.function(self.arrays.of(value.clone())))
        return found

    def _handed(self, value: object) -> object:
        if isinstance(value, Tensor):
            return self.arrays.of(value.clone())  # a clone lets gradients through, and keeps the layout
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


def prove(
    namespace: object,
    *,
    only: Iterable[str] = (),
    arrays: Arrays = TORCH,
    examples: int = EXAMPLES,
    seed: int = 0,
    version: int = VERSION,
) -> Iterator[Result]:
    """Return what came of every law of the functions that are there."""
    wanted = set(only)
    for law in LAWS:
        name = signature(law.function, version).function
        function = getattr(namespace, name, None)
        if callable(function) and (not wanted or name in wanted):
            if misnamed(function, vectors(name, version)[0].arguments):
                continue  # the vectors say so; no law could be tried
            yield attempt(law, function, arrays, examples=examples, seed=seed, version=version)


def attempt(
    law: Law,
    function: Callable[..., object],
    arrays: Arrays = TORCH,
    *,
    examples: int = EXAMPLES,
    seed: int = 0,
    version: int = VERSION,
) -> Result:
    """Return what came of one law; with seed 0 always the same examples are tried."""
    import hypothesis
    from hypothesis.errors import Flaky

    from ict_ref.verify.strategies import inputs

    subject = Subject(function, law.function, arrays, version)
    name, of = named(law, version), signature(law.function, version).function
    last: dict[str, object] = {}

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
    def tried(values: dict[str, object]) -> None:
        last.clear()
        last.update(values)
        law.holds(subject, **values)

    if seed:
        tried = hypothesis.seed(seed)(tried)
    source = vectors(law.function)[0].source
    try:
        tried()
    except (Exception, SystemExit) as error:
        if isinstance(error, Flaky):
            wrong = "the same arguments give another value the second time"
        elif isinstance(error, BrokenError):
            wrong = str(error)
        else:
            wrong = f"raised {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        at = ", ".join(f"{symbol} = {shown(value)}" for symbol, value in last.items())
        message = f"{name}: {wrong}; at {at}; the law: {law.text} [{source}]"
        example = {symbol: encoded(value) for symbol, value in last.items()}
        return Result(name, of, source, "fail", counterexample=example, message=message)
    return Result(name, of, source, "pass")
