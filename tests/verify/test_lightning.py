"""`training_step` of a Lightning module is audited without Lightning."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ict_ref import formulas
from ict_ref.verify.audit.step.audit import audit
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.lightning import step


class ModuleOfLightning(nn.Module):
    """The part of LightningModule that needs a trainer, with the same errors without one."""

    _trainer: Any = None

    @property
    def trainer(self) -> Any:
        if self._trainer is None:
            raise RuntimeError(f"{type(self).__qualname__} is not attached to a `Trainer`.")
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: Any) -> None:
        self._trainer = weakref.proxy(trainer)

    @property
    def global_step(self) -> int:
        step: int = self.trainer.global_step
        return step

    def log(self, name: str, value: object, prog_bar: bool = False) -> None:
        self.trainer.fit_loop.log(name, value, prog_bar)


def training_module(base: type, *, manual: bool, in_dict: bool, right: bool = True) -> Callable[[nn.Module], Any]:
    """Return a function that makes a module which trains a network."""

    class Module(base):  # type: ignore[misc] # a base of the test
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network
            self.automatic_optimization = not manual

        def f(self, x: Tensor, sigma: Tensor) -> Tensor:
            return formulas.boundary_parameterization(self.network, x, sigma)

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Any:
            x, labels = batch
            assert len(labels) == len(x)
            assert batch_idx == self.global_step
            total = self.trainer.estimated_stepping_batches
            sigmas = formulas.sigma_grid(formulas.exponential_curriculum(self.global_step, total_steps=total))
            index = torch.multinomial(formulas.lognormal_pmf(sigmas), len(x), replacement=True)
            low, high, z = sigmas[index], sigmas[index + 1], torch.randn_like(x)
            rng = torch.get_rng_state()
            student = self.f(x + high.reshape(-1, 1, 1, 1) * z, high)
            torch.set_rng_state(rng)
            with torch.no_grad():
                teacher = self.f(x + low.reshape(-1, 1, 1, 1) * z, low)
            c = formulas.pseudo_huber_constant(x[0].numel())
            weight = 1 / (high - low) if right else torch.ones_like(high)
            loss = (weight * formulas.pseudo_huber(student, teacher, c=c)).mean()
            self.log("loss", loss, prog_bar=True)
            self.logger_of_run().log({"loss": loss})
            if manual:
                self.optimizers().zero_grad()
                self.manual_backward(loss)
                self.clip_gradients(self.optimizers(), 1.0, "norm")
                self.optimizers().step()
                self.lr_schedulers().step()
                return None
            return {"loss": loss} if in_dict else loss

        def logger_of_run(self) -> Any:
            return self.trainer.logger.experiment

    return Module


def findings(base: type, **options: bool) -> set[str]:
    audited = step(training_module(base, **options), batch=lambda x: (x.double(), torch.zeros(len(x))))
    return {result.id for result in audit(audited, Settings(draws=(40, 10, 10))) if result.status == "fail"}


@pytest.mark.parametrize(("manual", "in_dict"), [(False, False), (False, True), (True, False)])
def test_a_right_module_passes(manual: bool, in_dict: bool) -> None:
    assert findings(ModuleOfLightning, manual=manual, in_dict=in_dict) == set()


@pytest.mark.parametrize("manual", [True, False])
def test_a_wrong_module_fails(manual: bool) -> None:
    assert "step:weight" in findings(ModuleOfLightning, manual=manual, in_dict=False, right=False)


@pytest.mark.parametrize("manual", [True, False])
def test_a_module_of_lightning_itself_passes(manual: bool) -> None:
    lightning = pytest.importorskip("pytorch_lightning")
    assert findings(lightning.LightningModule, manual=manual, in_dict=False) == set()
