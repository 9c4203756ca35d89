"""The EMA update of all parameters, for the EMA weights and for CT's teacher."""

import torch

from ict_ref.networks.model import ConsistencyModel


def update_ema(ema: ConsistencyModel, student: ConsistencyModel, *, decay: float) -> None:
    """Set each parameter of `ema` to decay ema + (1 - decay) student, Eq. (4), in one pass over memory.

    Raises:
        ValueError: not 0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        advice = "The decay is the weight of the old EMA weights."
        raise ValueError(f"decay: expected 0 <= decay < 1 (iCT, Eq. (4)), got {decay}. {advice}")
    with torch.no_grad():
        torch._foreach_lerp_(list(ema.parameters()), list(student.parameters()), 1 - decay)
