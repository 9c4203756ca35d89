"""The version of ict_ref, which files and reports name."""

__version__ = "0.2.0"
