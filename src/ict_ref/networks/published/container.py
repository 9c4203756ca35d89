"""The state dicts in a file: which one is read, and what is beside it.

A file of training code has several: the trained network and its EMA weights, by names that differ from code to code. A
state dict of a network is recognised by its keys, wherever it is, and it is never chosen silently.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor

from ict_ref.networks.published.common import refuse, some
from ict_ref.utils.nearest import hint

MARKS = {"openai": "input_blocks.", "edm": "map_layer0.", "score_sde": "all_modules."}
"""Beginning of the keys of each format, after a prefix such as `module.`."""
MARK = re.compile(rf"((?:.*?\.)?)(?:{'|'.join(re.escape(mark) for mark in MARKS.values())})")
OF_EMA = re.compile(r"(^|[^a-z])(ema\w*|average\w*|shadow\w*|swa\w*|polyak\w*)", re.IGNORECASE)
"""Names of EMA weights in public code: ema, model_ema, ema_model, state_dict_ema, ema_state_dict, shadow_params, ..."""
OF_TRAINED = re.compile(r"(^|[._])(online|student|raw|trained)[^.]*$")
"""Names of trained weights beside EMA weights in one entry, such as ema.online_model."""
# score_sde's and EDM's buffers, which an EMA of the parameters does not have.
BUFFERS = re.compile(r"(^|\.)(all_modules\.0\.W|sigmas|map_noise\.freqs|resample_filter)$")
WHOLE = "the whole file"
# Depth to which a container is searched.
DEPTH = 4


@dataclass(frozen=True)
class Found:
    """A state dict in the content of a file."""

    name: str
    """Entry of the file, such as `ema` or `state_dict.model`; "" for the whole file."""
    state: Mapping[object, object]
    beside: tuple[str, ...] = ()
    """Keys of the same mapping that belong to no network, such as `num_updates`; those with one beginning as one."""
    unread: tuple[str, ...] = ()
    """Beginnings of those keys that have tensors."""

    @property
    def is_average(self) -> bool:
        """Return whether the name is one of EMA weights."""
        return OF_EMA.search(self.name) is not None and OF_TRAINED.search(self.name) is None


@dataclass(frozen=True)
class Chosen:
    """The state dict that is read, and what is beside it."""

    entry: str
    """Name of its entry, or that it is the whole file."""
    state: dict[str, Tensor]
    beside: tuple[str, ...]
    """Entries that are not read."""

    def lines(self) -> list[str]:
        """Return the lines that name what is read and what is not."""
        return [f"read: {self.entry}"] + ([f"not read: {', '.join(self.beside)}"] if self.beside else [])


def choose(content: object, *, average: bool, entry: str | None = None) -> Chosen:
    """Return the state dict in the content of a file: `entry`, or else the only one, with `average` that of the EMA.

    Raises:
        ValueError: the content has no state dict, several that fit, or EMA weights in a form that cannot be read.
    """
    if not isinstance(content, Mapping):
        refuse("a mapping of names to tensors", f"a {type(content).__name__}", "Save network.state_dict().")
    found = _with_lists(content, list(_found(content, "", DEPTH)))
    if not found:
        return _unrecognised(content, entry)
    one = _one_of(found, average) if entry is None else _named(found, entry)
    if entry is None and average and not one.is_average:
        _refuse_unread_average(content, found)
    used = {one.name.partition(".")[0]} if one.name else set(map(str, content))
    others = [f"{each.name} (state dict of {len(each.state)} tensors)" for each in found if each is not one]
    heads = {each.name.partition(".")[0] for each in found}
    rest = [str(key) for key in content if str(key) not in used | heads and not _is_in(str(key), found)]
    return Chosen(one.name or WHOLE, _tensors(one.state), tuple(dict.fromkeys((*others, *one.beside, *rest))))


def _found(content: Mapping[object, object], path: str, depth: int) -> Iterator[Found]:
    """Yield the state dicts of networks in a mapping, also in its entries."""
    names = [key for key in content if isinstance(key, str)]
    prefixes = sorted({match[1] for name in names if (match := MARK.match(name))}, key=len, reverse=True)
    left: dict[object, object] = {**content}
    states: list[tuple[str, dict[object, object]]] = []
    for prefix in prefixes:
        keys: list[object] = [key for key in left if isinstance(key, str) and key.startswith(prefix)]
        if not prefix:
            keys = [key for key in left if not _is_counter(key, left[key])]  # unknown keys are rejected by their names
        renamed: dict[object, object] = {
            key.removeprefix(prefix) if isinstance(key, str) else key: left.pop(key) for key in keys
        }
        states.append((f"{path}{prefix}".rstrip("."), renamed))
    beside, unread = _grouped(left, path) if states else ((), ())
    for name, state in states:
        yield Found(name, state, beside, unread)
    for key, value in left.items():
        if isinstance(key, str) and isinstance(value, Mapping) and depth > 0 and not prefixes:
            yield from _found(value, f"{path}{key}.", depth - 1)


def _grouped(left: Mapping[object, object], path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys of no network, those with one beginning as one, and the beginnings that have tensors."""
    groups: dict[str, list[object]] = {}
    for key in left:
        groups.setdefault(str(key).partition(".")[0], []).append(key)
    names = tuple(
        f"{path}{keys[0]}" if len(keys) == 1 else f"{path}{head} ({len(keys)} entries)" for head, keys in groups.items()
    )
    with_tensors = (head for head, keys in groups.items() if any(_has_tensors(left[key], DEPTH) for key in keys))
    return names, tuple(f"{path}{head}" for head in with_tensors)


def _is_counter(key: object, value: object) -> bool:
    """Return whether an entry beside parameters is a number, such as `num_updates` or `n_averaged`."""
    if not isinstance(key, str) or "." in key:
        return False
    return value.ndim == 0 if isinstance(value, Tensor) else isinstance(value, int | float | str | None)


def _with_lists(content: Mapping[object, object], found: list[Found]) -> list[Found]:
    """Return the state dicts, and those that lists of parameters in the trained network's order stand for."""
    trained = [each for each in found if not each.is_average]
    lists = list(_lists(content, "", DEPTH))
    if len(trained) != 1:
        return found
    return found + [Found(name, _from_list(trained[0].state, values)) for name, values in lists]


def _lists(content: Mapping[object, object], path: str, depth: int) -> Iterator[tuple[str, Sequence[Tensor]]]:
    """Yield each list of tensors with a name of EMA weights."""
    for key, value in content.items():
        name = f"{path}{key}"
        if isinstance(value, Mapping) and depth > 0:
            yield from _lists(value, f"{name}.", depth - 1)
        elif _is_list_of_tensors(value) and OF_EMA.search(name):
            yield name, value


def _is_list_of_tensors(value: object) -> TypeGuard[Sequence[Tensor]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(each, Tensor) for each in value)


def _from_list(trained: Mapping[object, object], values: Sequence[Tensor]) -> dict[object, object]:
    """Return the trained state dict with the parameters of a list, which is in the order of its parameters.

    Raises:
        ValueError: the list has another number of parameters or other shapes.
    """
    names = [key for key, value in trained.items() if isinstance(value, Tensor) and not BUFFERS.search(str(key))]
    if len(names) != len(values):
        refuse(f"EMA weights for {len(names)} parameters", f"{len(values)}", "Use --no-average.")
    listed = dict(zip(names, values, strict=True))
    for name, value in listed.items():
        shape = getattr(trained[name], "shape", None)
        if value.shape != shape:
            refuse(f"EMA weights of shape {list(shape or ())} for {name}", f"{list(value.shape)}", "Use --no-average.")
    return {**trained, **listed}


def _one_of(found: list[Found], average: bool) -> Found:
    """Return the only state dict that fits.

    Raises:
        ValueError: several fit.
    """
    averages = [each for each in found if each.is_average]
    others = [each for each in found if not each.is_average]
    fitting = (averages or others) if average else (others or averages)
    if not average and not others:
        refuse("trained weights for --no-average", f"only {_names(averages)}", "Leave --no-average out.")
    if len(fitting) > 1:
        refuse("one network", f"{len(fitting)}: {_names(fitting)}", "Choose one by --entry.")
    return fitting[0]


def _named(found: list[Found], entry: str) -> Found:
    names = {each.name or WHOLE: each for each in found}
    if entry not in names:
        raise ValueError(f"--entry: expected one of {', '.join(names)}, got {entry}{hint(entry, names)}")
    return names[entry]


def _refuse_unread_average(content: Mapping[object, object], found: list[Found]) -> None:
    """Reject a file whose EMA weights are in a form that is not read.

    Raises:
        ValueError: an entry has the name of EMA weights, and tensors.
    """
    heads = {each.name.partition(".")[0] for each in found}
    others = [str(key) for key, value in content.items() if str(key) not in heads and _has_tensors(value, DEPTH)]
    for name in (*others, *(name for each in found for name in each.unread)):
        if OF_EMA.search(name) and not _is_in(name, found):
            advice = "Give --no-average to take the trained weights."
            expected = "EMA weights with the names of the network, or as a list in its order"
            refuse(expected, f"another form in {name}", advice)


def _has_tensors(value: object, depth: int) -> bool:
    """Return whether a value has tensors of at least one axis."""
    if isinstance(value, Tensor):
        return value.ndim > 0
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return depth > 0 and any(_has_tensors(each, depth - 1) for each in inner)


def _is_in(key: str, found: list[Found]) -> bool:
    """Return whether a key of a flat mapping belongs to a state dict with a prefix."""
    return any(each.name and key.startswith(f"{each.name}.") for each in found)


def _unrecognised(content: Mapping[object, object], entry: str | None) -> Chosen:
    """Return the likeliest state dict of an unknown network, whose keys the reader then names.

    Raises:
        ValueError: the content has no state dict.
    """
    name = entry or next((name for name in ("model", "state_dict") if isinstance(content.get(name), Mapping)), "")
    state = content.get(name) if name else content
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        refuse(
            "a mapping of names to tensors", f"keys {some([str(key) for key in content])}", "Save network.state_dict()."
        )
    return Chosen(name or WHOLE, _tensors(state), ())


def _tensors(state: Mapping[object, object]) -> dict[str, Tensor]:
    """Return the state dict.

    Raises:
        ValueError: a key is not a name, or a value is not a dense tensor.
    """
    tensors = {}
    for key, value in state.items():
        if not isinstance(key, str):
            refuse("names as keys", f"{key!r}", "Save network.state_dict().")
        if not isinstance(value, Tensor):
            refuse("a mapping of names to tensors", f"a {type(value).__name__} as {key}", "Save network.state_dict().")
        if value.layout is not torch.strided or value.is_meta:
            kind = "on the meta device" if value.is_meta else "sparse"
            refuse("dense tensors with values", f"{key} {kind}", "Save the tensors themselves.")
        tensors[key] = value
    return tensors


def _names(found: list[Found]) -> str:
    return ", ".join(each.name or WHOLE for each in found)
