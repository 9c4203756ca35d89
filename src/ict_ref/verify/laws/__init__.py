"""The laws that every implementation of a formula obeys, as plain functions; LAWS has them all.

They hold for the functions of `ict_ref.formulas` (properties/test_laws.py), and `python -m ict_ref.verify` runs them on
other implementations. A law of two functions takes the other one from the reference.
"""

from ict_ref.verify.laws import (  # noqa: F401 - each registers its laws
    curriculum,
    distance,
    editing,
    objective,
    parameterization,
    sampling,
    schedule,
    statistics,
    theory,
)
from ict_ref.verify.laws.law import LAWS, BrokenError, Function, Law

__all__ = ["LAWS", "BrokenError", "Function", "Law"]
