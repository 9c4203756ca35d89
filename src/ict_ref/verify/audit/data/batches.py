"""Batches of a loader, a dataset or a function under audit: images and labels, epoch by epoch."""

import inspect
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from unittest.mock import patch

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from ict_ref.verify.audit.options import DataOptions
from ict_ref.verify.target.load import TargetError

IMAGE_NAMES = ("image", "images", "img", "x", "pixel_values", "input", "inputs", "data")
LABEL_NAMES = ("label", "labels", "y", "class", "target", "targets", "class_labels", "cls")
FORM = "images, (images, labels) or a dict of these"
# A dataset is read in pieces of this many images.
PIECE = 64


@dataclass(frozen=True)
class Batch:
    """Images as they were delivered, and their labels if there are some."""

    images: Shaped[Tensor, "..."]
    labels: Shaped[Tensor, "..."] | None


@dataclass(frozen=True)
class Source:
    """The data under audit, for one process."""

    epoch: Callable[[int], Iterator[Batch]]
    """Return the batches of an epoch; a new order is drawn by each call."""
    is_dataset: bool = False
    """Whether images have an index and do not come in an order."""
    is_endless: bool = False
    """Whether one epoch follows another without an end that could be seen."""


def source(target: object, options: DataOptions, rank: int = 0) -> Source:
    """Return the data of a target: a dataset, a loader, or a function that returns one of these or one batch.

    Raises:
        TargetError: The target is nothing of these, or it raised an exception.
    """
    if not _is_function(target):
        return _of_object(target)
    with variables(options, rank):
        first = _call(target, options, rank, 0)
    if _is_batch(first):
        return Source(lambda _: (_batch(_call(target, options, rank, step)) for step in count()), is_endless=True)
    if not _takes(target, "epoch") and not isinstance(first, Iterator):
        return _of_object(first)

    def epoch(number: int) -> Iterator[Batch]:
        value = first if number == 0 else _call(target, options, rank, number)
        yield from _of_object(value).epoch(number)

    return Source(epoch, is_dataset=_is_dataset(first))


def _is_function(target: object) -> bool:
    return callable(target) and not isinstance(target, Iterable) and not _is_dataset(target)


def _is_dataset(value: object) -> bool:
    sized = hasattr(value, "__getitem__") and hasattr(value, "__len__")
    return sized and not isinstance(value, list | tuple | type) and not hasattr(value, "__iter__")


def _is_batch(value: object) -> bool:
    """Return whether a function returned one batch, not an object that has several."""
    if isinstance(value, tuple) and value:
        return _is_array(value[0])
    return _is_array(value) or isinstance(value, Mapping)


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor | np.ndarray) or (hasattr(value, "__array__") and not _is_dataset(value))


def _takes(target: object, name: str) -> bool:
    try:
        return name in inspect.signature(target).parameters  # type: ignore[arg-type]  # the target is callable
    except (TypeError, ValueError):
        return False


def _call(target: object, options: DataOptions, rank: int, number: int) -> object:
    """Return the value of the target, called with those of its parameters that the audit knows."""
    known = {"epoch": number, "step": number, "rank": rank, "world_size": options.world_size}
    known |= {"num_replicas": options.world_size}
    given = {name: value for name, value in known.items() if _takes(target, name)}
    with _one_line("a loader, a dataset, or a function that returns one"):
        return target(**given)  # type: ignore[operator]  # the target is callable


def _of_object(value: object) -> Source:
    """Return the data of a dataset or of an iterable.

    Raises:
        TargetError: It is neither.
    """
    # torch's Dataset has __getitem__, which makes iter() work, but its own __iter__ only if it is iterable.
    if _is_dataset(value):
        return Source(lambda _: _items(value), is_dataset=True)
    if isinstance(value, Iterable):
        return Source(lambda _: _iterated(value))
    text = f"TARGET: expected a dataset, a loader or a function that returns one, got {type(value).__name__}"
    raise TargetError(f"{text}. Name the loader as module:name.")


def _iterated(value: Iterable[object]) -> Iterator[Batch]:
    of_one = None
    with _one_line(f"an iterable of batches: {FORM}"):
        for one in value:
            of_one = _is_image(one) if of_one is None else of_one
            batch = _batch(one, of_one=of_one)
            labels = batch.labels[None] if of_one and batch.labels is not None else batch.labels
            yield Batch(batch.images[None], labels) if of_one else batch


def _is_image(value: object) -> bool:
    """Return whether a value is one image, not a batch."""
    images, _ = _parts(value)
    array = _tensor(images)
    return array is not None and array.ndim == 3 and (array.shape[0] in (1, 3) or array.shape[2] in (1, 3))


def _items(dataset: object) -> Iterator[Batch]:
    """Yield the images of a dataset with an index, in the order of the index."""
    with _one_line(f"a dataset of {FORM}"):
        indices = iter(range(len(dataset)))  # type: ignore[arg-type]  # it has a length
        while piece := [_batch(dataset[i], of_one=True) for i in islice(indices, PIECE)]:  # type: ignore[index]
            labels = [one.labels for one in piece if one.labels is not None]
            images = torch.stack([one.images for one in piece])
            yield Batch(images, torch.stack(labels) if len(labels) == len(piece) else None)


def _batch(value: object, *, of_one: bool = False) -> Batch:
    """Return the images and labels in a value.

    Raises:
        TargetError: It does not have images.
    """
    images, labels = _parts(value)
    # PIL's images become arrays; their channels are last.
    array = _tensor(images)
    if array is None or array.ndim < (1 if of_one else 2):
        raise TargetError(f"TARGET: expected batches of {FORM}, got {_shown(value)}. Adapt it in a few lines.")
    return Batch(array, None if labels is None else _tensor(labels))


def _parts(value: object) -> tuple[object, object]:
    if isinstance(value, Mapping):
        return tuple(
            next((value[name] for name in names if name in value), None) for names in (IMAGE_NAMES, LABEL_NAMES)
        )  # type: ignore[return-value]
    if isinstance(value, tuple | list) and value:
        return value[0], value[1] if len(value) > 1 else None
    return value, None


def _tensor(value: object) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    try:
        return torch.as_tensor(np.array(value))
    except (TypeError, ValueError, RuntimeError):
        return None


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(str, list(value)[:5]))}"
    return (
        f"{type(value).__name__} of {type(value[0]).__name__}"
        if isinstance(value, list | tuple) and value
        else type(value).__name__
    )


@contextmanager
def _one_line(expected: str) -> Iterator[None]:
    """Turn an exception of the target into a message of one line.

    Raises:
        TargetError: The target raised an exception.
    """
    try:
        yield
    except TargetError:
        raise
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:200] or "no message"
        raise TargetError(f"TARGET: expected {expected}, got {type(error).__name__}: {text}. Adapt it.") from error


@contextmanager
def variables(options: DataOptions, rank: int) -> Iterator[None]:
    """Set the variables of torchrun for a process, if there are several."""
    if options.world_size == 1:
        yield
        return
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": options.world_size}
    with patch.dict(os.environ, {name: str(value) for name, value in names.items()}):
        yield


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python, and restore them at the end."""
    state, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(numbers)
