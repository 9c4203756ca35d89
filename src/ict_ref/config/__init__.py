"""Configurations of training runs, and presets for the tables and figures of the paper."""

from ict_ref.config.presets import PRESETS, digits, minimal
from ict_ref.config.schema import (
    Acceptance,
    Config,
    Data,
    Machine,
    Method,
    Network,
    Record,
    Sample,
    Train,
    stored_group,
)

__all__ = [
    "PRESETS",
    "Acceptance",
    "Config",
    "Data",
    "Machine",
    "Method",
    "Network",
    "Record",
    "Sample",
    "Train",
    "digits",
    "minimal",
    "stored_group",
]
