"""The tests of the GPU code, tests/end_to_end/test_cuda.py; this module is the plugin that notes their outcomes too."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.notes import Notes, read_rows

ROOT = Path(__file__).parents[2]
TESTS = "tests/end_to_end/test_cuda.py"
DEVICE = "ICT_REF_TEST_DEVICE"
"""Environment variable with the device on which the tests run; by default they are skipped without a GPU."""
OUTCOMES = "ICT_REF_TEST_OUTCOMES"
"""Environment variable with the file of the rows."""
QUICK = "masks or pixels or float32_does_not or checkpoint"
"""Tests of a tiny run."""


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note the outcome of each test as soon as it ends.

    Raises:
        ChildProcessError: a test failed, or none ran.
    """
    # Without the run-time checks of shapes, which need another package and would be compiled along.
    command = [sys.executable, "-m", "pytest", TESTS, "-q", "--tb=short", "-p", "no:cacheprovider", "-p", __name__]
    command += ["--override-ini=addopts=--import-mode=importlib", *(["-k", QUICK] if tiny else [])]
    given = {OUTCOMES: str(notes.file), **({DEVICE: "cpu"} if tiny else {})}
    status = subprocess.run(command, cwd=ROOT, env=os.environ | given, check=False).returncode  # noqa: S603 (ours)
    rows = read_rows(notes.file)
    failed = [row["test"] for row in rows if row["outcome"] == "failed"]
    if failed or status:
        raise ChildProcessError(f"{len(failed)} of {len(rows)} tests failed, pytest ended with {status}: {failed}")


_notes: list[Notes] = []


def pytest_runtest_logreport(report: Any) -> None:
    """Note the outcome of a test, which is that of its call, or of a setup or teardown that did not pass."""
    if OUTCOMES not in os.environ or (report.when != "call" and report.passed):
        return
    if not _notes:
        _notes.append(Notes(Path(os.environ[OUTCOMES])))
    message = "" if report.passed else " ".join(str(report.longrepr).split())[-300:]
    test = report.nodeid.partition("::")[2]
    _notes[0].add("test", test=test, outcome=report.outcome, seconds=report.duration, message=message)
