"""The example of docs/own_loss.md: the report finds its deviation, and the corrected function passes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "own_loss.md").read_text()
WRONG, CORRECTED = re.findall(r"^<!-- my_loss\.py.*? -->\n\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def checked(code: str, folder: Path) -> tuple[int, str]:
    """Return the status and the report of a process of its own: some examples are constants of loaded modules."""
    (folder / "my_loss.py").write_text(code)
    command = [sys.executable, "-m", "ict_ref.verify", "my_loss.py", "--only", "pseudo_huber"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.slow
def test_the_page_s_loss_has_the_deviation_that_its_report_names(tmp_path: Path) -> None:
    status, out = checked(WRONG, tmp_path)
    assert status == 1
    (report,) = re.findall(r"^```\n(right .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    # The page's command checks both functions, and the training step.
    shown = [line for line in report.splitlines() if line and "trace" not in line and "constant" not in line]
    assert len(shown) == 6
    assert [line for line in shown if line not in out.splitlines()] == []


@pytest.mark.slow
def test_the_page_s_corrected_loss_passes(tmp_path: Path) -> None:
    assert checked(CORRECTED, tmp_path)[0] == 0
