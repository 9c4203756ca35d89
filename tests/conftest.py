"""Fixtures that make tests cheaper where what they leave out is not what is tested."""

from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Leave out the checks of shapes and types, which cost small networks ten times their own work.

    For tests of what many steps lead to. What a single step calls is checked by the tests of that step.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
