"""The laws that every implementation of a formula obeys, as plain functions; LAWS has them all.

They hold for the functions of `ict_ref.formulas` (properties/test_laws.py), and `python -m ict_ref.verify` runs them on
other implementations. A law of two functions takes the other one from the reference. The package needs Hypothesis.
"""

from ict_ref.verify.checks.law import BrokenError, Function, Law
from ict_ref.verify.laws import (
    curriculum,
    distance,
    ect,
    editing,
    objective,
    parameterization,
    sampling,
    schedule,
    slct,
    statistics,
    tcm,
    theory,
    trigflow,
)

__all__ = ["LAWS", "MODULES", "BrokenError", "Function", "Law"]

OF_ICT = (curriculum, distance, editing, objective, parameterization, sampling, schedule, statistics, theory)
MODULES = (*OF_ICT, ect, trigflow, tcm, slct)
LAWS: tuple[Law, ...] = tuple(law for module in MODULES for laws in module.LAWS for law in laws.of)
