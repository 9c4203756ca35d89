"""The functions that a property test is a law of, which its decorator names."""

from collections.abc import Callable
from typing import TypeVar

Test = TypeVar("Test", bound=Callable[..., None])


def law_of(*functions: str) -> Callable[[Test], Test]:
    """Return a decorator that names the functions of `ict_ref.formulas` that a test is a law of.

    tools/equation_table.py reads the names, and nothing else, for the table of laws in docs/equations.md.
    """
    assert functions, "a law is of one function or more"
    return lambda test: test
