"""The error message of each formula, word for word: the requirement with its source, the value, the remedy.

refusals.txt holds calls and messages. A call has the invalid argument; the others are those of properties/domains.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from properties.domains import CASES, f64, normal

import ict_ref.formulas

VOCABULARY = {"dict": dict, "f64": f64, "normal": normal, "torch": torch, "nan": math.nan, "inf": math.inf}
BLOCKS = Path(__file__).with_name("refusals.txt").read_text().strip().split("\n\n")
REFUSALS = [tuple(map(str.strip, block.split("\n"))) for block in BLOCKS]


@pytest.fixture(autouse=True, scope="module")
def _unchecked() -> Iterator[None]:
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("call", "message"), REFUSALS, ids=[call for call, _ in REFUSALS])
def test_an_error_names_the_requirement_the_value_and_the_remedy(call: str, message: str) -> None:
    name, arguments = call.removesuffix(")").split("(", 1)
    wrong = eval(f"dict({arguments})", VOCABULARY)  # noqa: S307 - refusals.txt is trusted
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
        getattr(ict_ref.formulas, name)(**{**CASES[name].arguments, **wrong})
    assert str(caught.value) == message


def test_every_formula_that_raises_is_covered() -> None:
    assert {name for name, case in CASES.items() if case.bad} == {call.split("(")[0] for call, _ in REFUSALS}
