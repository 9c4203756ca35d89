"""The guard against updates whose loss or gradient is not finite."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ict_ref.config import Config
from ict_ref.training.discretization import discretization
from ict_ref.training.loss_scale import LossScale
from ict_ref.training.sampled_noise import sample_intervals_and_noise


class NonFiniteGuard:
    """A guard that skips, rejects or blocks updates whose loss or gradient is not finite.

    A synchronous guard reads the loss and the norm of each update on the host. It skips up to `allowed` bad updates,
    then raises. An asynchronous guard never synchronises: it records the first bad update on the device and sets
    `found_inf`. Later updates are no-ops until `raise_recorded` reads the record.

    A guard with a loss scale is synchronous. If the loss is finite but its gradient is not, it halves the scale and
    skips the update, which does not count against `allowed`.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        allowed: int,
        describe: Callable[[int, float, float], str],
        loss_scale: LossScale | None = None,
    ) -> None:
        self.allowed, self.skipped, self.loss_scale = allowed, 0, loss_scale
        self.synchronous = device.type != "cuda" or allowed > 0 or loss_scale is not None
        self.first_step, self.first_loss, self.first_norm = torch.zeros(3, dtype=torch.float64, device=device)
        self._describe = describe

    def skips(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> bool:
        """Return whether a synchronous guard skips this update.

        Raises:
            FloatingPointError: the update is not finite, no smaller loss scale helps, and all allowed skips are used.
        """
        if not self.synchronous or bool((loss + norm).isfinite()):
            return False
        if not self._overflows(loss) and self._used >= self.allowed:
            raise FloatingPointError(self._describe(step, float(loss), float(norm)))
        self.skipped += 1
        return True

    @property
    def _used(self) -> int:
        return self.skipped - (0 if self.loss_scale is None else int(self.loss_scale.overflows))

    def _overflows(self, loss: Float[Tensor, ""]) -> bool:
        """Halve the loss scale of an update that is not finite, if that can help, and return whether it can."""
        return self.loss_scale is not None and bool(loss.isfinite()) and self.loss_scale.halve()

    def found_inf(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> Float[Tensor, ""] | None:
        """Return 1 from the first bad update on, 0 before; None for a synchronous guard."""
        if self.synchronous:
            return None
        begins: Bool[Tensor, ""] = (self.first_step == 0) & ~(loss + norm).isfinite()
        self.first_step = torch.where(begins, step, self.first_step)
        self.first_loss = torch.where(begins, loss.double(), self.first_loss)
        self.first_norm = torch.where(begins, norm.double(), self.first_norm)
        halted: Tensor = self.first_step > 0
        return halted.float()

    def raise_recorded(self) -> None:
        """Raise the error of the recorded update, if there is one.

        Raises:
            FloatingPointError: an update was recorded.
        """
        step, loss, norm = torch.stack([self.first_step, self.first_loss, self.first_norm]).tolist()
        if step > 0:
            raise FloatingPointError(self._describe(int(step), loss, norm))


def describe_nonfinite(config: Config, step: int, loss: float, norm: float) -> str:
    """Return a message with step, N and noise levels of an update whose loss or gradient is not finite."""
    index, _ = sample_intervals_and_noise(step - 1, range(config.train.noise_shards), config, event=())
    sigmas = discretization(step - 1, config).sigmas
    low, high = float(sigmas[index.min()]), float(sigmas[index.max() + 1])
    values = f"the loss is {loss} and the norm of its gradient {norm}"
    return f"{values} at step {step}, N = {len(sigmas)}, noise levels {low:.4g} to {high:.4g}"
