"""The definition of a law: a statement about one function, true of every implementation, run on generated inputs.

A law is a plain function law(f, *inputs) which raises BrokenError where `f` breaks it. It takes float64 tensors, for
any array type and dtype of the implementation, and calls `f` by parameter name. Its decorators name the functions, the
inputs and the needs:

    @law("ema_update", needs=("gradients",))
    @given(ema=some.images, value=some.images, decay=some.decays)
    def carries_no_gradient(f, ema, value, decay): ...
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from unittest import SkipTest

import torch
from torch import Tensor

Function: TypeAlias = Callable[..., Any]
"""The function under test as a law calls it, with tensors and numbers by name, and tensors or numbers as values."""
Inputs: TypeAlias = Any
"""A Hypothesis strategy for each input: a Mapping[str, SearchStrategy], where Hypothesis is installed."""
Need = Literal["gradients", "float64", "float32"]
"""A law of gradients, a law of more digits than float32 has, or of more than bfloat16 has."""
Kind = Literal["wrong", "precision", "accepts"]

# The tolerances of a law are written for float64, and multiplied by this.
TOLERANCES: dict[str, float] = {"float64": 1.0, "float32": 1e8, "bfloat16": 1e12}
MOST = 0.1
"""A relative tolerance above this finds too little: the law is skipped."""

_tolerance: ContextVar[str] = ContextVar("_tolerance", default="float64")


class BrokenError(Exception):
    """A law does not hold: the message has the value and the expected one."""


class NotTriedError(SkipTest):
    """A law cannot be tried on this function: the message has the reason."""


@dataclass(frozen=True)
class Given:
    """A statement about a function, and the inputs for which it holds."""

    statement: Callable[..., None]
    inputs: Inputs


@dataclass(frozen=True)
class Law:
    """A law of one function."""

    function: str
    statement: Callable[..., None]
    inputs: Inputs
    needs: tuple[Need, ...] = ()
    kind: Kind = "wrong"
    """The kind of finding that a failure is: a wrong value, lost digits, or bad arguments that are accepted."""
    passed_on: Inputs = field(default_factory=dict)
    """Arguments that the function gets in each call besides those that the statement names."""
    called_by: Callable[[Function], Function] = lambda f: f
    """The translation of the statement's calls into those of the function."""

    @property
    def name(self) -> str:
        """The name in reports and waivers: pseudo_huber:is_symmetric."""
        return f"{self.function}:{self.statement.__name__}"

    @property
    def text(self) -> str:
        """The law in symbols, in one line."""
        return " ".join((self.statement.__doc__ or "").split()).removesuffix(".")

    @property
    def symbols(self) -> Inputs:
        """The strategies of all values of one example."""
        return {**self.inputs, **self.passed_on}

    def check(self, f: Function, values: Mapping[str, Any]) -> None:
        """Check the law for one example.

        Raises:
            BrokenError: The law does not hold.
            NotTriedError: The law cannot be tried on `f`.
        """
        more = {name: values[name] for name in self.passed_on}
        called = self.called_by(_with_arguments(f, more) if more else f)
        self.statement(called, **{name: values[name] for name in self.inputs})


@dataclass(frozen=True)
class Laws:
    """A statement as a law of each of its functions."""

    of: tuple[Law, ...]


def _with_arguments(f: Function, more: Mapping[str, Any]) -> Function:
    return lambda **arguments: f(**arguments, **more)


def given(**inputs: Any) -> Callable[[Callable[..., None]], Given]:
    """Return a decorator that gives a statement a Hypothesis strategy for each of its inputs."""
    return lambda statement: Given(statement, inputs)


def law(
    *functions: str,
    needs: tuple[Need, ...] = (),
    kind: Kind = "wrong",
    passed_on: Inputs = None,
    calls: Mapping[str, Callable[[Function], Function]] | None = None,
) -> Callable[[Given], Laws]:
    """Return a decorator that makes a statement a law of each of these functions.

    `passed_on` maps a function to the inputs that it gets in each call besides those that the statement names. `calls`
    maps a function to a translation, for functions that take other arguments than the statement gives.
    """
    more: dict[str, Any] = passed_on or {}
    translations = calls or {}

    def of_one(stated: Given, function: str) -> Law:
        translation = translations.get(function, lambda f: f)
        return Law(function, stated.statement, stated.inputs, needs, kind, more.get(function, {}), translation)

    return lambda stated: Laws(tuple(of_one(stated, function) for function in functions))


@contextmanager
def tolerances(dtype: str) -> Iterator[None]:
    """Use the tolerances of a dtype for all comparisons in the block."""
    token = _tolerance.set(dtype)
    try:
        yield
    finally:
        _tolerance.reset(token)


def tolerance(of_float64: float) -> float:
    """Return the tolerance of the dtype under test for one that is written for float64."""
    return of_float64 * TOLERANCES[_tolerance.get()]


def relative_tolerance(of_float64: float) -> float:
    """Return the tolerance of the dtype under test.

    Raises:
        NotTriedError: The tolerance is so large that the law finds nothing.
    """
    found = tolerance(of_float64)
    if found > max(MOST, of_float64):
        raise NotTriedError(f"its tolerance of {of_float64:g} in float64 is {found:g} in {_tolerance.get()}")
    return found


class Comparisons:
    """The number of comparisons of values so far: an example without any says nothing about a function."""

    made = 0


def _count(compared: Any) -> None:
    """Count a comparison, unless it is one of tensors without values."""
    Comparisons.made += not isinstance(compared, Tensor) or compared.numel() > 0


def in_dtype(value: Any) -> Any:
    """Return a value as the dtype under test holds it, in float64; integers unchanged."""
    found = torch.as_tensor(value)
    if not found.is_floating_point():
        return found
    dtype: torch.dtype = getattr(torch, _tolerance.get())
    return torch.as_tensor(value, dtype=torch.float64).to(dtype).double()


def equal(got: Any, expected: Any, what: str = "") -> None:
    """Compare two values to the last bit of the dtype under test.

    Raises:
        BrokenError: They differ.
    """
    mine, theirs = in_dtype(got), in_dtype(expected)
    _count(theirs)
    if mine.shape != theirs.shape or not torch.equal(mine, theirs):
        raise BrokenError(f"{what or 'got'} {shown(got)}, should be exactly {shown(expected)}")


def close(got: Any, expected: Any, *, rtol: float = 1e-11, atol: float = 0.0, what: str = "") -> None:
    """Compare value by value: |got - expected| <= atol + rtol |expected|, both multiplied by the dtype's factor.

    Raises:
        BrokenError: A value differs by more, or the shapes differ.
        NotTriedError: The relative tolerance is too large in the dtype under test.
    """
    mine, theirs = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (got, expected))
    if mine.shape != theirs.shape:
        raise BrokenError(f"{what or 'got'} a value of shape {list(mine.shape)}, should be {list(theirs.shape)}")
    _count(theirs)
    rtol, atol = relative_tolerance(rtol), tolerance(atol)
    # A tolerance relative to infinity would let every number pass.
    near = ((mine - theirs).abs() <= atol + rtol * theirs.abs()) & theirs.isfinite() | (mine == theirs)
    if not bool(near.all()):
        first = int((~near).flatten().int().argmax())
        where = f", the first of them at {first}" if first > 5 else ""
        here, there = (shown(v.flatten()[first:]) if where else shown(v) for v in (mine, theirs))
        raise BrokenError(f"{what or 'got'} {here}, should be {there} (rtol {rtol:g}){where}")


def needs(condition: Any, otherwise: str) -> None:
    """Check a condition, elementwise for tensors.

    Raises:
        BrokenError: The condition is false. The message is `otherwise`.
    """
    _count(condition)
    if not bool(condition.all() if isinstance(condition, Tensor) else condition):
        raise BrokenError(otherwise)


def refused(call: Callable[[], object], what: str) -> None:
    """Raise BrokenError unless a call raises an exception."""
    _count(None)
    try:
        value = call()
    except (BrokenError, SkipTest):
        raise
    except Exception:
        return
    raise BrokenError(f"got {shown(value)} for {what}, which should be refused")


def shown(value: Any) -> str:
    """Return a value in few characters."""
    if isinstance(value, Tensor):
        flat = value.detach().flatten().tolist()
        value = flat[0] if value.ndim == 0 else flat[:6]
        more = ", ..." if len(flat) > 6 else ""
        return f"[{', '.join(map(shown, value))}{more}]" if isinstance(value, list) else shown(value)
    return str(value)


def flat(x: Tensor) -> Tensor:
    """Return each example as one row."""
    return x.reshape(len(x), -1)


def norm(x: Tensor) -> Tensor:
    """Return the length of each example."""
    return flat(x).square().sum(1).sqrt()


def rotation(dimension: int, seed: int) -> Tensor:
    """Return an orthogonal matrix that depends on the seed."""
    generator = torch.Generator().manual_seed(seed)
    q: Tensor = torch.linalg.qr(torch.randn(dimension, dimension, generator=generator, dtype=torch.float64))[0]
    return q
