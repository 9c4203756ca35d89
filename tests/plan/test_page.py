"""The tables of docs/plan.md are current."""

import pytest
from tools.plan_table import PAGE, written

from ict_ref.plan.__main__ import main
from ict_ref.plan.preset_table import PAPER, memory_row, time_row

pytestmark = pytest.mark.usefixtures("unchecked")


@pytest.mark.parametrize("preset", PAPER)
def test_the_rows_of_a_preset_are_those_of_the_page(preset: str) -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{preset}` ")]
    assert rows == [memory_row(preset), time_row(preset)]


def test_the_command_prints_the_tables_that_the_page_has(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ict_ref.plan import preset_table

    page = PAGE.read_text()
    monkeypatch.setattr(preset_table, "PAPER", PAPER[:1])
    assert main(["--all"]) == 0
    tables = capsys.readouterr().out.rstrip("\n")
    heads = [line for line in tables.splitlines() if not line.startswith("| `")]
    assert all(line in page.splitlines() for line in heads)
    assert tables in written(page, tables)
