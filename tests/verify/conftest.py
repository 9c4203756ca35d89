"""Laws on few examples, for tests of what is done with their results."""

from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

from ict_ref.verify.checks import run_laws

settings.register_profile("unshrunk", phases=[Phase.generate])


@pytest.fixture
def few_examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Try each law on ten examples, and stop at the first that breaks it: none is made smaller."""
    monkeypatch.setattr(run_laws, "EXAMPLES", 10)
    settings.register_profile("before", settings.default)  # Hypothesis 6.100 cannot return the current one's name
    settings.load_profile("unshrunk")
    yield
    settings.load_profile("before")
