"""The options of a configuration that a cluster file may set."""

from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from ict_ref.config.schema import Data, Machine, Record, Train

DATA_SETS = tuple(name for name in get_args(get_type_hints(Data)["name"]) if name != "digits")
"""Data sets whose folder a cluster file may name."""
OF_TRAIN = ("precision", "skip_nonfinite")
"""Options of `train` that depend on the hardware. They are part of a run's identity, but not choices of the method."""


def cluster_options() -> Mapping[str, Mapping[str, Any]]:
    """Return the options that a cluster file may set, by group and name, with their types."""
    train = get_type_hints(Train)
    return {
        "data": dict.fromkeys(DATA_SETS, str),
        "machine": get_type_hints(Machine),
        "record": get_type_hints(Record),
        "train": {name: train[name] for name in OF_TRAIN},
    }
