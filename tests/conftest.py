"""A fixture that turns off run-time checks in tests of many steps."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn off the checks of shapes and types, which the tests of a single step make."""
    from tests.support import runs  # not before the import hook is there

    with runs.unchecked():
        yield
