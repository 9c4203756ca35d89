"""The inspector: checks anybody's implementation against vectors from 50-digit arithmetic.

`python -m ict_ref.verify TARGET` is the command; `parametrize_with_checks` is the same for a test suite:

    from ict_ref.verify import parametrize_with_checks
    import my_package.losses

    @parametrize_with_checks(my_package.losses)
    def test_losses_are_those_of_the_paper(check):
        check()
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from ict_ref.verify.check import Result, run
from ict_ref.verify.check import check as check_implementation
from ict_ref.verify.values import ARRAYS
from ict_ref.verify.vectors import Vector, functions, vectors

if TYPE_CHECKING:
    import pytest

__all__ = ["Check", "Result", "check_implementation", "parametrize_with_checks"]


class Check:
    """One vector for one implementation: call it, and it raises AssertionError with the report's sentence."""

    def __init__(self, function: Callable[..., object], vector: Vector, arrays: str) -> None:
        self.function, self.vector, self.arrays = function, vector, ARRAYS[arrays]

    def __call__(self) -> None:
        """Raise AssertionError if the implementation does not return what it should."""
        result = run(self.function, self.vector, self.arrays)
        if result.status == "fail":
            raise AssertionError(result.message)


def parametrize_with_checks(
    implementation: object,
    *,
    only: Iterable[str] = (),
    arrays: str = "torch",
    waivers: Mapping[str, str] | None = None,
) -> "pytest.MarkDecorator":
    """Return a pytest decorator that calls a test with each check of the functions that an implementation has.

    `waivers` maps a vector's name such as "pseudo_huber#3", or a function's, to the reason why it may fail; a waived
    check that passes fails the test (a strict xfail).
    """
    import pytest

    waived = dict(waivers or {})
    checks = []
    for name in list(only) or functions():
        function = getattr(implementation, name, None)
        if not callable(function):
            continue
        for vector in vectors(name):
            reason = waived.get(vector.name) or waived.get(name)
            marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
            checks.append(pytest.param(Check(function, vector, arrays), id=vector.name, marks=marks))
    if not checks:
        raise ValueError(f"needs an implementation with functions of ict_ref.formulas; got {implementation!r}")
    return pytest.mark.parametrize("check", checks)
