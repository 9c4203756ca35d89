import dataclasses
import math
import os
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from tests.support.runs import CT, config, copied, images, lines, never, newest, reached, recorded, same, updated

from ict_ref.checkpoint.training_state import Checkpoint, checkpoints, load_checkpoint
from ict_ref.config import Method, Sample
from ict_ref.formulas import ema_update
from ict_ref.training.discretization import discretization
from ict_ref.training.loop import fit, resume
from ict_ref.training.radam import RAdam
from ict_ref.training.trainer import Trainer


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [Method(), CT], ids=["iCT", "CT, whose teacher is saved too"])
def test_a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does(tmp_path: Path, method: Method) -> None:
    chosen = dataclasses.replace(config(), method=method)
    whole = Trainer(chosen, images())
    (tmp_path / "whole").mkdir()
    assert fit(whole, tmp_path / "whole", never)

    folder = tmp_path / "cut"
    folder.mkdir()
    for limit in (3, 17, 24, 99):
        cut = Trainer(chosen, images())
        resume(cut, folder)
        stops = partial(reached, cut, limit)
        assert fit(cut, folder, stops) is (limit == 99)
        torch.rand(7)  # nothing depends on a global generator
    assert same(cut.checkpoint(), whole.checkpoint())

    assert [line["step"] for line in lines(folder)] == list(range(1, 41))
    assert [line["loss"] for line in lines(folder)] == [line["loss"] for line in lines(tmp_path / "whole")]


def test_a_killed_run_writes_the_lines_after_its_checkpoint_again(tmp_path: Path) -> None:
    trainer = Trainer(config(), images())
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 12)
    with (tmp_path / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"step": 13, "loss": 0}\n{"step": 14, "lo')
    again = Trainer(config(), images())
    resume(again, tmp_path)
    assert again.step == 12
    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 13))


def test_the_progress_bar_of_a_resumed_run_starts_at_its_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, again = Trainer(config(), images()), Trainer(config(), images())
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 3)
    assert "training 3/40 steps" in capsys.readouterr().err
    resume(again, tmp_path)
    assert not fit(again, tmp_path, lambda: again.step >= 5)
    lines_of_bar = capsys.readouterr().err
    assert "training 3/40 steps" in lines_of_bar
    assert "training 5/40 steps" in lines_of_bar


@pytest.mark.usefixtures("unchecked")
def test_the_metrics_trace_the_curriculum(tmp_path: Path) -> None:
    assert fit(Trainer(config(), images()), tmp_path, never)
    assert [line["levels"] for line in lines(tmp_path)] == [
        n for n in (11, 21, 41, 81, 161, 321, 641, 1281) for _ in range(5)
    ]


def test_the_ema_weights_follow_the_updated_student() -> None:
    trainer = Trainer(config(ema_decay=0.75), images())
    names = [name for name, _ in trainer.student.named_parameters()]
    start = {name: value.detach().clone() for name, value in trainer.student.named_parameters()}
    expected = start
    for _ in range(3):
        trainer.update()
        after = dict(trainer.student.named_parameters())
        expected = {name: ema_update(expected[name], after[name].detach(), decay=0.75) for name in names}
    for name, average in trainer.ema.named_parameters():
        torch.testing.assert_close(average, expected[name], rtol=3e-7, atol=1e-8)
        assert not average.requires_grad
    assert any(not torch.equal(start[name], expected[name]) for name in names)


def test_the_teacher_of_ct_follows_the_updated_student_at_mu_of_k() -> None:
    # mu(k) = exp(s0 log(mu0) / N(k)), with N(k) of the last update; the first of 40 has N = 2: mu = .9.
    trainer = Trainer(dataclasses.replace(config(), method=CT), images())
    assert trainer.teacher is not None
    expected = [parameter.detach().clone() for parameter in trainer.student.parameters()]
    for _ in range(3):
        n = len(discretization(trainer.step, trainer.config).sigmas)
        mu = math.exp(2 * math.log(0.9) / n)
        trainer.update()
        pairs = zip(expected, trainer.student.parameters(), strict=True)
        expected = [mu * old + (1 - mu) * value.detach() for old, value in pairs]
    for ours, theirs in zip(trainer.teacher.parameters(), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
        assert ours.grad is None


def test_ict_has_no_second_teacher() -> None:
    trainer = Trainer(config(), images())
    assert trainer.teacher is None
    assert not any(name.startswith("teacher/") for name in trainer.checkpoint().tensors)


def test_an_update_uses_the_averaged_teacher() -> None:
    # With the teacher moved far away the loss is another; with the student's parameters it is iCT's. Not at the start:
    # with two levels the teacher stands at sigma_min, where every teacher returns its input.
    near, far = (Trainer(dataclasses.replace(config(), method=CT), images()) for _ in range(2))
    alone = Trainer(dataclasses.replace(config(), method=dataclasses.replace(CT, mu0=None)), images())
    assert far.teacher is not None
    with torch.no_grad():
        for parameter in far.teacher.parameters():
            parameter.add_(1.0)
    for trainer in (near, far, alone):
        trainer.step = 30
    losses = [updated(trainer) for trainer in (near, far, alone)]
    assert losses[0] == losses[2]
    assert losses[1] != losses[0]


def test_the_optimizer_is_the_radam_of_appendix_b() -> None:
    trainer = Trainer(config(learning_rate=1e-4), images())
    optimizer = trainer.optimizer
    assert type(optimizer) is RAdam
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"], group["weight_decay"]) == (1e-4, (0.9, 0.999), 1e-8, 0)


def test_the_first_updates_are_unrectified_momentum() -> None:
    # RAdam's first update is lr g: rho_1 < 5, and the bias-corrected momentum is the gradient.
    trainer = Trainer(config(learning_rate=0.5, precision="float64"), images())
    before = [value.detach().clone() for value in trainer.student.parameters()]
    trainer.update()
    for old, value in zip(before, trainer.student.parameters(), strict=True):
        assert value.grad is not None
        torch.testing.assert_close(value.detach(), old - 0.5 * value.grad, rtol=1e-12, atol=1e-12)


def test_the_number_of_noise_shards_is_part_of_the_identity_of_a_run() -> None:
    # One shard or four have different noise; the same shards give the same loss on every call.
    first, second = Trainer(config(precision="float64"), images()), Trainer(config(precision="float64"), images())
    assert updated(first) == updated(second)
    assert updated(Trainer(config(precision="float64", noise_shards=1), images())) != updated(first)


@pytest.mark.usefixtures("unchecked")
def test_a_run_is_saved_at_its_interval_and_at_its_end(tmp_path: Path) -> None:
    trainer = Trainer(config(), images())

    def crash() -> bool:
        if trainer.step == 25:
            raise RuntimeError
        return False

    with pytest.raises(RuntimeError):
        fit(trainer, tmp_path, crash)
    checkpoint = newest(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == 20  # save_every = 10
    again = Trainer(config(steps=24), images())
    (tmp_path / "short").mkdir()
    # Whoever stops at the last step has a finished run.
    assert fit(again, tmp_path / "short", partial(reached, again, 24))
    checkpoint = newest(tmp_path / "short")
    assert checkpoint is not None
    assert checkpoint.step == 24


def test_a_run_trains_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, sync, trained = Trainer(recorded(save_every=5), images()), os.fsync, threading.Event()

    def fsync(number: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert trained.wait(20)
        sync(number)

    def after_update() -> bool:
        assert list(checkpoints(tmp_path)) == []
        if trainer.step == 8:
            trained.set()
        return trainer.step == 8

    monkeypatch.setattr("os.fsync", fsync)
    assert not fit(trainer, tmp_path, after_update)
    assert list(checkpoints(tmp_path)) == [8, 5]
    again = Trainer(recorded(save_every=5), images())
    again.restore(load_checkpoint(checkpoints(tmp_path)[5]))
    for _ in range(3):
        again.update()
    assert same(again.checkpoint(), trainer.checkpoint())


def test_an_error_of_a_checkpoint_ends_the_run_at_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, sync = Trainer(recorded(save_every=5), images()), os.fsync

    def fsync(number: int) -> None:
        if trainer.step < 10 and threading.current_thread() is not threading.main_thread():
            raise OSError(28, "No space left on device")
        sync(number)

    monkeypatch.setattr("os.fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        fit(trainer, tmp_path, lambda: threading.Event().wait(0.05 if trainer.step == 5 else 0))
    assert trainer.step == 10
    assert list(checkpoints(tmp_path)) == []


def test_parameters_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    # So large a learning rate that the first step leaves float32, by a loss and a gradient that are finite.
    chosen = dataclasses.replace(config(learning_rate=1e38), record=recorded(save_every=1).record)
    trainer = Trainer(chosen, images())
    with torch.no_grad():
        for parameter in trainer.student.network.head.parameters():
            parameter.fill_(1.0)
    with pytest.raises(FloatingPointError, match=r"is not finite after step 1\. The checkpoint is not saved"):
        fit(trainer, tmp_path, never)
    assert newest(tmp_path) is None


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_nothing(tmp_path: Path) -> None:
    trainer = Trainer(config(), images())
    assert not fit(trainer, tmp_path, lambda: trainer.step >= 4)
    saved = (tmp_path / "checkpoint-00000004.safetensors").read_bytes()
    with torch.no_grad():
        next(trainer.student.parameters()).fill_(math.nan)
    before = [value.detach().clone() for value in trainer.student.parameters()]
    says = r"at step 5, N = 11, noise levels 0\.\d+ to [\d.]+\. The last good checkpoint is .*/checkpoint-00000004"
    with pytest.raises(FloatingPointError, match=says):
        fit(trainer, tmp_path, never)
    assert (tmp_path / "checkpoint-00000004.safetensors").read_bytes() == saved
    assert len(lines(tmp_path)) == 4
    for old, value in zip(before, trainer.student.parameters(), strict=True):
        assert torch.equal(old.nan_to_num(7), value.nan_to_num(7))


def test_a_gradient_that_is_not_finite_stops_the_run_and_changes_no_parameter(tmp_path: Path) -> None:
    trainer = Trainer(config(), images())
    before = [value.detach().clone() for value in trainer.student.parameters()]
    trainer.student.network.stem.weight.register_hook(lambda gradient: gradient * math.inf)  # type: ignore[no-untyped-call]
    with pytest.raises(
        FloatingPointError, match=r"norm of its gradient (inf|nan) at step 1.*\. No checkpoint was saved before"
    ):
        fit(trainer, tmp_path, never)
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.student.parameters(), strict=True))
    assert list(tmp_path.glob("checkpoint*")) == []


def test_a_checkpoint_of_another_model_is_rejected_and_changes_nothing(tmp_path: Path) -> None:
    trainer = Trainer(config(), images())
    larger = dataclasses.replace(config(), network=dataclasses.replace(config().network, blocks=2))
    with pytest.raises(ValueError, match=r"another model: .* is missing or unknown"):
        trainer.restore(dataclasses.replace(Trainer(larger, images()).checkpoint(), config=config().digest()))
    wider = dataclasses.replace(config(), network=dataclasses.replace(config().network, width=16))
    with pytest.raises(ValueError, match=r"another model: expected .* of shape .*, got"):
        trainer.restore(dataclasses.replace(Trainer(wider, images()).checkpoint(), config=config().digest()))
    trainer.update()
    before = copied(trainer)
    for kind in ("average", "optimizer/exp_avg", "optimizer/step"):
        tensors = dict(before.tensors)
        name = next(name for name in tensors if name.startswith(kind))
        tensors[name] = torch.zeros(7)
        with pytest.raises(ValueError, match=r"another model: expected .*, got (shape )?\(7,\)"):
            trainer.restore(Checkpoint(1, tensors, before.config))
    assert same(trainer.checkpoint(), before)
    assert newest(tmp_path) is None


def test_noise_levels_that_are_equal_at_the_end_of_the_curriculum_are_rejected_before_training() -> None:
    # Between 1 and 1 + 1e-13 there are 450 float64 numbers: enough for 11 levels, and not for 1281.
    method = dataclasses.replace(config().method, sigma_min=1.0, sigma_max=1.0 + 1e-13)
    with pytest.raises(ValueError, match="distinct in float64"):
        Trainer(dataclasses.replace(config(), method=method, sample=Sample(two_step_sigma=1.0)), images())
