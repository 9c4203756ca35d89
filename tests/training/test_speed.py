import contextlib
import dataclasses
import resource
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.support.runs import config, images, lines, never, reached, recorded

from ict_ref.checkpoint.training_state import Checkpoint
from ict_ref.checkpoint.writer import CheckpointWriter
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.training.loop import fit, meter_of, resume
from ict_ref.training.speed import Cost, SpeedMeter
from ict_ref.training.trainer import Trainer


class Clock:
    """A clock that the test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def meter(clock: Clock, cost: Cost | None = None, *, processes: int = 1, step: int = 0) -> SpeedMeter:
    """Return a meter of updates of 100 images."""
    device = torch.device("cpu")
    return SpeedMeter(device, step=step, batch_size=100, processes=processes, cost=cost, clock=clock)


def test_the_speed_is_that_since_the_last_reading() -> None:
    clock = Clock()
    measured = meter(clock, step=40)
    clock.now += 30  # slow at first: 3 s per step
    first = measured.read(50)
    clock.now += 2
    second = measured.read(54)
    assert (first["seconds_per_step"], first["images_per_second"]) == (3.0, 33.3333)
    assert (second["seconds_per_step"], second["images_per_second"]) == (0.5, 200.0)


def test_time_in_a_pause_does_not_count() -> None:
    clock = Clock()
    measured = meter(clock)
    clock.now += 4
    with contextlib.suppress(OSError), measured.paused():
        clock.now += 1000
        raise OSError
    with measured.paused():
        clock.now += 500
    clock.now += 6
    assert measured.read(5)["seconds_per_step"] == 2.0
    clock.now += 1
    assert measured.read(6)["seconds_per_step"] == 1.0  # a pause is only that reading's


def test_the_arithmetic_is_that_of_all_images_and_its_share_is_of_all_processes() -> None:
    # 4 steps of 100 images of 6e9 FLOP in 2 s are 1.2e12 FLOP/s; four devices compute 2e12 FLOP/s each.
    clock = Clock()
    measured = meter(clock, Cost(flop_per_image=6 * 10**9, peak_flop_per_second=2e12), processes=4)
    clock.now += 2
    values = measured.read(4)
    assert (values["tflop_per_second"], values["share_of_peak"]) == (1.2, 0.15)


def test_what_is_not_known_is_left_out() -> None:
    clock = Clock()
    always = ["images_per_second", "seconds_per_step", "peak_memory_bytes"]
    for cost, more in ((None, []), (Cost(10**9), ["tflop_per_second"])):
        measured = meter(clock, cost)
        clock.now += 1
        assert sorted(measured.read(1)) == sorted(always + more)


def test_the_peak_memory_on_a_cpu_is_that_of_the_process() -> None:
    clock = Clock()
    measured = meter(clock)
    held = torch.ones(40_000_000)  # 160 MB
    clock.now += 1
    peak = measured.read(1)["peak_memory_bytes"]
    unit = 1 if sys.platform == "darwin" else 1024
    assert peak == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    assert peak > held.nbytes


@pytest.mark.usefixtures("unchecked")
def test_a_run_measures_its_updates_without_checkpoints_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An update takes 2 s, a checkpoint's copy to the host 100 s, a sheet of samples 30 s; lines at 3, 6, 9 and 10.
    clock, save = Clock(), CheckpointWriter.save

    def slow_save(writer: CheckpointWriter, checkpoint: Checkpoint) -> None:
        clock.now += 100
        save(writer, checkpoint)

    def slow_samples(_: Path) -> None:
        clock.now += 30

    def after_update() -> bool:
        clock.now += 2
        return False

    monkeypatch.setattr(CheckpointWriter, "save", slow_save)
    chosen = recorded(log_every=3, save_every=4, sample_every=5)
    trainer = Trainer(dataclasses.replace(chosen, train=config(steps=10).train), images())
    cost = Cost(flop_per_image=10**9, peak_flop_per_second=1e11)
    assert fit(trainer, tmp_path, after_update, show_samples=slow_samples, cost=cost, clock=clock)
    assert clock.now == 1000 + 10 * 2 + 3 * 100 + 2 * 30
    written = lines(tmp_path)
    assert [line["step"] for line in written] == [3, 6, 9, 10]
    assert [line["seconds_per_step"] for line in written] == [2.0] * 4
    assert [line["images_per_second"] for line in written] == [8.0] * 4  # batches of 16
    assert [line["tflop_per_second"] for line in written] == [0.008] * 4
    assert [line["share_of_peak"] for line in written] == [0.08] * 4


def test_the_share_of_the_peak_is_that_of_all_processes_of_a_run() -> None:
    # Batches of 16 images of 1e9 FLOP in 2 s are 8e9 FLOP/s; four devices compute 1e11 FLOP/s each.
    clock, trainer = Clock(), Trainer(config(), images())
    trainer.group = ProcessGroup(0, 4)
    measured = meter_of(trainer, Cost(flop_per_image=10**9, peak_flop_per_second=1e11), clock)
    clock.now += 2
    assert measured.read(1)["share_of_peak"] == 0.02


@pytest.mark.usefixtures("unchecked")
def test_a_line_has_microbatches_and_skipped_steps(tmp_path: Path) -> None:
    chosen = config(steps=8, skip_nonfinite=1)
    halves = dataclasses.replace(chosen, machine=dataclasses.replace(chosen.machine, accumulate=2))
    trainer = Trainer(halves, images())
    trainer.student.network.stem.weight.register_hook(  # type: ignore[no-untyped-call]
        lambda gradient: gradient * (float("inf") if trainer.step == 1 else 1.0)
    )
    assert fit(trainer, tmp_path, never)
    assert [line["microbatches"] for line in lines(tmp_path)] == [2] * 8
    assert [line["skipped_steps"] for line in lines(tmp_path)] == [0] + [1] * 7


@pytest.mark.usefixtures("unchecked")
def test_a_resumed_run_measures_from_its_own_start(tmp_path: Path) -> None:
    # Lines of an earlier version, without the newer fields, stay as they are.
    values = '"levels": 11, "loss": 1, "gradient_norm": 1, "images_per_second": 9'
    old = [f'{{"step": {step}, {values}}}' for step in (1, 2)]
    first = Trainer(config(), images())
    assert not fit(first, tmp_path, partial(reached, first, 2))
    (tmp_path / "metrics.jsonl").write_text("\n".join(old) + "\n")
    clock, again = Clock(), Trainer(config(), images())
    resume(again, tmp_path)

    def after_update() -> bool:
        clock.now += 0.25
        return again.step >= 4

    assert not fit(again, tmp_path, after_update, clock=clock)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines()[:2] == old
    assert [(line["step"], line["seconds_per_step"]) for line in lines(tmp_path)[2:]] == [(3, 0.25), (4, 0.25)]


@pytest.mark.usefixtures("unchecked")
def test_a_line_can_be_read_while_the_run_goes_on(tmp_path: Path) -> None:
    trainer, seen = Trainer(config(steps=8), images()), list[int]()

    def count() -> bool:
        seen.append(len(lines(tmp_path)))
        return False

    assert fit(trainer, tmp_path, count)
    assert seen == list(range(8))
