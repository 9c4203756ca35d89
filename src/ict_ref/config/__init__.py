"""Configurations of training runs, and presets for the tables and figures of the paper."""

from ict_ref.config.method import Method
from ict_ref.config.network import Network
from ict_ref.config.presets import PRESETS, digits, minimal
from ict_ref.config.schema import (
    Acceptance,
    Config,
    Data,
    Machine,
    Record,
    Sample,
    Train,
    stored_group,
)
from ict_ref.config.scm import Scm
from ict_ref.config.tuning import Tuning

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
    "Scm",
    "Train",
    "Tuning",
    "digits",
    "minimal",
    "stored_group",
]
