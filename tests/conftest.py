"""Fixtures of all tests: the user's cluster file is hidden, run-time checks are turned off, kernels run on the CPU."""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch


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


@pytest.fixture
def triton_kernel(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a module of Triton kernels, which Triton's interpreter runs on the CPU."""
    if torch.cuda.is_available():
        pytest.skip("kernels are compiled on this machine; tests/end_to_end/test_cuda.py tests them")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton")
    return lambda name: importlib.import_module(f"ict_ref.networks.{name}")
