"""Write the report of an example into docs/verify.md: `python -m tools.verify_report`."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "verify" / "implementations" / "copied_library.py"
PAGE = ROOT / "docs" / "verify.md"
PLACE = re.compile(r"(<!-- report of copied_library.py -->\n\n```\n)(.*?)(```\n)", re.DOTALL)


def report() -> str:
    """Return the report of the example, without what differs between runs: path, commit, duration and versions."""
    # In a process of its own: Hypothesis takes some examples from constants in the modules that are loaded.
    command = [sys.executable, "-m", "ict_ref.verify", str(EXAMPLE)]
    printed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    text = re.sub(r"^.*copied_library.py(, commit \w+\+?)?", "copied_library.py", printed)
    text = re.sub(r" in \d+ s;", " in 9 s;", text, count=1)
    versions = "torch 2.13.0, NumPy 2.4.6, Hypothesis 6.170.15"
    return re.sub(r"torch [^,]+, NumPy [^,]+, Hypothesis [^,]+", versions, text, count=1)


def main() -> None:
    """Write the report into the page."""
    text = report()
    PAGE.write_text(PLACE.sub(lambda found: f"{found[1]}{text}{found[3]}", PAGE.read_text()))


if __name__ == "__main__":
    main()
