"""EMA weights of several decays, and power-function averages for post-hoc EMA. Oracle: closed forms of the weights."""

import dataclasses
from pathlib import Path

import pytest
import torch
from tests.support.runs import config, copied, images, same, unchecked
from torch import Tensor

from ict_ref.checkpoint.ema_profiles import Profile, power_exponent, reconstruction
from ict_ref.config import digits
from ict_ref.networks.model import ConsistencyModel
from ict_ref.training.loop import resume
from ict_ref.training.trainer import Trainer

DOUBLE = config(precision="float64", ema_decay=(0.9, 0.5), ema_sigmas=(0.05, 0.25))


def flat(model: ConsistencyModel) -> Tensor:
    """Return all parameters as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trained(trainer: Trainer, steps: int) -> list[Tensor]:
    """Make updates, and return the parameters before them and after each."""
    states = [flat(trainer.student).clone()]
    for _ in range(steps):
        trainer.update()
        states.append(flat(trainer.student).clone())
    return states


def test_each_decay_has_its_own_ema_weights_in_closed_form() -> None:
    trainer = Trainer(DOUBLE, images())
    states = trained(trainer, 6)
    assert list(trainer.averages) == [0.9, 0.5]
    assert trainer.ema is trainer.averages[0.9]
    for decay, average in trainer.averages.items():
        expected = decay**6 * states[0] + sum((1 - decay) * decay ** (6 - k) * states[k] for k in range(1, 7))
        torch.testing.assert_close(flat(average), expected, rtol=1e-13, atol=1e-15)


def test_power_function_averages_weigh_each_update_by_the_integral_of_the_profile() -> None:
    trainer = Trainer(DOUBLE, images())
    states = trained(trainer, 6)
    for sigma, average in trainer.profiles.items():
        power = power_exponent(sigma) + 1
        expected = sum((k**power - (k - 1) ** power) / 6**power * states[k] for k in range(1, 7))
        torch.testing.assert_close(flat(average), expected, rtol=1e-12, atol=1e-14)


def test_all_averages_are_saved_by_name_and_restored(tmp_path: Path) -> None:
    trainer = Trainer(DOUBLE, images())
    trained(trainer, 2)
    saved = copied(trainer)
    assert {name.split("/")[0] for name in saved.tensors} == {
        "student", "average", "average-0.5", "power-0.05", "power-0.25", "optimizer",
    }  # fmt: skip
    again = Trainer(DOUBLE, images())
    again.restore(saved)
    for one in (trainer, again):
        one.update()
    assert same(trainer.checkpoint(), again.checkpoint())
    assert resume(Trainer(DOUBLE, images()), tmp_path) == []


def test_other_averages_do_not_change_what_is_learned() -> None:
    plain, several = (
        Trainer(config(ema_decay=decay, ema_sigmas=sigmas), images())
        for decay, sigmas in ((0.9, ()), ((0.9, 0.99), (0.1,)))
    )
    for trainer in (plain, several):
        trained(trainer, 3)
    mine, theirs = (trainer.checkpoint().tensors for trainer in (plain, several))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_skipped_update_does_not_count_for_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(dataclasses.replace(DOUBLE, train=dataclasses.replace(DOUBLE.train, skip_nonfinite=1)), images())
    states = trained(trainer, 3)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "_backward", lambda: torch.tensor(torch.nan, dtype=torch.float64))
        trainer.update()
    assert (trainer.step, trainer.skipped) == (4, 1)
    states += trained(trainer, 2)[1:]
    power = power_exponent(0.25) + 1
    expected = sum((k**power - (k - 1) ** power) / 5**power * states[k] for k in range(1, 6))
    torch.testing.assert_close(flat(trainer.profiles[0.25]), expected, rtol=1e-12, atol=1e-14)


def test_widths_are_reconstructed_from_sixteen_snapshots_of_two_others() -> None:
    # The direct averages of the other widths are kept beside the two from which they are reconstructed.
    steps, stored, others = 64, (0.05, 0.10), (0.06, 0.08, 0.12)
    preset = digits()
    train = dataclasses.replace(preset.train, steps=steps, batch_size=16, ema_sigmas=(*stored, *others))
    with unchecked():
        trainer = Trainer(dataclasses.replace(preset, train=train), images())
        snapshots: dict[Profile, Tensor] = {}
        for step in range(1, steps + 1):
            trainer.update()
            if step % (steps // 16) == 0:
                snapshots |= {Profile(step, sigma): flat(trainer.profiles[sigma]).double() for sigma in stored}
    for width in others:
        found = reconstruction(list(snapshots), Profile(steps, width))
        direct = flat(trainer.profiles[width]).double()
        value = found.coefficients @ torch.stack(list(snapshots.values()))
        nearest = min(float((snapshots[Profile(steps, sigma)] - direct).norm()) for sigma in stored)
        assert float((value - direct).norm()) < min(1e-3 * float(direct.norm()), nearest / 20)
