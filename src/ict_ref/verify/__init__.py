"""Checks of any implementation against vectors from 50-digit arithmetic and by laws.

`python -m ict_ref.verify TARGET` is the command; `parametrize_with_checks` is the same for a test suite:

    from ict_ref.verify import parametrize_with_checks
    import my_package.losses

    @parametrize_with_checks(my_package.losses)
    def test_losses_are_those_of_the_paper(check):
        check()
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ict_ref.verify.checks.check import Result
    from ict_ref.verify.checks.check import check as check_implementation
    from ict_ref.verify.checks.parametrize import Check, parametrize_with_checks
else:
    PLACES = {
        "Check": "checks.parametrize:Check",
        "Result": "checks.check:Result",
        "check_implementation": "checks.check:check",
        "parametrize_with_checks": "checks.parametrize:parametrize_with_checks",
    }

    def __getattr__(name: str) -> object:
        """Return a public name. Its module, and with it torch, is imported now (PEP 562)."""
        if name not in PLACES:
            raise AttributeError(f"module 'ict_ref.verify' has no attribute {name!r}")
        from importlib import import_module

        module, _, attribute = PLACES[name].partition(":")
        return getattr(import_module(f"ict_ref.verify.{module}"), attribute)


__all__ = ["Check", "Result", "check_implementation", "parametrize_with_checks"]
