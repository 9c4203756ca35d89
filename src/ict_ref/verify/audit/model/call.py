"""The call of a consistency model: what the target builds, and in which form it takes noise levels and labels."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ict_ref.verify.target.load import TargetError

Model: TypeAlias = Callable[..., object]
ONE_BY_ONE = ("scalar", "float")
"""Forms of a level that all examples of a batch share."""
LABEL_NAMES = ("labels", "class_labels", "y", "label", "classes")
BATCHES = (11, 13, 17, 19, 23)


class CallError(Exception):
    """f raised an exception, or returned something else than one tensor of x's shape."""


@dataclass(frozen=True)
class Labels:
    """How f takes labels: as one-hot vectors or as integers, by position or by name."""

    classes: int
    one_hot: bool
    name: str = ""
    """Name of the argument; empty for the third positional argument."""

    def encoded(self, labels: Tensor) -> Tensor:
        """Return labels as f takes them."""
        return nn.functional.one_hot(labels, self.classes).float() if self.one_hot else labels

    def __str__(self) -> str:
        """Return the form in words."""
        where = f"the argument {self.name}" if self.name else "the third argument"
        return f"{'one-hot vectors' if self.one_hot else 'integers'} in {where}"


@dataclass(frozen=True)
class Call:
    """f with the form in which it takes levels and labels."""

    f: Model
    event: tuple[int, ...]
    levels: str = "[B]"
    labels: Labels | None = None
    """Form of labels, if f cannot be called without them."""

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return f(x, sigma), with labels if there are some or if f needs them; it takes one level per example.

        Raises:
            CallError: f raised an exception, or did not return one tensor of x's shape.
        """
        if labels is None and self.labels is not None:
            labels = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        if self.levels not in ONE_BY_ONE:
            return self._once(x, sigma, labels)
        parts = [slice(k, k + 1) for k in range(len(x))]
        return torch.cat([self._once(x[k], sigma[k], None if labels is None else labels[k]) for k in parts])

    def _once(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        positional: list[object] = [x, _shaped(sigma, self.levels)]
        named: dict[str, object] = {}
        if labels is not None and self.labels is not None:
            encoded = self.labels.encoded(labels)
            named = {self.labels.name: encoded} if self.labels.name else {}
            positional += [] if self.labels.name else [encoded]
        try:
            got = self.f(*positional, **named)
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())[:200] or "no message"
            raise CallError(f"{type(error).__name__}: {text}") from error
        if not isinstance(got, Tensor) or got.shape != x.shape:
            raise CallError(f"f returned {_described(got)}, should be a tensor of shape {list(x.shape)}")
        return got.detach().to(x.device)


def _described(value: object) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _shaped(sigma: Tensor, form: str) -> object:
    """Return levels in a form that f may take."""
    if form == "float":
        return float(sigma)
    if form == "scalar":
        return sigma.reshape(())
    return sigma.reshape(-1, *[1] * form.count("1"))


def level_forms(event: tuple[int, ...]) -> tuple[str, ...]:
    """Return the forms of levels to try, the usual one first.

    >>> level_forms((3, 8, 8))
    ('[B]', '[B, 1]', '[B, 1, 1, 1]', 'scalar', 'float')
    """
    images = "[B" + ", 1" * len(event) + "]"
    return tuple(dict.fromkeys(("[B]", "[B, 1]", images, *ONE_BY_ONE)))


def batch_size(event: tuple[int, ...]) -> int:
    """Return a batch size that is no axis of an image, so that a level of the wrong form does not broadcast."""
    return next((size for size in BATCHES if size not in event), max(event) + 1)


def built(target: Model, checkpoint: Path | None) -> Model:
    """Return f: the target, or what it returns if it is a builder.

    Raises:
        TargetError: The builder raised an exception, or did not return f.
    """
    if checkpoint is None and not is_builder(target):
        return target
    called = f"TARGET({checkpoint})" if checkpoint else "TARGET()"
    try:
        made: object = target(checkpoint) if checkpoint else target()
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:300]
        raise TargetError(f"{called}: {type(error).__name__}: {text}. TARGET must be f or a builder of f.") from error
    f = made if callable(made) else getattr(made, "model", None)
    if not callable(f):
        expected = "f, or an object with f as its attribute model"
        raise TargetError(f"{called}: expected {expected}, got {type(made).__name__}. Return f(x, sigma).")
    return f


def is_builder(target: Model) -> bool:
    """Return whether a target is a class, or a function that needs no arguments."""
    if inspect.isclass(target):
        return True
    if isinstance(target, nn.Module):
        return False
    try:
        signature = inspect.signature(target)
        signature.bind()
    except (TypeError, ValueError):
        return False
    return all(one.kind is not inspect.Parameter.VAR_POSITIONAL for one in signature.parameters.values())


def label_forms(f: Model, classes: int) -> Iterator[Labels]:
    """Yield the forms of labels that a signature allows."""
    try:
        parameters = inspect.signature(f.forward if isinstance(f, nn.Module) else f).parameters
    except (TypeError, ValueError):
        parameters = {}  # type: ignore[assignment] # a signature that is not available
    kinds = {one.kind for one in parameters.values()}
    free = inspect.Parameter.VAR_KEYWORD in kinds or not parameters
    names = [name for name in LABEL_NAMES if name in parameters or free]
    for name in [*names, ""]:
        for one_hot in (True, False):
            yield Labels(classes, one_hot, name)


def found_call(f: Model, event: tuple[int, ...], x: Tensor, sigma: Tensor, classes: int) -> Call:
    """Return f with the first form of levels, and of labels if it needs them, in which it can be called.

    Raises:
        TargetError: f cannot be called in any of the forms.
    """
    reason = ""
    for labels in (None, *(label_forms(f, classes) if classes else ())):
        for levels in level_forms(event):
            call = Call(f, event, levels, labels)
            try:
                call(x.clone(), sigma.clone())
            except CallError as error:
                reason = reason or str(error)
            else:
                return call
    advice = "Set --shape, and --labels for a model that needs labels; TARGET may be a builder of f."
    raise TargetError(f"TARGET: expected f(x, sigma) for x of shape {list(x.shape)}, got {reason}. {advice}")


def with_labels(call: Call, labels: Labels) -> Call:
    """Return the call with labels in a form."""
    return replace(call, labels=labels)
