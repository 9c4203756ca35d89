"""JSON objects of stored files, and checks of their values against type hints."""

import hashlib
import json
import reprlib
import sys
import types
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ict_ref.utils.command_line import LARGEST_SEED, expect
from ict_ref.utils.lfs import explained
from ict_ref.utils.regular_file import read_regular

WORDS = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    types.NoneType: "null",
    tuple: "a list",
    Mapping: "an object",
}
LARGEST_FILE = 2**26
"""Largest JSON file in bytes, unless a reader allows more."""
LARGEST_INTEGER = LARGEST_SEED
"""The largest seed of a random stream."""


def read_json(path: Path, advice: str = "Restore it from a copy.", most: int = LARGEST_FILE) -> dict[str, Any]:
    """Return the JSON object in a regular file of at most `most` bytes.

    Raises:
        ValueError: the file is a pipe or a device or larger, or its content is not a JSON object. The message names the
            file; for another content it ends with `advice`.
        OSError: the file cannot be read.
    """
    return json_object(read_regular(path, most), path, advice)


def json_object(text: str | bytes, path: Path | str, advice: str = "Restore it from a copy.") -> dict[str, Any]:
    """Return the JSON object that is the text of a file, or a part of it.

    >>> json_object('{"step": 20}', "about.json")
    {'step': 20}

    Raises:
        ValueError: the text is not a JSON object, or has an entry twice. The message names the file and ends with
            `advice`.
    """
    twice: list[str] = []

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = Counter(name for name, _ in pairs)
        twice.extend(name for name, count in names.items() if count > 1)
        return dict(pairs)

    try:
        content = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError, OverflowError, MemoryError):
        content = None
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: {explained(path, 'it is not a JSON object')}. {advice}")
    if twice:
        raise ValueError(f"{path} is damaged: it has the entry {shown(twice[0])} twice. {advice}")
    return content


CHECKSUM = "sha256"
"""Entry of a JSON object with the SHA-256 of its other entries."""


def with_checksum(content: Mapping[str, Any], name: str = CHECKSUM) -> dict[str, Any]:
    """Return a JSON object with the SHA-256 of its other entries, whatever their order and the spaces in the file.

    >>> with_checksum({"step": 20})
    {'step': 20, 'sha256': 'bb2eb4f2d8731794bffe42fa625c8233e6d710135214b48b7df8f3207a788326'}
    """
    others = {key: value for key, value in content.items() if key != name}
    text = json.dumps(others, sort_keys=True, separators=(",", ":"))
    return {**others, name: hashlib.sha256(text.encode()).hexdigest()}


def refuse_changed(content: Mapping[str, Any], path: Path, name: str = CHECKSUM) -> None:
    """Reject a JSON object whose entries do not have its SHA-256; without one, as in older files, any are accepted.

    Raises:
        ValueError: an entry has changed. The message names the file.
    """
    if name in content and content[name] != (expected := with_checksum(content, name)[name]):
        got = shown(content[name])
        advice = f"Restore it from a copy, or delete its entry {name} if you have changed it on purpose."
        raise ValueError(f"{path}: expected the {name} {expected}, got {got}: an entry has changed. {advice}")


def checked(value: Any, kind: Any, name: str, least: int | None = None) -> Any:
    """Return a value of JSON as its type hint has it: a tuple where JSON has a list.

    `least` is the smallest allowed integer. An integer is also a number, true and false are neither.

    >>> checked([32, 16], tuple[int, ...], "resolutions")
    (32, 16)
    >>> checked("foo", Literal["adm", "ncsnpp"], "--network.architecture")
    Traceback (most recent call last):
    ValueError: --network.architecture: expected one of adm, ncsnpp, got foo

    Raises:
        TypeError: JSON cannot hold values of this type.
        ValueError: the value has another type or is too small. The message names it.
    """
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if origin in (Union, types.UnionType):
        kind = origin = next((one for one in inner if _is_of(value, get_origin(one) or one)), None)
        word = get_origin(kind) is Literal
        expect(not word or value in get_args(kind), name, " or ".join(map(_words, inner)), shown(value))
        expect(kind is not None, name, " or ".join(map(_words, inner)), reprlib.repr(value))
        return checked(value, kind, name, least)
    if origin is Literal:
        expect(isinstance(value, str) and value in inner, name, _words(kind), shown(value))
        return value
    if origin is Any:
        return value
    expect(_is_of(value, origin), name, _words(kind), reprlib.repr(value))
    if origin is int:
        expect(abs(value) <= LARGEST_INTEGER, name, "an integer below 2^128", reprlib.repr(value))
        expect(least is None or value >= least, name, f"an integer >= {least}", reprlib.repr(value))
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        expect(len(value) == len(kinds), name, f"a list of {len(kinds)} values", reprlib.repr(value))
        parts = zip(value, kinds, strict=True)
        return tuple(checked(one, part, f"{name}[{k}]", least) for k, (one, part) in enumerate(parts))
    if origin is Mapping:
        return {key: checked(one, inner[1], f"{name}.{key}", least) for key, one in value.items()}
    return value


def entry(stored: Mapping[str, Any], name: str, kind: Any, within: str = "", least: int | None = None) -> Any:
    """Return an entry of a JSON object as its type hint has it. `within` precedes its name in messages.

    Raises:
        TypeError: JSON cannot hold values of this type.
        ValueError: the entry is missing, has another type or is too small. The message names it.
    """
    if name not in stored:
        raise ValueError(f"{within}{name}: expected an entry, got none")
    return checked(stored[name], kind, f"{within}{name}", least)


def as_fields(kind: Any, values: Any, name: Callable[[str], str] = str) -> dict[str, Any]:
    """Return the fields of a dataclass from their JSON. `name` returns the name of a field in messages.

    A name that the dataclass does not have is kept, so that the dataclass rejects it.

    Raises:
        TypeError: a field has a type that JSON cannot hold.
        ValueError: `values` is not an object, or a field has another type.
    """
    hints = get_type_hints(kind)
    given = checked(values, Mapping[str, Any], name("").rstrip(".") or kind.__name__)
    return {key: checked(value, hints.get(key, Any), name(key)) for key, value in given.items()}


def shown(value: Any) -> str:
    """Return a value of JSON in at most about 40 characters, on one line; short text is not quoted.

    >>> shown("foo"), shown(10**60)
    ('foo', '100000000000000000...0000000000000000000')
    """
    return value if isinstance(value, str) and value.isprintable() and len(value) <= 40 else reprlib.repr(value)


def _is_of(value: Any, kind: Any) -> bool:
    """Return whether a value of JSON has this type.

    Raises:
        TypeError: JSON cannot hold values of this type.
    """
    if kind is Literal:
        return isinstance(value, str)
    if kind not in WORDS:
        raise TypeError(f"{kind} is not a type of JSON")
    if kind is tuple:
        return isinstance(value, list)
    if kind is float:
        return type(value) is float or (type(value) is int and abs(value) <= sys.float_info.max)
    return isinstance(value, Mapping) if kind is Mapping else type(value) is kind


def _words(kind: Any) -> str:
    """Return a type in words."""
    origin = get_origin(kind) or kind
    return f"one of {', '.join(get_args(kind))}" if origin is Literal else WORDS[origin]
