"""The definition of a law: a statement about one function, true of every implementation, run on generated inputs.

A law is a plain function law(f, *inputs) which raises BrokenError where `f` breaks it. It takes tensors, for any array
type of the implementation, and calls `f` by parameter name. The names of its inputs are symbols with one meaning in all
laws, which `strategies.py` defines.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

Statement = TypeVar("Statement", bound=Callable[..., None])


@runtime_checkable
class Function(Protocol):
    """The function under test as a law calls it, with tensors and numbers by name, and tensors or numbers as values."""

    @property
    def name(self) -> str:
        """Its name in `ict_ref.formulas`."""

    @property
    def differentiates(self) -> bool:
        """Whether its arrays carry gradients."""

    def __call__(self, **arguments: Any) -> Any:
        """Return its value."""


class BrokenError(Exception):
    """A law does not hold: the message has the value and the expected one."""


@dataclass(frozen=True)
class Law:
    """A law of one function."""

    function: str
    holds: Callable[..., None]

    @property
    def name(self) -> str:
        """The name in reports and waivers: pseudo_huber:is_symmetric."""
        return f"{self.function}:{self.holds.__name__}"

    @property
    def text(self) -> str:
        """The law in symbols, in one line."""
        return " ".join((self.holds.__doc__ or "").split()).removesuffix(".")

    @property
    def symbols(self) -> tuple[str, ...]:
        """The names of its inputs."""
        return tuple(inspect.signature(self.holds).parameters)[1:]


LAWS: list[Law] = []


def law(*functions: str) -> Callable[[Statement], Statement]:
    """Return a decorator that makes a plain function a law of each of these functions."""

    def registered(statement: Statement) -> Statement:
        LAWS.extend(Law(function, statement) for function in functions)
        return statement

    return registered


def equal(got: Any, expected: Any, what: str = "") -> None:
    """Compare two values to the last bit.

    Raises:
        BrokenError: They differ.
    """
    mine, theirs = torch.as_tensor(got), torch.as_tensor(expected)
    if mine.shape != theirs.shape or not torch.equal(mine, theirs):
        raise BrokenError(f"{what or 'got'} {shown(got)}, should be exactly {shown(expected)}")


def close(got: Any, expected: Any, *, rtol: float = 1e-11, atol: float = 0.0, what: str = "") -> None:
    """Compare value by value: |got - expected| <= atol + rtol |expected|.

    Raises:
        BrokenError: A value differs by more, or the shapes differ.
    """
    mine, theirs = (torch.as_tensor(value, dtype=torch.float64).detach() for value in (got, expected))
    if mine.shape != theirs.shape:
        raise BrokenError(f"{what or 'got'} a value of shape {list(mine.shape)}, should be {list(theirs.shape)}")
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
    if not bool(condition.all() if isinstance(condition, Tensor) else condition):
        raise BrokenError(otherwise)


def refused(call: Callable[[], object], what: str) -> None:
    """Raise BrokenError unless a call raises an exception."""
    try:
        value = call()
    except BrokenError:
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
