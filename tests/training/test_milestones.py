"""Milestones: checkpoints that are never deleted, by their distance and at the ends of the curriculum's stages."""

import dataclasses
import math
from pathlib import Path

import pytest
from tests.support.runs import recorded, short_run

from ict_ref.checkpoint.training_state import checkpoints
from ict_ref.config import PRESETS, Config, minimal
from ict_ref.training.discretization import CURRICULA, milestones, number_of_levels, stage_ends


def with_curriculum(curriculum: str, steps: int, s0: int = 10, s1: int = 1280) -> Config:
    method = dataclasses.replace(minimal().method, curriculum=curriculum, s0=s0, s1=s1)  # type: ignore[arg-type]
    return dataclasses.replace(minimal(), method=method, train=dataclasses.replace(minimal().train, steps=steps))


@pytest.mark.parametrize("steps", [8, 40, 401, 1600, 400_000])
def test_a_stage_of_the_exponential_curriculum_has_one_n(steps: int) -> None:
    # Eq. (9): K' = floor(K / (log2(s1 / s0) + 1)), and N doubles every K' updates.
    length = math.floor(steps / 8)
    expected = [length * (stage + 1) for stage in range(7)] + [steps]
    assert stage_ends(with_curriculum("exponential", steps)) == expected


@pytest.mark.parametrize("curriculum", [name for name in CURRICULA if name != "constant"])
def test_stages_end_where_the_number_of_intervals_doubles(curriculum: str) -> None:
    config = with_curriculum(curriculum, 500, s0=2, s1=150)
    levels = [number_of_levels(step, config) for step in range(500)]
    ends = {
        next(step for step in range(500) if levels[step] - 1 >= bound)
        for bound in (2, 4, 8, 16, 32, 64, 128)
        if max(levels) - 1 >= bound
    }
    assert stage_ends(config) == sorted((ends | {500}) - {0})
    assert len(stage_ends(config)) <= 8


def test_a_constant_curriculum_has_one_stage() -> None:
    assert stage_ends(with_curriculum("constant", 500)) == [500]


def test_presets_of_the_paper_keep_the_end_of_each_stage_and_small_ones_do_not() -> None:
    for name, preset in PRESETS.items():
        small = name in ("digits", "minimal")
        assert preset().record.milestone_stages is not small
        assert small is (milestones(preset()) == frozenset())
    assert sorted(milestones(PRESETS["imagenet64"]())) == [100_000 * stage for stage in range(1, 9)]


def test_both_kinds_of_milestones_are_kept() -> None:
    config = recorded(milestone_every=16, milestone_stages=True)
    assert sorted(milestones(config)) == [5, 10, 15, 16, 20, 25, 30, 32, 35, 40]


def test_post_hoc_ema_keeps_checkpoints_evenly_over_the_run() -> None:
    config = recorded(ema_snapshots=3)
    assert milestones(config) == frozenset()
    kept = dataclasses.replace(config, train=dataclasses.replace(config.train, ema_sigmas=(0.05, 0.1)))
    assert sorted(milestones(kept)) == [14, 27, 40]
    more = dataclasses.replace(kept, record=dataclasses.replace(kept.record, ema_snapshots=100, milestone_every=16))
    assert sorted(milestones(more)) == list(range(1, 41))


def test_a_run_keeps_its_milestones(tmp_path: Path) -> None:
    options = ["--record.milestone-stages", "--record.keep", "1", "--record.save-every", "10"]
    run = short_run(tmp_path / "run", *options)
    assert sorted(checkpoints(run)) == [3, 6, 9, 12, 15, 18, 21, 30]
