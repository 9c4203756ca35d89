"""The EMA update of all parameters, for the EMA weights and for CT's teacher."""

import torch
from jaxtyping import Float
from torch import Tensor

from ict_ref.networks.model import ConsistencyModel


def update_ema(
    ema: ConsistencyModel, student: ConsistencyModel, *, decay: float, found_inf: Float[Tensor, ""] | None = None
) -> None:
    """Set each parameter of `ema` to decay ema + (1 - decay) student, Eq. (4), in one pass over memory.

    Where the tensor `found_inf` holds 1, nothing changes; the host does not read it.

    Raises:
        ValueError: not 0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        advice = "The decay is the weight of the old EMA weights."
        raise ValueError(f"decay: expected 0 <= decay < 1 (iCT, Eq. (4)), got {decay}. {advice}")
    old: list[Tensor] = [*ema.parameters()]
    new: list[Tensor] = [*student.parameters()]
    with torch.no_grad():
        if found_inf is None:
            torch._foreach_lerp_(old, new, 1 - decay)
        else:
            # One kernel for each parameter: torch fuses them for a weight on the host only. The bits are the same.
            weight = torch.full_like(found_inf, 1 - decay, dtype=old[0].dtype).masked_fill(found_inf > 0, 0)
            torch._foreach_lerp_(old, new, [weight] * len(old))
