"""Names that options had in earlier versions, and their names today."""

from collections.abc import Mapping, Sequence
from typing import Any

RENAMED: Mapping[str, str] = {
    "train.lanes": "train.noise_shards",  # word list: allowed
    "bars": "acceptance",  # word list: allowed
}
"""Today's full name of each field, or of each group of fields, by the name that an earlier version gave it."""


def current_name(name: str) -> str:
    """Return today's full name of a field, given any name that it ever had."""
    return _replaced(name, RENAMED)


def first_name(name: str) -> str:
    """Return the full name that a field had in version 0.1.0, given today's name."""
    return _replaced(name, {new: old for old, new in RENAMED.items()})


def with_current_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored configuration under today's names, in its own order.

    A name that is not in RENAMED is kept, so that a later check can report it.

    >>> with_current_names({"train": {"steps": 8, "lanes": 4}, "bars": {"recall": None}})  # word list: allowed
    {'train': {'steps': 8, 'noise_shards': 4}, 'acceptance': {'recall': None}}
    """
    renamed: dict[str, Any] = {}
    for group, fields in tree.items():
        if not isinstance(fields, Mapping):
            renamed[group] = fields
            continue
        renamed.setdefault(RENAMED.get(group, group), {})
        for field, value in fields.items():
            new_group, _, new_field = current_name(f"{group}.{field}").partition(".")
            renamed.setdefault(new_group, {})[new_field] = value
    return renamed


def with_current_options(arguments: Sequence[str]) -> list[str]:
    """Return a command line with each option of an earlier version under today's name; values are kept.

    >>> with_current_options(["--train.lanes", "4", "--bars.frechet-distance=2"])  # word list: allowed
    ['--train.noise-shards', '4', '--acceptance.frechet-distance=2']
    """
    return [_current_option(argument) for argument in arguments]


def _current_option(argument: str) -> str:
    option, equals, value = argument.partition("=")
    name = option.removeprefix("--").replace("-", "_")
    if not option.startswith("--") or current_name(name) == name:
        return argument
    return f"--{current_name(name).replace('_', '-')}{equals}{value}"


def _replaced(name: str, names: Mapping[str, str]) -> str:
    if name in names:
        return names[name]
    group, dot, field = name.partition(".")
    return f"{names.get(group, group)}{dot}{field}"
