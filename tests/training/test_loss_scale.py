"""The loss scale of float16: its rule, its part in an update, in a checkpoint and in a run."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.checkpoint.safetensors_io import UnusableFileError
from ict_ref.checkpoint.training_state import load_checkpoint, save_checkpoint
from ict_ref.config import Config, minimal
from ict_ref.data.dataset import Images, load
from ict_ref.training.loss_scale import LossScale
from ict_ref.training.trainer import Trainer

CPU = torch.device("cpu")


def config(**train: Any) -> Config:
    """Return the minimal preset in float16 with these options of training."""
    return dataclasses.replace(
        minimal(), train=dataclasses.replace(minimal().train, **{"precision": "float16", **train})
    )


@pytest.fixture(scope="module")
def images() -> Images:
    """Return the training images."""
    return load(minimal().data).train


def overflow(gradient: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return a gradient as an overflow leaves it."""
    return torch.full_like(gradient, torch.inf)


def test_the_scale_follows_torch_s_gradient_scaler() -> None:
    ours = LossScale(CPU)
    torch_s = torch.amp.GradScaler("cpu")  # its defaults: 2^16, factors 2 and 1/2, 2000 updates
    parameter = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    for step in range(4100):
        overflows = step in (3, 4, 2004)
        parameter.grad = torch.tensor(torch.inf if overflows else 1.0)
        torch_s.scale(torch.ones(()))
        torch_s.step(optimizer)
        torch_s.update()
        ours.update(applied=torch.tensor(not overflows), overflows=torch.tensor(overflows))
        assert float(ours.value) == torch_s.get_scale(), step
    assert int(ours.overflows) == 3


def test_the_scale_does_not_fall_below_one() -> None:
    scale = LossScale(CPU)
    for halvings in range(17):
        assert float(scale.value) == 2.0 ** (16 - halvings)
        assert bool(scale.can_fall()) == (halvings < 16)
        scale.update(applied=torch.tensor(False), overflows=torch.tensor(True))


def test_a_scale_changes_no_update_that_does_not_round(images: Images) -> None:
    # In float32, factors of powers of 2 are exact; parameters after an update must be those without a scale.
    plain, scaled = (Trainer(config(precision="float32", clip_gradient=0.5), images) for _ in range(2))
    scaled.loss_scale = scaled.guard.loss_scale = LossScale(CPU)
    for _ in range(3):
        plain.update()
        scaled.update()
        assert torch.equal(plain.norm, scaled.norm)
    for a, b in zip(plain.student.parameters(), scaled.student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_overflow_halves_the_scale_and_skips_the_update(images: Images) -> None:
    trainer = Trainer(config(), images)
    trainer.update()
    before = {name: value.clone() for name, value in trainer.state.tensors().items() if "loss_scale" not in name}
    hook = next(iter(trainer.student.parameters())).register_hook(overflow)  # type: ignore[no-untyped-call]
    trainer.update()
    hook.remove()
    assert (trainer.step, trainer.skipped) == (2, 1)
    assert trainer.loss_scale is not None
    assert (float(trainer.loss_scale.value), float(trainer.loss_scale.finite)) == (2.0**15, 0)
    after = trainer.state.tensors()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    trainer.update()
    assert (trainer.skipped, trainer.optimizer.updates) == (1, 2)


def test_a_gradient_that_no_scale_makes_finite_ends_the_run(images: Images) -> None:
    trainer = Trainer(config(), images)
    next(iter(trainer.student.parameters())).register_hook(overflow)  # type: ignore[no-untyped-call]
    for _ in range(16):
        trainer.update()
    with pytest.raises(FloatingPointError, match="the norm of its gradient inf at step 17"):
        trainer.update()
    assert trainer.skipped == 16


def test_a_loss_that_is_not_finite_is_not_an_overflow(images: Images) -> None:
    trainer = Trainer(config(skip_nonfinite=1), images)
    with torch.no_grad():
        next(iter(trainer.student.parameters())).fill_(torch.nan)
    trainer.update()  # allowed
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        trainer.update()
    assert trainer.loss_scale is not None
    assert float(trainer.loss_scale.value) == 2.0**16


def test_updates_are_the_same_where_the_host_does_not_read_the_verdicts(images: Images) -> None:
    # As on a GPU: overflows at updates 2 and 3, and a loss that is not finite at update 5, which is allowed.
    waits, goes = (Trainer(config(skip_nonfinite=1), images) for _ in range(2))
    goes.guard.immediate = False
    for trainer in (waits, goes):
        for step in range(1, 8):
            hooks = []
            if step in (2, 3):
                hooks = [next(iter(trainer.student.parameters())).register_hook(overflow)]  # type: ignore[no-untyped-call]
            if step == 5:
                hooks = [trainer.student.register_forward_hook(lambda *given: given[-1] * torch.nan)]
            trainer.update()
            for hook in hooks:
                hook.remove()
    goes.guard.raise_recorded()
    assert (waits.skipped, goes.skipped) == (3, 3)
    expected = waits.state.tensors()
    assert all(torch.equal(value, expected[name]) for name, value in goes.state.tensors().items())


def test_a_resumed_run_has_the_same_bits(images: Images, tmp_path: Path) -> None:
    whole, first, resumed = (Trainer(config(), images) for _ in range(3))
    for trainer in (whole, first):
        trainer.update()
        hook = next(iter(trainer.student.parameters())).register_hook(overflow)  # type: ignore[no-untyped-call]
        trainer.update()
        hook.remove()
    resumed.restore(load_checkpoint(save_checkpoint(tmp_path, first.checkpoint())))
    for _ in range(2):
        whole.update()
        resumed.update()
    after, expected = resumed.state.tensors(), whole.state.tensors()
    assert sorted(after) == sorted(expected)
    assert all(torch.equal(value, after[name]) for name, value in expected.items())
    assert (float(after["loss_scale/value"]), float(after["loss_scale/finite"])) == (2.0**15, 2)


def test_only_float16_has_a_scale_and_its_checkpoint_needs_it(images: Images) -> None:
    trainer = Trainer(config(), images)
    names = {name for name in trainer.state.tensors() if name.startswith("loss_scale/")}
    assert names == {"loss_scale/value", "loss_scale/finite", "loss_scale/overflows"}
    plain = Trainer(config(precision="bfloat16"), images)
    assert not any(name.startswith("loss_scale/") for name in plain.state.tensors())
    with pytest.raises(UnusableFileError, match="loss_scale/finite is missing or unknown"):
        trainer.state.load(plain.state.tensors(), updates=0)
