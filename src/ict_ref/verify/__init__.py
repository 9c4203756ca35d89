"""The inspector: checks anybody's implementation against vectors from 50-digit arithmetic, and by laws.

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
from ict_ref.verify.laws import LAWS, Law
from ict_ref.verify.prove import attempt, available
from ict_ref.verify.values import ARRAYS, Arrays
from ict_ref.verify.vectors import Vector, functions, vectors

if TYPE_CHECKING:
    import pytest

__all__ = ["Check", "Result", "check_implementation", "parametrize_with_checks"]


class Check:
    """One vector or one law, for one implementation: called, it raises AssertionError with the report's sentence."""

    def __init__(self, function: Callable[..., object], of: Vector | Law, arrays: Arrays) -> None:
        self.function, self.of, self.arrays = function, of, arrays

    def __call__(self) -> None:
        """Raise AssertionError if the implementation does not return what it should."""
        if isinstance(self.of, Law):
            result = attempt(self.of, self.function, self.arrays)
        else:
            result = run(self.function, self.of, self.arrays)
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

    Checks are vectors and, where Hypothesis is installed, laws. `waivers` maps a check's name such as
    "pseudo_huber#3", or a function's, to the reason why it may fail. A check that is waived by its own name and
    passes fails the test (a strict xfail); where a function is waived, some of its checks may pass.
    """
    import pytest

    waived = dict(waivers or {})
    checks = []
    for name in list(only) or functions():
        function = getattr(implementation, name, None)
        if not callable(function):
            continue
        every: list[Vector | Law] = list(vectors(name))
        every += [law for law in LAWS if law.function == name and available()]
        for of in every:
            reason = waived.get(of.name) or waived.get(name)
            marks = [pytest.mark.xfail(reason=reason, strict=of.name in waived)] if reason else []
            checks.append(pytest.param(Check(function, of, ARRAYS[arrays]), id=of.name, marks=marks))
    if not checks:
        raise ValueError(f"needs an implementation with functions of ict_ref.formulas; got {implementation!r}")
    return pytest.mark.parametrize("check", checks)
