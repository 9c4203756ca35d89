"""The audit of a training loop reports its errors and only those."""

from pathlib import Path

import pytest
import torch
from tests.support.audited_loops import WRONG, EmaFirst, Loop, failures, loop, results
from torch import Tensor, nn


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_loop_has_one_finding_that_names_its_error(what: str) -> None:
    make, check, deviation, text = WRONG[what]
    [found] = failures(make)
    assert found.id == f"training:{check}", found.message
    assert found.deviation == deviation
    assert text in found.message
    assert found.message.startswith(f"{found.id}: ")
    assert found.message.endswith("]")


@pytest.mark.parametrize("what", ["EMA arguments are swapped", "SGD", "the weights are replaced", "weights decay"])
def test_errors_are_named_in_float32_too(what: str) -> None:
    make, check, deviation, _ = WRONG[what]

    def in_float32(network: nn.Module, *, total_steps: int) -> object:
        return make(network.float(), total_steps=total_steps)

    assert [(result.id, result.deviation) for result in failures(in_float32)] == [(f"training:{check}", deviation)]


def test_two_errors_are_two_findings_and_a_later_one_is_not_hidden() -> None:
    class Both(EmaFirst):
        def n(self) -> int:
            return 11

    assert {result.deviation for result in failures(Both)} == {"LateEma", "FrozenCurriculum"}


def test_an_untried_check_has_its_reason() -> None:
    class Least(Loop):
        save = load = run = None  # type: ignore[assignment] # it offers nothing

        def train_step(self, x: Tensor) -> None:  # type: ignore[override]
            self.optimizer.zero_grad()
            self.online(x, x[:, 0, 0, 0]).mean().backward()
            self.optimizer.step()

    def make(network: nn.Module, total_steps: int) -> object:
        return (Least(network, total_steps).train_step,)

    found = {result.id: result.message for result in results(make)}
    assert "does not have EMA weights" in found["training:ema_decay"]
    assert "does not have save(path) and load(path)" in found["training:resume"]
    assert "does not have run(batches)" in found["training:updates"]
    assert "the levels of update 0 are not neighbours on a grid" in found["training:curriculum"]
    assert found["training:optimizer"] == ""


def test_other_noise_after_a_resume_is_a_note() -> None:
    def load(self: Loop, path: Path) -> None:
        rng = torch.get_rng_state()
        Loop.load(self, path)
        torch.set_rng_state(rng)

    [found] = failures(loop(load=load))
    assert (found.id, found.kind) == ("training:resume:noise", "type")
    assert "the state of the generators is not saved" in found.message


def test_another_loss_after_a_resume_is_found() -> None:
    class Reported(Loop):
        resumed = False

        def train_step(self, x: Tensor) -> Tensor:
            return super().train_step(x) * (2 if self.resumed else 1)

        def load(self, path: Path) -> None:
            super().load(path)
            self.resumed = True

    [found] = failures(Reported)
    assert "at update 7 the loss of the resumed run is" in found.message
