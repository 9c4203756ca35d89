"""The tables of docs/plan.md: `nox -s plan` writes them; tests/plan/test_page.py fails where they are stale."""

import sys
from pathlib import Path

from ict_ref.plan.preset_table import table

PAGE = Path(__file__).parents[1] / "docs" / "plan.md"
BEGIN, END = "<!-- plan: written by `nox -s plan` -->", "<!-- end of plan -->"


def written(page: str, tables: str) -> str:
    """Return the page with these tables."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), table()))
    sys.stdout.write(f"{PAGE}: written\n")
