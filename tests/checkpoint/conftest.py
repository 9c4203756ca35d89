"""A run of thirty steps with checkpoints of steps 10, 20 and 30, which several files of tests copy."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.runs import short_run, unchecked


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the run, which tests only read."""
    return short_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def copied_run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a folder with a copy of the run, and return the copy."""
    shutil.copytree(finished_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    with unchecked():
        yield Path("run")
