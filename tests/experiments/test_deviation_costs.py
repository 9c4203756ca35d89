"""The machinery of the experiment deviations by a few updates: storing, resuming, divergence, and words for scores."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.support.one_line import rejection
from torch import Tensor

from ict_ref.config import Config, minimal
from ict_ref.experiments import __main__ as command
from ict_ref.experiments.cost_table import StoredRun, Summary, change, clause, cost, cost_table, row, symptom
from ict_ref.experiments.deviation_costs import DeviationCosts, small_digits
from ict_ref.experiments.known_deviations import DEVIATIONS, RIGHT, KnownDeviation
from ict_ref.experiments.step_parts import StepParts
from ict_ref.training.trainer import Trainer
from ict_ref.utils.file_format import LaterFormatError

ELEMENTWISE = next(each for each in DEVIATIONS if each.name == "Elementwise")
STEPS = 8


def small(steps: int, seed: int) -> Config:
    start = minimal()
    return replace(start, train=replace(start.train, steps=steps, batch_size=4, noise_shards=1, seed=seed))


def costs(folder: Path, *deviations: KnownDeviation, steps: int = STEPS) -> DeviationCosts:
    return DeviationCosts(folder, seeds=1, steps=steps, deviations=deviations, configuration=small)


def spoiled(at: int, value: float) -> KnownDeviation:
    """Return a deviation that sets all weights to a value at this update."""

    def update(trainer: Trainer) -> None:
        trainer.optimizer.step()
        if trainer.step == at - 1:
            with torch.no_grad():
                for parameter in (*trainer.student.parameters(), *trainer.ema.parameters()):
                    parameter.fill_(value)

    return KnownDeviation(f"Spoiled{at}", "weights that are not finite", StepParts(update=update))


class Stopping:
    """A tick that counts, and stops the run at a number."""

    def __init__(self, at: int | None = None) -> None:
        self.count, self.at = 0, at

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise KeyboardInterrupt


pytestmark = pytest.mark.usefixtures("unchecked")


def test_a_stopped_table_is_resumed_and_equals_one_that_was_not_stopped(tmp_path: Path) -> None:
    whole, parts = costs(tmp_path / "whole", ELEMENTWISE), costs(tmp_path / "parts", ELEMENTWISE)
    tick = Stopping()
    assert whole.updates == 4 * STEPS  # the reference with two seeds more
    expected = whole.run(tick)
    assert tick.count == 4 * STEPS
    with pytest.raises(KeyboardInterrupt):
        parts.run(Stopping(at=2 * STEPS + 3))
    stored = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "parts").glob("*.json"))}
    assert [path.name for path in stored] == ["Elementwise-0.json", "Right-0.json"]
    assert parts.updates == 2 * STEPS
    tick = Stopping()
    assert parts.run(tick) == expected
    assert tick.count == 2 * STEPS
    assert {path: path.stat().st_mtime_ns for path in stored} == stored
    assert parts.updates == 0
    assert parts.run(Stopping(at=1)) == expected
    assert [line[:2] for line in expected[0].rows] == [("Right", "3"), ("Elementwise", "1")]
    assert sorted(path.name for path in (tmp_path / "whole").glob("*.png")) == [
        "Elementwise-0.png", "Right-0.png", "Right-1.png", "Right-2.png"
    ]  # fmt: skip


@pytest.mark.parametrize(("at", "found"), [(3, 4), (STEPS, STEPS)], ids=["in training", "in samples"])
def test_a_run_that_diverges_is_a_row(at: int, found: int, tmp_path: Path) -> None:
    experiment, tick = costs(tmp_path, spoiled(at, float("nan"))), Stopping()
    (table,) = experiment.run(tick)
    assert tick.count == experiment.steps * 4
    name, seeds, *scores, difference, seen = table.rows[1]
    assert (name, seeds, difference) == (f"Spoiled{at}", "1", "diverges")
    assert set(scores) == {"-"}
    assert seen == f"training stops, not finite, at update {found}"
    stored = json.loads((tmp_path / f"Spoiled{at}-0.json").read_text())
    assert stored["diverged_at"] == found
    assert stored["frechet_distance"] is None


def test_stored_runs_of_another_table_are_rejected(tmp_path: Path) -> None:
    costs(tmp_path).run(Stopping())
    with pytest.raises(ValueError, match=r"--runs: expected runs of 9 updates .*, got .*Right-0.json"):
        costs(tmp_path, steps=9).run(Stopping())
    for damaged in ("{", "{}", '{"deviation": "Right", "more": 1}'):
        (tmp_path / "Right-0.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"Right-0.json is damaged: .* Delete it"):
            costs(tmp_path).run(Stopping())
    (tmp_path / "Right-0.json").write_text('{"format": 2}')
    with pytest.raises(LaterFormatError, match="expected format 1 or lower, got 2"):
        costs(tmp_path).run(Stopping())


def runs(name: str, *distances: float, accuracy: float = 0.9, recall: float = 0.7) -> Summary:
    """Return runs with these distances; accuracy and recall have a small spread too."""
    found = []
    for seed, distance in enumerate(distances):
        less = 0.01 * (seed % 2)
        found.append(StoredRun(name, seed, 400, "", 1.0, None, 2.0, distance, accuracy - less, recall - less, 0.3))
    return Summary(name, tuple(found))


def diverging(name: str, *updates: int) -> tuple[StoredRun, ...]:
    return tuple(StoredRun(name, k, 400, "", 1.0, update) for k, update in enumerate(updates))


# Mean 1.0, standard deviation 0.1.
GOOD = runs("Right", 0.9, 1.0, 1.1)


@pytest.mark.parametrize(
    ("distances", "expected", "words"),
    [
        ((1.19, 1.19), 0, "+0.19, within the spread"),
        ((1.21, 1.21), -1, "+0.21"),
        ((0.79, 0.79), 1, "-0.21"),
        # Its own standard deviation, 0.71, is the larger one.
        ((1.5, 2.5), 0, "+1.00, within the spread"),
        ((2.0, 3.0), -1, "+1.50"),
    ],
)
def test_a_cost_up_to_two_standard_deviations_is_spread(
    distances: tuple[float, ...], expected: int, words: str
) -> None:
    found = runs("A", *distances)
    assert change(found, GOOD, "frechet_distance") == expected
    assert cost(found, GOOD) == words


def test_words_follow_the_scores() -> None:
    assert symptom(runs("A", 1.0), GOOD) == "nothing"
    assert symptom(runs("A", 2.0), GOOD) == "digits less like real ones"
    assert symptom(runs("A", 0.5), GOOD) == "better scores"
    assert symptom(runs("A", 2.0, accuracy=0.8), GOOD) == (
        "20% of the digits are wrong or illegible, 10% without the deviation"
    )
    assert symptom(runs("A", 2.0, recall=0.1), GOOD) == "less variety"
    assert symptom(runs("A", 0.5, recall=0.1), GOOD) == "less variety; better scores"
    assert symptom(runs("A", 9.0, accuracy=0.29, recall=0.0), GOOD) == "no digits"
    some = Summary("A", (*diverging("A", 30, 7), *runs("A", 2.0).runs))
    assert symptom(some, GOOD) == "training stops, not finite, at update 7, 30; digits less like real ones"
    assert row(some, GOOD)[1:6] == ("3", "2.00", "0.90", "0.70", "1")


def test_clauses_of_reports_state_both_scores() -> None:
    assert clause(runs("A", 3.0, 3.5), GOOD, "on digits") == (
        "on digits: Frechet distance 3.25 ± 0.35 where 1.00 ± 0.10 is right"
    )
    assert clause(runs("A", 1.05), GOOD, "on digits") == ("on digits a cost within the spread")
    assert clause(Summary("A", diverging("A", 12)), GOOD, "on digits") == (
        "on digits: training stops, not finite, at update 12"
    )


def test_a_table_needs_right_runs() -> None:
    with pytest.raises(ValueError, match="Right: expected runs with scores, got none"):
        cost_table(runs("A", 1.0).runs, "")
    with pytest.raises(ValueError, match="Right: expected runs with scores, got none"):
        cost_table(diverging("Right", 3), "")


def test_the_command_makes_and_prints_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = partial(DeviationCosts, deviations=(ELEMENTWISE,), configuration=small)
    monkeypatch.setattr("ict_ref.experiments.catalogue.DeviationCosts", made)
    given = ["--only", "deviations", "--runs", str(tmp_path / "runs"), "--seeds", "1", "--steps", "9"]
    assert command.main([*given, "--json", str(tmp_path / "found.json")]) == 0
    printed = capsys.readouterr().out
    assert "9 updates of 4 images" in printed
    assert [line.split()[:2] for line in printed.splitlines()[2:4]] == [["Right", "3"], ["Elementwise", "1"]]
    (table,) = json.loads((tmp_path / "found.json").read_text())["deviations"]
    assert [line[0] for line in table["rows"]] == ["Right", "Elementwise"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "2"], "--seeds: expected nothing without --only deviations, got 2"),
        (["--only", "delta", "--runs", "x"], "--runs: expected nothing without --only deviations, got x"),
        (["--only", "deviations", "--seeds", "0"], "--seeds: expected an integer >= 1, got 0"),
        (["--only", "deviations", "--steps", "7"], "--train.steps: expected at least 8 steps"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(arguments) == 2
    assert said in rejection(capsys, "ict_ref.experiments")


def test_the_runs_are_of_the_preset_digits_but_shorter() -> None:
    config = small_digits(400, 3)
    assert (config.train.steps, config.train.seed, config.data.name) == (400, 3, "digits")


def test_seeds_change_all_random_numbers_and_deviations_none(tmp_path: Path) -> None:
    experiment = costs(tmp_path, replace(ELEMENTWISE, parts=RIGHT.parts, name="Copy"))
    experiment.run(Stopping())
    scores: Callable[[str], Tensor] = lambda name: torch.tensor(  # noqa: E731
        [json.loads((tmp_path / f"{name}.json").read_text())[key] for key in ("loss", "frechet_distance")]
    )
    assert torch.equal(scores("Copy-0"), scores("Right-0"))
    assert bool((scores("Right-1") != scores("Right-0")).all())
