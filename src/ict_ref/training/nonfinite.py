"""The guard against updates whose loss or gradient is not finite."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ict_ref.config import Config
from ict_ref.training.discretization import discretization
from ict_ref.training.loss_scale import LossScale
from ict_ref.training.sampled_noise import sample_intervals_and_noise, sample_sigmas


class Verdict(NamedTuple):
    """The verdict on an update: two flags on its device."""

    no_op: Bool[Tensor, ""]
    """Whether parameters, averages and moments stay as they are."""
    overflows: Bool[Tensor, ""]
    """Whether a smaller loss scale may make the update finite."""


class NonFiniteGuard:
    """A guard that skips updates whose loss or gradient is not finite, or ends the run at one.

    It skips up to `allowed` updates. Of an update whose loss is finite, a gradient that is not finite may only overflow
    the loss scale, if there is one; such an update is skipped and does not count against `allowed`.

    On a CPU the guard is immediate: the host reads each verdict, and the update that ends the run raises. On a GPU the
    host reads no verdict. It learns one update later, without waiting, how many were skipped. From the first update
    that ends the run on, all are no-ops, until `raise_recorded` reads the record.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        allowed: int,
        describe: Callable[[int, float, float], str],
        loss_scale: LossScale | None = None,
    ) -> None:
        self.allowed, self.loss_scale, self.immediate = allowed, loss_scale, device.type != "cuda"
        self.first_step, self.first_loss, self.first_norm = torch.zeros(3, dtype=torch.float64, device=device)
        self._describe = describe
        self._skipped = torch.zeros((), dtype=torch.int64, device=device)
        self._copied = torch.zeros((), dtype=torch.int64, pin_memory=not self.immediate)
        self._copy_is_made = None if self.immediate else torch.cuda.Event()  # type: ignore[no-untyped-call]

    @property
    def skipped(self) -> int:
        """Return the number of updates that were skipped, on a GPU when the last verdict has been reached."""
        if self._copy_is_made is not None:
            self._copy_is_made.synchronize()
        return int(self._copied.numpy())

    @skipped.setter
    def skipped(self, number: int) -> None:
        for place in (self._skipped, self._copied):
            place.fill_(number)

    def verdict(self, step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]) -> Verdict:
        """Return what becomes of an update with this loss and norm of the gradient.

        Raises:
            FloatingPointError: the guard is immediate, the update is not finite, no smaller loss scale helps, and all
                allowed skips are used. Nothing has changed.
        """
        bad = ~(loss + norm).isfinite()
        overflows, used = torch.zeros_like(bad), self._skipped
        if self.loss_scale is not None:
            overflows = bad & loss.isfinite() & self.loss_scale.can_fall()
            used = used - self.loss_scale.overflows
        ends = bad & ~overflows & (used >= self.allowed)
        if self.immediate and bool(ends):
            raise FloatingPointError(self._describe(step, float(loss), float(norm)))
        halted = self._record(ends, step, loss, norm)
        self._skipped += bad & ~halted
        self._copied.copy_(self._skipped, non_blocking=True)
        if self._copy_is_made is not None:
            self._copy_is_made.record()
        return Verdict(bad | halted, overflows & ~halted)

    def _record(
        self, ends: Bool[Tensor, ""], step: int, loss: Float[Tensor, ""], norm: Float[Tensor, ""]
    ) -> Bool[Tensor, ""]:
        """Record the first update that ends the run, and return whether there has been one."""
        begins = ends & (self.first_step == 0)
        self.first_step = torch.where(begins, step, self.first_step)
        self.first_loss = torch.where(begins, loss.double(), self.first_loss)
        self.first_norm = torch.where(begins, norm.double(), self.first_norm)
        halted: Tensor = self.first_step > 0
        return halted

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
    shards = range(config.train.noise_shards)
    values = f"the loss is {loss} and the norm of its gradient {norm} at step {step}"
    sampled = sample_sigmas(step - 1, shards, config)
    if sampled is not None:
        return f"{values}, noise levels {float(sampled.min()):.4g} to {float(sampled.max()):.4g}"
    index, _ = sample_intervals_and_noise(step - 1, shards, config, event=())
    sigmas = discretization(step - 1, config).sigmas
    low, high = float(sigmas[index.min()]), float(sigmas[index.max() + 1])
    return f"{values}, N = {len(sigmas)}, noise levels {low:.4g} to {high:.4g}"
