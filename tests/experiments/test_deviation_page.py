"""docs/deviations.md and the costs in reports of `ict_ref.verify` are those of docs/deviations.json."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tools import deviation_table
from tools.deviation_table import DATA, PAGE, REPORT, as_file, costs, draw, main, tables, worst, written

from ict_ref.experiments.cost_table import StoredRun
from ict_ref.experiments.deviation_costs import DeviationCosts
from ict_ref.experiments.known_deviations import DEVIATIONS
from ict_ref.verify.report.finding import effect_of
from ict_ref.verify.vectors.load import deviations


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DATA.read_text("utf-8"))
    return found


def test_the_page_has_the_table_of_the_stored_runs(data: dict[str, Any]) -> None:
    page = PAGE.read_text("utf-8")
    assert written(page, tables(data)) == page


def test_the_reports_have_the_costs_of_the_stored_runs(data: dict[str, Any]) -> None:
    assert REPORT.read_bytes() == as_file(costs(data))


def test_the_scale_is_that_of_the_experiment(data: dict[str, Any]) -> None:
    assert data["scale"] == DeviationCosts().scale()


def test_effects_end_with_the_measured_cost(data: dict[str, Any]) -> None:
    found = costs(data)["costs"]
    assert set(found) <= set(deviations())
    assert "Elementwise" in found
    for name, cost in found.items():
        assert effect_of(name) == f"{deviations()[name].effect}; {cost}"
        assert cost.startswith("on 8x8 digits")
    assert effect_of("FloatLog2") == deviations()["FloatLog2"].effect


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = StoredRun("Right", 0, 400, "", 1.0, None, 2.0, 1.0, 0.9, 0.7, 0.3)
    few = [run, replace(run, deviation=DEVIATIONS[1].name)]
    some = {"scale": "Small.", "baselines": {}, "runs": [asdict(each) for each in few]}
    for name in ("DATA", "PAGE", "REPORT"):
        monkeypatch.setattr(deviation_table, name, tmp_path / name)
    (tmp_path / "DATA").write_bytes(as_file(some))
    (tmp_path / "PAGE").write_text(f"Before.\n{deviation_table.BEGIN}\nold\n{deviation_table.END}\nAfter.\n")
    main([])
    page = (tmp_path / "PAGE").read_text()
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}
    assert len(rows) == len(DEVIATIONS) + 1
    for each in DEVIATIONS:
        assert f"| {each.what} | " in rows[each.name]
        assert ("not measured" in rows[each.name]) == (each.name != DEVIATIONS[1].name)
    assert "| 1 | 1.00 | 0.90 | 0.70 | 1 | +0.00, within the spread | nothing |" in rows[DEVIATIONS[1].name]
    assert "old" not in page
    assert page.startswith("Before.\n")
    assert page.endswith("\nAfter.\n")
    assert json.loads((tmp_path / "REPORT").read_text()) == {"scale": "Small.", "costs": {}}  # not of verify


def test_the_picture_has_the_worst_deviations_beside_the_right_samples(tmp_path: Path) -> None:
    shades = {"Right": 10, "A": 90, "B": 170}
    for name, shade in shades.items():
        Image.new("RGB", (60, 40), (shade, shade, shade)).save(tmp_path / f"{name}-0.png")
    right = StoredRun("Right", 0, 400, "", 1.0, None, 2.0, 1.0, 0.9, 0.7, 0.3)
    runs = [right, *(replace(right, deviation=name, frechet_distance=d) for name, d in (("A", 2.0), ("B", 9.0)))]
    assert worst({"runs": [asdict(run) for run in runs]}, 3) == ["B", "A"]
    draw(tmp_path, ["Right", "B", "A"], tmp_path / "all.png")
    drawn = Image.open(tmp_path / "all.png")
    assert [drawn.getpixel((x, drawn.height - 1)) for x in (30, 110, 190)] == [(s, s, s) for s in (10, 170, 90)]
