"""Configurations as the Python interface takes them: a preset's name, options, or a `Config`."""

import difflib
import json
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from ict_ref.config.identity import flat, nested
from ict_ref.config.presets import PRESETS
from ict_ref.config.schema import Config
from ict_ref.utils.command_line import expect

PRESET = "preset"
ConfigLike: TypeAlias = Config | str | Mapping[str, Any]
"""A configuration, the name of a preset, or options by name with the name of a preset under "preset"."""


def config_of(given: ConfigLike) -> tuple[Config, str]:
    """Return a configuration, and the name of its preset; a `Config` has none, "".

    Options have the names of the commands: {"preset": "digits", "train.steps": 100}. Groups work as well:
    {"preset": "digits", "train": {"steps": 100}}.

    >>> config, preset = config_of({"preset": "digits", "train.steps": 100, "network.multipliers": (1, 1)})
    >>> config.train.steps, config.network.multipliers, config.train.batch_size, preset
    (100, (1, 1), 64, 'digits')

    Raises:
        ValueError: the preset or an option does not exist, or a value is not allowed. The message names it.
    """
    if isinstance(given, Config):
        return given, ""
    is_mapping = isinstance(given, Mapping)
    forms = 'a Config, the name of a preset, or options such as {"preset": "digits", "train.steps": 100}'
    expect(is_mapping or isinstance(given, str), "config", forms, type(given).__name__)
    options = dict(given) if isinstance(given, Mapping) else {PRESET: given}
    preset = options.pop(PRESET, None)
    known = isinstance(preset, str) and preset in PRESETS
    near = ", ".join(difflib.get_close_matches(str(preset), PRESETS)) or "digits or minimal"
    expect(known, "config", 'the name of a preset, alone or as "preset"', preset, f"Perhaps {near}.")
    base = PRESETS[str(preset)]()
    return _changed(base, flat(options)), str(preset)


def _changed(base: Config, options: Mapping[str, Any]) -> Config:
    """Return a configuration with other values of some options, by their full names.

    Raises:
        ValueError: an option does not exist, or its value is not allowed.
    """
    fields = flat(json.loads(base.to_json()))
    for name in options:
        near = difflib.get_close_matches(str(name), fields)
        advice = f"Perhaps {near[0]}." if near else "python -m ict_ref.launch --help lists them."
        expect(name in fields, "config", "names of options", name, advice)
    return Config.from_dict(nested(fields | {name: _as_json(value) for name, value in options.items()}))


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it: tuples as lists, paths and numbers of NumPy as those of Python."""
    if isinstance(value, tuple | list):
        return [_as_json(one) for one in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if hasattr(value, "item") else value
