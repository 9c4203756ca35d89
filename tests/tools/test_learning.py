"""The table of scores of each precision, with the smallest preset."""

from pathlib import Path

import pytest
from benchmarks.learning import main, spread


def test_runs_are_trained_once_and_their_scores_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(tmp_path / "runs"), "--preset", "minimal", "--policies", "float32", "bfloat16", "--seeds", "1"]
    tables = []
    for _ in range(2):
        assert main(given) == 0
        tables.append(capsys.readouterr().out.split("minimal, 1 seeds, on cpu")[-1])
    assert tables[0] == tables[1]
    lines = tables[0].split("\n")
    assert [line.split()[0] for line in lines[2:4]] == ["float32", "bfloat16"]
    files = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert files == ["bfloat16-0", "float32-0"]


def test_seeds_are_at_least_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--seeds", "0"]) == 2
    assert "--seeds: expected an integer >= 1, got 0" in capsys.readouterr().err


def test_spread_is_that_of_a_sample() -> None:
    assert spread([0.5]) == "0.500 ± 0.000"
    assert spread([0.0, 2.0]) == "1.000 ± 1.414"
