"""The fields of a configuration that decide what is learned, and the digest that names a run by them.

A field is part of a run's identity unless its metadata, or that of its group, has `identity: False`. The digest covers
the fields that differ from their defaults. A field that a later version adds therefore changes no existing digest.
Renaming a field does not change it either, because the digest is computed under first names.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, get_type_hints

from ict_ref.config.old_names import DEFAULTS, with_first_names

NOT_IDENTITY: Mapping[str, bool] = {"identity": False}
"""Metadata of a field, or of a group of fields, that may change when a run is resumed."""

LATER: Mapping[str, Any] = {"train.ema_sigmas": [], "train.init": "", "train.beta2": 0.999, "method.trigflow": False}
"""Fields that version 0.1.0 did not have, and their values in its runs, as JSON stores them."""
LATER_GROUPS = ("tuning", "scm")
"""Groups of fields that version 0.1.0 did not have."""

Tree = Mapping[str, Any]
"""A configuration as JSON stores it: groups of fields, or single fields, by name."""
DEFAULTS_OF_FORMAT_1: Tree = json.loads(files("ict_ref.config").joinpath("defaults_of_format_1.json").read_text())
"""Defaults when config.json of format 1 was written, by today's names: its identities are computed from them."""


def is_identity(config: type[Any], name: str) -> bool:
    """Return whether a field, given by its full name, is part of a run's identity; an unknown field is."""
    group, _, field = name.partition(".")
    groups = {one.name: one for one in dataclasses.fields(config)}
    if group not in groups:
        return True
    kind = get_type_hints(config)[group]
    inner: dict[str, Any] = (
        {one.name: one for one in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    )
    declared = [groups[group].metadata, inner[field].metadata if field in inner else {}]
    return all(metadata.get("identity", True) for metadata in declared)


def flat(tree: Tree) -> dict[str, Any]:
    """Return every field of a configuration by its full name."""
    found: dict[str, Any] = {}
    for group, fields in tree.items():
        of_group = isinstance(fields, Mapping)
        found |= {f"{group}.{name}": value for name, value in fields.items()} if of_group else {group: fields}
    return found


def nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return groups of fields, given by their full names: the inverse of `flat`."""
    tree: dict[str, Any] = {}
    for full_name, value in fields.items():
        group, dot, name = full_name.partition(".")
        if dot:
            tree.setdefault(group, {})[name] = value
        else:
            tree[group] = value
    return tree


def identity(config: type[Any], tree: Tree, defaults: Tree | None = None) -> dict[str, Any]:
    """Return the fields, by full name, that are part of a run's identity and differ from their defaults.

    `defaults` are those of another version; fields that it did not have take the defaults of this one.
    """
    now, then, given = (
        flat(json.loads(json.dumps(one))) for one in (dataclasses.asdict(config()), defaults or {}, tree)
    )
    default = now | then
    return {
        name: given[name]
        for name in sorted(given)
        if is_identity(config, name) and (name not in default or given[name] != default[name])
    }


def digest(fields: Mapping[str, Any]) -> str:
    """Return 8 hexadecimal digits that name the run folder of these fields and bind its checkpoints to it."""
    first = with_first_names(fields)
    return _digest({name: first[name] for name in sorted(first) if first[name] != DEFAULTS.get(name)})


def digest_of_0_1_0(tree: Tree) -> str:
    """Return the digest that version 0.1.0 computed, over the fields that it covered, with its names and order."""
    left_out = ("data.path", "data.held_out", "data.partial")
    groups = ("machine", "record", *LATER_GROUPS)
    kept = json.loads(json.dumps({group: fields for group, fields in tree.items() if group not in groups}))
    fields = {
        name: value
        for name, value in flat(kept).items()
        if name not in left_out and (name not in LATER or value != LATER[name])
    }
    return _digest(with_first_names(fields))


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]
