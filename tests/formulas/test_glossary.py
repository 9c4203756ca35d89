"""One argument name has one meaning: the glossary has exactly the names of the arguments of all formulas."""

import inspect

import pytest

import ict_ref.formulas
from ict_ref.formulas.glossary import GLOSSARY

FUNCTIONS = {
    name: function
    for name in ict_ref.formulas.__all__
    if inspect.isfunction(function := getattr(ict_ref.formulas, name))
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_name_is_in_the_glossary(name: str) -> None:
    assert set(inspect.signature(FUNCTIONS[name]).parameters) <= set(GLOSSARY)


def test_every_name_in_the_glossary_is_an_argument_of_some_formula() -> None:
    used = {parameter for function in FUNCTIONS.values() for parameter in inspect.signature(function).parameters}
    assert set(GLOSSARY) - used == set()


def test_every_meaning_is_one_line_and_unique() -> None:
    assert all(10 < len(meaning) <= 110 and "\n" not in meaning for meaning in GLOSSARY.values())
    assert len(set(GLOSSARY.values())) == len(GLOSSARY)
