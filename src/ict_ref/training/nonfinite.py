"""What happens to an update whose loss or gradient is not finite."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ict_ref.config import Config
from ict_ref.training.loss import discretization, draw_levels_and_noise


class NonFiniteGuard:
    """Skips, refuses or freezes updates whose loss or gradient is not finite.

    A synchronous guard reads every update on the host: it skips it while `allowed` skips last, then raises. Another one
    never synchronises: it records the first such update on the device and sets `found_inf`, so that later updates
    change nothing, until `raise_recorded` reads the record.
    """

    def __init__(self, device: torch.device, *, allowed: int, describe: Callable[[int, float, float], str]) -> None:
        self.allowed, self.skipped = allowed, 0
        self.synchronous = device.type != "cuda" or allowed > 0
        self.first_step, self.first_loss, self.first_norm = torch.zeros(3, dtype=torch.float64, device=device)
        self._describe = describe

    def skips(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> bool:
        """Return whether a synchronous guard skips this update.

        Raises FloatingPointError if it is not finite and no skip is left.
        """
        if not self.synchronous or bool((loss + norm).isfinite()):
            return False
        if self.skipped >= self.allowed:
            raise FloatingPointError(self._describe(step, float(loss), float(norm)))
        self.skipped += 1
        return True

    def found_inf(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> Float[Tensor, ""] | None:
        """Return 1 from the first update on that is not finite, 0 before; None for a synchronous guard."""
        if self.synchronous:
            return None
        begins: Bool[Tensor, ""] = (self.first_step == 0) & ~(loss + norm).isfinite()
        self.first_step = torch.where(begins, step, self.first_step)
        self.first_loss = torch.where(begins, loss.double(), self.first_loss)
        self.first_norm = torch.where(begins, norm.double(), self.first_norm)
        halted: Tensor = self.first_step > 0
        return halted.float()

    def raise_recorded(self) -> None:
        """Raise the FloatingPointError of the recorded update, if there is one."""
        step, loss, norm = torch.stack([self.first_step, self.first_loss, self.first_norm]).tolist()
        if step > 0:
            raise FloatingPointError(self._describe(int(step), loss, norm))


def describe_nonfinite(config: Config, step: int, loss: float, norm: float) -> str:
    """Return step, N and noise levels of an update whose loss or gradient is not finite."""
    index, _ = draw_levels_and_noise(step - 1, range(config.train.lanes), config, event=())
    sigmas = discretization(step - 1, config).sigmas
    low, high = float(sigmas[index.min()]), float(sigmas[index.max() + 1])
    what = f"the loss is {loss} and the norm of its gradient {norm}"
    return f"{what} at step {step}, N = {len(sigmas)}, noise levels {low:.4g} to {high:.4g}"
