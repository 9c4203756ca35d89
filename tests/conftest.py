"""A fixture that makes tests cheaper where what it leaves out is not what is tested."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave out the checks of shapes and types: for tests of what many steps lead to.

    What a step calls is checked in the tests of a single step.
    """
    from tests.support import runs  # not before the import hook is there

    with runs.unchecked():
        yield
