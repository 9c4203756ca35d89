"""Fixtures of all tests: one that hides the user's cluster file, and one that turns off run-time checks."""

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Turn off the checks of shapes and types, which the tests of a single step make."""
    from tests.support import runs  # not before the import hook is there

    with runs.unchecked():
        yield


@pytest.fixture(autouse=True)
def config_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder in place of ~/.config, so that the cluster file of the user has no effect."""
    folder = tmp_path_factory.getbasetemp() / "no-config"
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    for name in ("ICT_REF_PROFILE", "ICT_REF_DATA"):
        monkeypatch.delenv(name, raising=False)
    return folder
