"""The EMA update of all parameters: those of the samples' model, and of CT's teacher."""

import torch

from ict_ref.networks.model import ConsistencyModel


def update_ema(ema: ConsistencyModel, student: ConsistencyModel, *, decay: float) -> None:
    """Set ema to decay ema + (1 - decay) student: Eq. (4), `ema_update` of every parameter, in one pass over memory.

    Raises ValueError unless 0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        raise ValueError(f"needs 0 <= decay < 1 (iCT Eq. (4)); got {decay}; decay is the weight of the old average")
    with torch.no_grad():
        torch._foreach_lerp_(list(ema.parameters()), list(student.parameters()), 1 - decay)
