"""The laws that `ict_ref.verify` runs on other implementations hold for `ict_ref.formulas`."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ict_ref.formulas
from ict_ref.verify.laws import LAWS, Law
from ict_ref.verify.run_laws import FunctionUnderTest
from ict_ref.verify.values import TORCH


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_law(law: Law) -> None:
    """Every law, each on the number of examples of the profile."""
    subject = FunctionUnderTest(getattr(ict_ref.formulas, law.function), law.function, TORCH)

    @given(st.fixed_dictionaries(law.symbols))
    def holds(values: Any) -> None:
        law.check(subject, values)

    holds()


def test_every_law_has_a_statement_and_a_unique_name() -> None:
    """A law is read in a report: its statement is its docstring."""
    assert all(len(law.text) > 10 for law in LAWS)
    assert len({law.name for law in LAWS}) == len(LAWS)
