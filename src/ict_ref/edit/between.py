"""Interpolation of samples along the great circle between their noises (CM, Appendix D)."""

from collections.abc import Callable

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from ict_ref.checkpoint.load import PretrainedModel
from ict_ref.data.dataset import to_uint8
from ict_ref.edit.model import function_of
from ict_ref.formulas import one_step_sample, slerp
from ict_ref.sample.images import noise


@torch.no_grad()
def between(
    trained: PretrainedModel,
    labels: Int64[Tensor, " n"] | None,
    seeds: tuple[int, int],
    *,
    steps: int,
    chosen: range,
    after: Callable[[], object],
) -> UInt8[Tensor, " rows {steps} *event"]:
    """Return a row of images for each chosen sample, from the first seed's sample to the second's.

    `labels` has the labels of all samples. Both ends are one-step samples. `after` is called after each evaluation of
    the network.
    """
    device = next(trained.model.parameters()).device
    f = function_of(trained, None if labels is None else labels[chosen.start : chosen.stop].to(device), after)
    z1, z2 = (noise(seed, chosen, trained.event).to(device) for seed in seeds)
    columns = []
    for alpha in torch.linspace(0, 1, steps).tolist():
        z = slerp(z1, z2, z1.new_full((len(z1),), alpha))
        columns.append(to_uint8(one_step_sample(f, z, sigma_max=trained.method.sigma_max)).cpu())
    return torch.stack(columns, dim=1)
