"""Checks as parameters of a pytest test."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ict_ref.verify.checks.check import check_vector
from ict_ref.verify.checks.explain import explained_alone
from ict_ref.verify.checks.law import Law, NotTriedError
from ict_ref.verify.checks.result import FAILING
from ict_ref.verify.checks.run_laws import all_laws, check_law, law_name
from ict_ref.verify.vectors.load import VERSION, Vector, functions, vectors
from ict_ref.verify.vectors.values import ARRAYS, Arrays
from ict_ref.verify.vectors.versions import chosen, signature

if TYPE_CHECKING:
    import pytest


class Check:
    """One vector or one law for one implementation; a call raises AssertionError with the report's message."""

    def __init__(
        self,
        function: Callable[..., object],
        of: Vector | Law,
        arrays: Arrays,
        version: int = VERSION,
        *,
        strict: bool = True,
    ) -> None:
        self.function, self.of, self.arrays, self.version, self.strict = function, of, arrays, version, strict

    def __call__(self) -> None:
        """Run the check.

        Raises:
            AssertionError: The implementation does not return the expected value.
            NotTriedError: A law cannot be tried; test suites take it as a skipped test.
        """
        if isinstance(self.of, Law):
            result = check_law(self.of, self.function, self.arrays, version=self.version)
        else:
            result = explained_alone(check_vector(self.function, self.of, self.arrays), self.version)
        if result.status == "skipped":
            raise NotTriedError(result.message)
        if result.status == "fail" and (self.strict or result.kind in FAILING):
            raise AssertionError(result.message)


def parametrize_with_checks(
    implementation: object,
    *,
    only: Iterable[str] = (),
    arrays: str = "torch",
    waivers: Mapping[str, str] | None = None,
    vectors_version: int = VERSION,
    strict: bool = False,
) -> "pytest.MarkDecorator":
    """Return a pytest decorator that runs a test with each check of the functions that an implementation has.

    Checks are vectors and, where Hypothesis is installed, laws. `waivers` maps the name of a check such as
    "pseudo_huber#3", or of a function, to the reason why it may fail. A check that is waived by its name and passes
    fails the test (a strict xfail). If a function is waived, some of its checks may pass. `vectors_version` is 1 for an
    implementation with the argument names of version 1. Unless `strict`, only wrong values fail: types, precision and
    arguments outside the domain that are accepted do not.

    Raises: ValueError for an implementation without any of the functions, and for an unknown version.
    """
    import pytest

    try:
        version = chosen(str(vectors_version))
    except ValueError as error:
        raise ValueError(f"vectors_version: {error}") from None

    waived = dict(waivers or {})

    def parameter(label: str, check: Check, function: str) -> object:
        reason = waived.get(label) or waived.get(function)
        marks = [pytest.mark.xfail(reason=reason, strict=label in waived)] if reason else []
        return pytest.param(check, id=label, marks=marks)

    named = {name: getattr(implementation, name, None) for name in list(only) or functions(version)}
    checks = [
        parameter(label, Check(function, of, ARRAYS[arrays], version, strict=strict), name)
        for name, function in named.items()
        if callable(function)
        for label, of in _vectors_and_laws(name, version)
    ]
    if not checks:
        raise ValueError(f"expected an implementation with functions of ict_ref.formulas, got {implementation!r}")
    return pytest.mark.parametrize("check", checks)


def _vectors_and_laws(function: str, version: int) -> Iterator[tuple[str, Vector | Law]]:
    """Yield the checks of a function with their names; laws only if Hypothesis is installed."""
    for vector in vectors(function, version):
        yield vector.name, vector
    for law in all_laws():
        if signature(law.function, version).function == function:
            yield law_name(law, version), law
