"""Everything that can be configured, and the presets: the paper's tables."""

from ict_ref.config.presets import PRESETS, digits, minimal
from ict_ref.config.schema import (
    Bars,
    Config,
    Data,
    Machine,
    Method,
    Network,
    Record,
    Sample,
    Train,
    as_fields,
)

__all__ = [
    "PRESETS",
    "Bars",
    "Config",
    "Data",
    "Machine",
    "Method",
    "Network",
    "Record",
    "Sample",
    "Train",
    "as_fields",
    "digits",
    "minimal",
]
