"""The laws that `ict_ref.verify` runs on other implementations hold for `ict_ref.formulas`."""

from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

import ict_ref.formulas
from ict_ref.verify.checks.law import Comparisons, Law, equal, needs
from ict_ref.verify.checks.law import given as given_inputs
from ict_ref.verify.checks.law import law as law_of
from ict_ref.verify.checks.run_laws import FunctionUnderTest
from ict_ref.verify.laws import LAWS
from ict_ref.verify.vectors.values import TORCH


def compared_and_tried(law: Law) -> tuple[int, int]:
    """Run a law on the reference. Return how many examples compared a value, and how many there were."""
    subject = FunctionUnderTest(getattr(ict_ref.formulas, law.function), law.function, TORCH)
    compared = tried = 0

    @given(st.fixed_dictionaries(law.symbols))
    def holds(values: Any) -> None:
        nonlocal compared, tried
        tried += 1
        before = Comparisons.made
        law.check(subject, values)
        compared += Comparisons.made > before

    holds()
    return compared, tried


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_law(law: Law) -> None:
    """Every law holds on the examples of the profile, and nine of ten of them at least compare a value."""
    compared, tried = compared_and_tried(law)
    assert compared >= 0.9 * tried


def test_examples_that_compare_nothing_are_counted() -> None:
    """Discarded examples are among those that compare nothing, and so are comparisons of empty tensors."""

    def discarding(f: Any, dim: int) -> None:
        """Nothing for even numbers."""
        assume(dim % 2)
        needs(f(dim=dim) > 0, "not positive")

    def of_empty_tensors(f: Any, dim: int) -> None:
        """Nothing."""
        equal(torch.ones(0) * f(dim=dim), torch.ones(0))

    for statement in (discarding, of_empty_tensors):
        [law] = law_of("pseudo_huber_constant")(given_inputs(dim=st.integers(1, 1000))(statement)).of
        compared, tried = compared_and_tried(law)
        assert compared < 0.9 * tried


def test_every_law_has_a_statement_and_a_unique_name() -> None:
    """A law is read in a report: its statement is its docstring."""
    assert all(len(law.text) > 10 for law in LAWS)
    assert len({law.name for law in LAWS}) == len(LAWS)
