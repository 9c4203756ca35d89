"""The session of many seeds runs what its file does not have, and ends with a table."""

import json
from pathlib import Path
from typing import Any

import pytest
from tools import law_seeds
from tools.law_seeds import SCALING, Plan, main

from ict_ref.verify.checks.check import Result
from ict_ref.verify.checks.run_laws import check_law
from ict_ref.verify.laws import LAWS, strategies

FEW = tuple(law for law in LAWS if law.name in ("pseudo_huber_constant:rises", "c_in:makes_the_variance_1"))


@pytest.fixture
def two_laws(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Make the plans small, and record what is run."""
    seen: list[tuple[str, int, int]] = []

    def recorded(law: Any, function: Any, **options: Any) -> Result:
        seen.append((law.name, options["examples"], options["seed"]))
        return check_law(law, function, **options)

    monkeypatch.setattr(law_seeds, "check_law", recorded)
    monkeypatch.setattr(law_seeds, "plans", lambda: (Plan("scaling", FEW[:1], 5, 3), Plan("default", FEW, 4, 2)))
    return seen


def test_laws_that_scale_their_inputs_exist() -> None:
    assert set(SCALING) <= {law.name for law in LAWS}
    assert len(set(SCALING)) == len(SCALING)


def test_the_plans_are_100_thorough_seeds_of_some_laws_100_seeds_of_all_and_5_thorough_ones() -> None:
    assert [(plan.name, len(plan.laws), plan.examples, plan.seeds) for plan in law_seeds.plans()] == [
        ("scaling", len(SCALING), 1000, 100),
        ("default", len(LAWS), 50, 100),
        ("thorough", len(LAWS), 1000, 5),
    ]


def test_a_stopped_session_is_resumed(
    tmp_path: Path, two_laws: list[tuple[str, int, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "results.jsonl"
    assert main(["--out", str(place), "--plan", "scaling", "--seeds", "2"]) == 0
    assert two_laws == [(FEW[0].name, 5, seed) for seed in (1, 2)]
    # The process was killed while it wrote a line.
    with place.open("a") as file:
        file.write('{"law": "c_in')
    assert main(["--out", str(place)]) == 0
    assert two_laws[2:] == [(FEW[0].name, 5, 3), *((law.name, 4, seed) for seed in (1, 2) for law in FEW)]
    table = capsys.readouterr().out.splitlines()
    assert table[-2].split()[:6] == ["scaling", "1", "5", "3", "3", "3/3"]
    assert table[-1].split()[:6] == ["default", "2", "4", "2", "2", "4/4"]
    assert len(two_laws) == 7
    assert main(["--out", str(place)]) == 0
    assert len(two_laws) == 7


def test_a_law_that_fails_is_listed_and_runs_again(
    tmp_path: Path,
    two_laws: list[tuple[str, int, int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = tmp_path / "results.jsonl"

    def failing(law: Any, function: Any, **options: Any) -> Result:
        return Result(law.name, law.function, "", "fail", message=f"{law.name}: got 1, should be 2")

    with monkeypatch.context() as patch:
        patch.setattr(law_seeds, "check_law", failing)
        assert main(["--out", str(place), "--plan", "scaling"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"seed 2, 5 examples: fail: {FEW[0].name}: got 1, should be 2" in lines
    assert lines[-1].split()[4:6] == ["0", "0/3"]
    assert main(["--out", str(place), "--plan", "scaling", "--table"]) == 1
    assert two_laws == []
    assert main(["--out", str(place), "--plan", "scaling"]) == 0
    assert len(two_laws) == 3
    assert main(["--out", str(place), "--plan", "scaling", "--table"]) == 0


@pytest.mark.parametrize("field", ["source", "environment"])
def test_results_of_other_code_or_other_versions_do_not_count(
    field: str, tmp_path: Path, two_laws: list[tuple[str, int, int]]
) -> None:
    place = tmp_path / "results.jsonl"
    main(["--out", str(place), "--plan", "scaling"])
    changed = [json.loads(line) | {field: "another"} for line in place.read_text().splitlines()]
    place.write_text("".join(json.dumps(line) + "\n" for line in changed))
    assert main(["--out", str(place), "--plan", "scaling", "--table"]) == 1


def test_comments_do_not_change_the_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = FEW[0].statement.__module__
    before = law_seeds.checksum(module)
    source = Path(str(strategies.__file__)).read_text()
    for text, same in ((source + "\n# A comment.\n", True), (source + "\nseeds = 1\n", False)):
        (tmp_path / "strategies.py").write_text(text)
        monkeypatch.setattr(strategies, "__file__", str(tmp_path / "strategies.py"))
        law_seeds.checksum.cache_clear()
        assert (law_seeds.checksum(module) == before) is same
    law_seeds.checksum.cache_clear()
