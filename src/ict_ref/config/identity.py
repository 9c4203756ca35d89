"""What names a run: the fields of its configuration that say what is learned, and their digest.

A field is part of a run's identity unless its own metadata, or that of its group, say otherwise. The digest is computed
over the fields that differ from their defaults, so that a field that a later version adds changes no old run's name.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, get_type_hints

NOT_IDENTITY: Mapping[str, bool] = {"identity": False}
"""Metadata of a field, or of a group of fields, that may differ when a run is resumed."""

Tree = Mapping[str, Mapping[str, Any]]
"""A configuration as JSON holds it: groups of fields."""


def is_identity(config: type[Any], name: str) -> bool:
    """Return whether a field, by its full name, is part of a run's identity; one that is not known is."""
    group, _, field = name.partition(".")
    groups = {one.name: one for one in dataclasses.fields(config)}
    if group not in groups:
        return True
    inner: dict[str, Any] = {one.name: one for one in dataclasses.fields(get_type_hints(config)[group])}
    declared = [groups[group].metadata, inner[field].metadata if field in inner else {}]
    return all(metadata.get("identity", True) for metadata in declared)


def flat(tree: Tree) -> dict[str, Any]:
    """Return every field of a configuration by its full name."""
    return {f"{group}.{name}": value for group, fields in tree.items() for name, value in fields.items()}


def identity(config: type[Any], tree: Tree) -> dict[str, Any]:
    """Return the fields that are part of a run's identity and differ from their defaults, by full name."""
    default, given = (flat(json.loads(json.dumps(one))) for one in (dataclasses.asdict(config()), tree))
    return {
        name: given[name]
        for name in sorted(given)
        if is_identity(config, name) and (name not in default or given[name] != default[name])
    }


def digest(fields: Mapping[str, Any]) -> str:
    """Return 8 hexadecimal digits of these fields, which name the run folder and bind its checkpoints."""
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]


def digest_of_0_1_0(tree: Tree) -> str:
    """Return the digest that version 0.1.0 computed, in which acceptance thresholds and sampling had a part."""
    left_out = ("data.path", "data.held_out")
    kept = {group: fields for group, fields in tree.items() if group not in ("machine", "record")}
    return digest({name: value for name, value in flat(kept).items() if name not in left_out})
