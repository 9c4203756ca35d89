"""The weighting network w_phi(t) of continuous-time consistency training."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ict_ref.networks.blocks import fill

FEATURES = 128
"""Number of Fourier features: that of EDM2's network for the uncertainty. sCM does not print one."""


class WeightingNetwork(nn.Module):
    """w_phi(t): a linear map, without bias, of random Fourier features sqrt(2) cos(2 pi (f t + p)).

    sCM, Eq. (8) and Algorithm 1, do not print this network. Its form is that of EDM2's public code. It begins with w =
    0. The frequencies f, standard normal, and the phases p, uniform in [0, 1), are never trained.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, generator: np.random.Generator) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.zeros(FEATURES))
        self.register_buffer("phases", torch.zeros(FEATURES))
        self.linear = nn.Linear(FEATURES, 1, bias=False)
        nn.init.zeros_(self.linear.weight)
        if not self.frequencies.is_meta:
            fill(self.frequencies, generator.standard_normal(FEATURES))
            fill(self.phases, generator.random(FEATURES))

    def forward(self, t: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return w_phi(t) of each time."""
        angle = 2 * math.pi * (t[:, None] * self.frequencies + self.phases)
        w: Tensor = self.linear(math.sqrt(2) * angle.cos())
        return w[:, 0]
