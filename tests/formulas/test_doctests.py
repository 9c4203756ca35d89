"""The examples in the docstrings of the formulas return the values that they show."""

import doctest
import importlib
import pkgutil

import pytest

import ict_ref.formulas

MODULES = [f"ict_ref.formulas.{module.name}" for module in pkgutil.iter_modules(ict_ref.formulas.__path__)]
EXAMPLES = {
    "boundary_parameterization",
    "consistency_training_loss",
    "ema_update",
    "exponential_curriculum",
    "index_from_uniform",
    "inverse_gap_weights",
    "lognormal_pmf",
    "multistep_sample",
    "pseudo_huber",
    "pseudo_huber_constant",
    "search_intermediate_sigma",
    "sigma_grid",
}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_pass(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_docstring_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(ict_ref.formulas, name).__doc__ or "")
