"""Fixtures of tests that kill a command and start it again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Work in an empty folder, and return the function that empties it again."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)

    def empty() -> None:
        for path in place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return empty
