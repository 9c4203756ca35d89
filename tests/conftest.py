"""Fixtures of all tests: the user's cluster file is hidden, run-time checks are turned off, kernels run on the CPU."""

import importlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

VARIABLES = pytest.StashKey[dict[str, str]]()
# In the background and under nohup signals are ignored, and processes that tests start would ignore them too.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)


OF_COMMANDS = re.compile("WORLD_SIZE|(LOCAL_)?RANK|MASTER_|ICT_REF_|CUDA_VISIBLE_DEVICES")
"""Variables by which commands that later tests start would do other things."""


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if OF_COMMANDS.match(name)}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Keep the variables as they were before the test and its fixtures."""
    item.stash[VARIABLES] = _variables()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Fail a test that has changed the variables of later ones."""
    yield
    before, after = item.stash[VARIABLES], _variables()
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    assert not changed, f"the test or a fixture of it changed {', '.join(changed)}, which the tests after it see"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the messages of a command that failed to the report of its test."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        text = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        report.sections.append(("stderr of the command", text))
    return report


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
