"""The tests of the GPU code: tests/end_to_end/test_cuda.py."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from benchmarks.gpu.notes import Notes

ROOT = Path(__file__).parents[2]
DEVICE_VARIABLE = "ICT_REF_TEST_DEVICE"
"""Environment variable with the device on which the tests run; by default they are skipped without a GPU."""


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note the numbers of tests that passed, failed and were skipped, and the name and message of each failure.

    Raises:
        ChildProcessError: pytest could not run the tests.
    """
    report = notes.folder / "tests.xml"
    # Without the run-time checks of shapes, which need another package and would be compiled along.
    command = [sys.executable, "-m", "pytest", "tests/end_to_end/test_cuda.py", "-q", "-p", "no:cacheprovider"]
    command += ["--override-ini=addopts=--import-mode=importlib", "--tb=short", f"--junitxml={report}"]
    environment = {**os.environ, **({DEVICE_VARIABLE: "cpu"} if tiny else {})}
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode  # noqa: S603 (our own command)
    if not report.exists():
        raise ChildProcessError(f"pytest ended with status {status} and wrote no report")
    cases = [*ET.parse(report).getroot().iter("testcase")]  # noqa: S314 (written by our own command)
    failures = [(case.attrib["name"], bad.attrib.get("message", "")) for case in cases for bad in _bad(case)]
    for name, message in failures:
        notes.add("failure", test=name, message=" ".join(message.split())[:300])
    skipped = sum(case.find("skipped") is not None for case in cases)
    notes.add("tests", passed=len(cases) - len(failures) - skipped, failed=len(failures), skipped=skipped)


def _bad(case: ET.Element) -> list[ET.Element]:
    return [*case.iter("failure"), *case.iter("error")]
