"""Names that options had in earlier versions, and their names today."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

RENAMED: Mapping[str, str] = {
    "train.lanes": "train.noise_shards",  # word list: allowed
    "bars": "acceptance",  # word list: allowed
}
"""Today's full name of each field, or of each group of fields, by the name that an earlier version gave it."""
PRECISION, DTYPE, AUTOCAST = "train.precision", "train.dtype", "train.autocast"
"""Two fields of earlier versions, of which `train.precision` took the place, in the order of their configurations."""
DEFAULTS: Mapping[str, str] = {DTYPE: "float32", AUTOCAST: "none"}
POLICIES: Mapping[tuple[str, str], str] = {
    ("float64", "none"): "float64",
    ("float32", "none"): "float32",
    ("float32", "bfloat16"): "bfloat16",
}
"""The precision that a dtype and an autocast meant. Convolutions of float32 were in TF32 on a GPU that has it."""


def current_name(name: str) -> str:
    """Return today's full name of a field, given any name that it ever had."""
    return _replaced(name, RENAMED)


def first_name(name: str) -> str:
    """Return the full name that a field had in version 0.1.0, given today's name."""
    return _replaced(name, {new: old for old, new in RENAMED.items()})


def with_first_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return fields, by full name, under the names of version 0.1.0, in their own order.

    A precision that version 0.1.0 did not have keeps its name.

    >>> with_first_names({"train.steps": 4, "train.precision": "bfloat16"})
    {'train.steps': 4, 'train.dtype': 'float32', 'train.autocast': 'bfloat16'}
    """
    meant = {policy: names for names, policy in POLICIES.items()}
    renamed: dict[str, Any] = {}
    for name, value in fields.items():
        if name == PRECISION and value in meant:
            renamed |= dict(zip(DEFAULTS, meant[value], strict=True))
        else:
            renamed[first_name(name)] = value
    return renamed


def policy_of(fields: Mapping[str, Any]) -> Any:
    """Return the precision that `train.dtype` and `train.autocast` meant; a value that they never had is kept.

    >>> policy_of({"train.autocast": "bfloat16"})
    'bfloat16'
    """
    dtype, autocast = (fields.get(name, default) for name, default in DEFAULTS.items())
    if isinstance(dtype, str) and isinstance(autocast, str):
        return POLICIES.get((dtype, autocast), autocast if dtype == "float32" else f"{dtype} with autocast {autocast}")
    return dtype if isinstance(autocast, str) else autocast


def with_current_names(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored configuration under today's names, in its own order.

    An unknown name is kept, so that a later check can report it.

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
            name = current_name(f"{group}.{field}")
            if name in DEFAULTS:
                name, value = PRECISION, policy_of({f"{group}.{other}": old for other, old in fields.items()})
            new_group, _, new_field = name.partition(".")
            renamed.setdefault(new_group, {})[new_field] = value
    return renamed


def with_current_options(arguments: Sequence[str]) -> list[str]:
    """Return a command line with each option of an earlier version under today's name; values are kept.

    >>> with_current_options(["--train.lanes", "4", "--bars.frechet-distance=2"])  # word list: allowed
    ['--train.noise-shards', '4', '--acceptance.frechet-distance=2']
    >>> with_current_options(["--train.dtype", "float64"])
    ['--train.precision', 'float64']
    """
    given = {_field(words[0]): words[-1].partition("=")[2] or words[-1] for words in _options(arguments)}
    policy, renamed = policy_of(given), list[str]()
    for words in _options(arguments):
        if _field(words[0]) not in DEFAULTS:
            renamed += [_current_option(word) for word in words]
        elif f"--{PRECISION}" not in renamed:
            renamed += [f"--{PRECISION}", policy]
    return renamed


def _options(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield each word; the options of DEFAULTS with the value that follows them."""
    words = iter(arguments)
    for word in words:
        separate = _field(word) in DEFAULTS and "=" not in word
        value = next(words, None) if separate else None
        yield [word] if value is None else [word, value]


def _field(argument: str) -> str:
    """Return the full name of the field of which a word is the option; nothing for any other word."""
    return argument.partition("=")[0][2:].replace("-", "_") if argument.startswith("--") else ""


def _current_option(argument: str) -> str:
    _, equals, value = argument.partition("=")
    name = _field(argument)
    if current_name(name) == name:
        return argument
    return f"--{current_name(name).replace('_', '-')}{equals}{value}"


def _replaced(name: str, names: Mapping[str, str]) -> str:
    if name in names:
        return names[name]
    group, dot, field = name.partition(".")
    return f"{names.get(group, group)}{dot}{field}"
