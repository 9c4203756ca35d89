"""The laws that `ict_ref.verify` tries on anybody's implementation hold of ours."""

import pytest
from hypothesis import given

import ict_ref.formulas
from ict_ref.verify.laws import LAWS, Law
from ict_ref.verify.prove import Subject
from ict_ref.verify.strategies import inputs
from ict_ref.verify.values import TORCH


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.name)
def test_law(law: Law) -> None:
    """Every law, each on as many examples as the profile says."""
    subject = Subject(getattr(ict_ref.formulas, law.function), law.function, TORCH)

    @given(inputs(law.symbols))
    def holds(values: dict[str, object]) -> None:
        law.holds(subject, **values)

    holds()


def test_every_law_says_what_it_states_and_has_its_own_name() -> None:
    """A law is read in a report: its statement is its docstring."""
    assert all(len(law.text) > 10 for law in LAWS)
    assert len({law.name for law in LAWS}) == len(LAWS)
