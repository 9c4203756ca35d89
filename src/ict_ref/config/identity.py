"""What names a run: the fields of its configuration that say what is learned, and their digest."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NOT_LEARNED = ("data.path", "data.held_out", "machine", "record")
"""Fields, and groups of them, that say where data lie, how is computed and what is kept, and not what is learned."""


def is_learned(name: str) -> bool:
    """Return whether a field, by its full name, says what is learned."""
    return name not in NOT_LEARNED and name.split(".")[0] not in NOT_LEARNED


def learned(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields of a configuration, given as groups of fields, that say what is learned, by full name."""
    flat = {f"{group}.{name}": value for group, fields in tree.items() for name, value in fields.items()}
    return {name: value for name, value in flat.items() if is_learned(name)}


def digest(fields: Mapping[str, Any]) -> str:
    """Return 8 hexadecimal digits of these fields, which name the run folder and bind its checkpoints."""
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()[:8]
