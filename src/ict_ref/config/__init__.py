"""Everything that can be configured, and the presets: the paper's tables."""

from ict_ref.config.fields import PLACES, Bars, Config, Data, Method, Network, Sample, Train, as_fields
from ict_ref.config.presets import PRESETS, digits, minimal

__all__ = [
    "PLACES",
    "PRESETS",
    "Bars",
    "Config",
    "Data",
    "Method",
    "Network",
    "Sample",
    "Train",
    "as_fields",
    "digits",
    "minimal",
]
