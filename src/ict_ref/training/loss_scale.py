"""The loss scale of float16, whose smallest number is 6e-8."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

FIRST, LEAST = 2.0**16, 1.0
GROWTH_INTERVAL = 2000
"""Successive finite updates after which the scale doubles."""


class LossScale:
    """A factor on the loss, by which the optimizer divides the gradients, with the rule of `torch.amp.GradScaler`.

    It begins at 2^16. An update whose gradient overflows halves it; each 2000th successive finite update doubles it. It
    is a power of 2, so that multiplying by it rounds nothing. It never falls below 1. The host reads nothing.

    Source: Micikevicius et al., Mixed Precision Training (2018), Section 3.2.

    >>> scale = LossScale(torch.device("cpu"))
    >>> scale.update(applied=torch.tensor(False), overflows=torch.tensor(True))
    >>> float(scale.value)
    32768.0
    """

    def __init__(self, device: torch.device) -> None:
        self.value = torch.full((), FIRST, device=device)
        self.finite, self.overflows = (torch.zeros((), device=device) for _ in range(2))

    def tensors(self) -> dict[str, Float[Tensor, ""]]:
        """Return the state: the scale, the finite updates since it last changed, and all overflows."""
        return {"value": self.value, "finite": self.finite, "overflows": self.overflows}

    def can_fall(self) -> Bool[Tensor, ""]:
        """Return whether the scale is above its least value."""
        return self.value > LEAST

    def update(self, *, applied: Bool[Tensor, ""], overflows: Bool[Tensor, ""]) -> None:
        """Halve the scale after an overflow; count an applied update, and double the scale if the interval is full."""
        full = applied & (self.finite == GROWTH_INTERVAL - 1)
        self.value *= torch.where(full, 2.0, torch.where(overflows, 0.5, 1.0))
        self.finite.copy_(torch.where(full | overflows, 0.0, self.finite + applied))
        self.overflows += overflows
