"""`ict_ref.loss`: the loss of `train` in a loop of the user's own."""

import dataclasses
from typing import Any

import pytest
import torch
from tests.support import own
from tests.support.runs import CT, images

from ict_ref import loss
from ict_ref.config import Config, Method, minimal
from ict_ref.data.dataset import to_float
from ict_ref.data.own_images import own_images
from ict_ref.networks.own import own_network
from ict_ref.training.trainer import Trainer

METHODS = {
    "iCT": Method(),
    "CT": CT,
    "continuous": Method(objective="continuous"),
    "denoising": Method(objective="denoising"),
}


def configured(method: Method, *, labels: bool = False) -> Config:
    base = minimal()
    return dataclasses.replace(base, method=method, data=dataclasses.replace(base.data, labels=labels))


@pytest.mark.parametrize("kind", [own.Plain, own.Dropping])
@pytest.mark.parametrize("method", METHODS)
def test_the_loss_of_each_step_is_the_trainer_s(method: str, kind: type[own.Plain]) -> None:
    # The second route is the trainer, with its microbatches: its loss is the mean over the batch.
    config = configured(METHODS[method])
    trainer = Trainer(config, images(), network=own_network(kind))
    for step in range(3):
        x, _ = images().batch(step, batch_size=16, seed=0)
        student = trainer.student.network
        teacher = None if trainer.teacher is None else trainer.teacher.network
        given = x if step % 2 else to_float(x)
        mine = loss(student, given, step, config, teacher=teacher)
        assert mine.shape == (16,)
        trainer.update()
        torch.testing.assert_close(mine.mean(), trainer.loss, rtol=1e-6, atol=0)


def test_a_loop_of_one_s_own_learns_as_the_trainer_does() -> None:
    config, module = configured(Method()), own.Plain()
    trainer = Trainer(config, images(), network=own_network(module))
    optimizer = torch.optim.RAdam(module.parameters(), lr=config.train.learning_rate, eps=1e-8)
    for step in range(10):
        x, _ = images().batch(step, batch_size=16, seed=0)
        optimizer.zero_grad()
        loss(module, x, step, config).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        trainer.update()
    for mine, theirs in zip(module.parameters(), trainer.student.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_labels_are_passed_to_a_network_that_takes_them() -> None:
    data = own_images((images().array[:48], torch.arange(48) % 3))
    config, network = configured(Method(), labels=True), own_network(own.Labelled)
    trainer = Trainer(config, data, network=network)
    x, labels = data.batch(0, batch_size=16, seed=0)
    trainer.update()
    torch.testing.assert_close(
        loss(network.module, x, 0, config, labels=labels).mean(), trainer.loss, rtol=1e-6, atol=0
    )
    other = loss(network.module, x, 0, config, labels=(labels + 1) % 3)
    assert not torch.equal(other.mean(), trainer.loss)


X = torch.zeros(16, 1, 8, 8)


@pytest.mark.parametrize(
    ("x", "step", "config", "complaint"),
    [
        (X[:4], 0, minimal(), r"x: expected 16 images \(--train.batch-size\), got 4"),
        (X, 40, minimal(), r"step: expected 0 <= step < 40 \(--train.steps\), got 40"),
        (X, -1, minimal(), r"step: expected 0 <= step < 40 \(--train.steps\), got -1"),
        (X, 0, configured(CT), r"teacher: expected the averaged network, because --method.mu0 is 0.9, got nothing"),
        (
            X,
            0,
            configured(Method(objective="distillation", denoiser="d")),
            r"--method.objective: expected an objective w",
        ),
        (X, 0, "minimla", r"config: expected the name of a preset"),
    ],
)
def test_what_has_no_loss_is_one_line(x: torch.Tensor, step: int, config: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}"):
        loss(own.Plain(), x, step, config)
