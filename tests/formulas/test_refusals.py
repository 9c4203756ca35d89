"""What each formula says when it refuses, word for word: what it needs and from which source, what it got, what to do.

refusals.txt holds calls and sentences. A call names what is wrong; its other arguments are those of properties/domains.
The sentences are all that somebody sees whose numbers are wrong: they are there to be read.
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


@pytest.mark.parametrize(("call", "says"), REFUSALS, ids=[call for call, _ in REFUSALS])
def test_a_refusal_says_what_is_needed_what_came_and_what_to_do(call: str, says: str) -> None:
    name, arguments = call.removesuffix(")").split("(", 1)
    wrong = eval(f"dict({arguments})", VOCABULARY)  # noqa: S307 - the calls are ours
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole sentence is compared
        getattr(ict_ref.formulas, name)(**{**CASES[name].arguments, **wrong})
    assert str(caught.value) == says


def test_every_formula_that_refuses_anything_is_heard() -> None:
    assert {name for name, case in CASES.items() if case.bad} == {call.split("(")[0] for call, _ in REFUSALS}
