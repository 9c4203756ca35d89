"""NCSN++ and DDPM++ of Song et al. 2021: the U-Nets that iCT and ECT train on CIFAR-10."""

import math

import numpy as np
from torch import nn

from ict_ref.networks.blocks import ArchitectureVariant, SelfAttention, fans, fill
from ict_ref.networks.embedding import NoiseFeatures
from ict_ref.networks.unet import UNet


class NCSNpp(UNet):
    """F_theta(c_in x, c_noise, label) as configured in CM's code: the encoder gets the input at each resolution.

    A pyramid filters, halves and projects the input, stage by stage, and adds it to the encoder's map. Sums of two
    branches are divided by sqrt(2). Attention follows each block of a stage in the encoder, and only the last block in
    the decoder. The initial output is about 1e-5.
    """

    variant = ArchitectureVariant(eps=1e-6, gain=math.sqrt(0.5), fir=True, projects=True)
    has_pyramid = True

    def initialise(self, generator: np.random.Generator) -> None:
        """Sample weights from U(+-sqrt(6 / (fan_in + fan_out))) and set biases to 0 (Song et al. 2021, public code).

        The last map of each residual branch and the head are scaled by 1e-5. The maps of queries, keys and values are
        scaled by sqrt(0.1).
        """
        factor = dict.fromkeys(self.last_maps(), 1e-5)
        for module in self.modules():
            if isinstance(module, SelfAttention):
                # The fans of qkv sum to 4C, those of each of its three maps to 2C: sqrt(0.1) becomes sqrt(0.2).
                factor[module.qkv] = math.sqrt(0.2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = factor.get(module, 1.0) * math.sqrt(6 / sum(fans(module.weight)))
                fill(module.weight, generator.uniform(-bound, bound, size=module.weight.shape))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, NoiseFeatures) and module.fourier:
                fill(module.frequencies, self.frequencies(generator))


class DDPMpp(NCSNpp):
    """F_theta(c_in x, c_noise, label): NCSN++ without the input pyramid, which resamples by averages and copies.

    Source: Song et al. 2021, Appendix H; EDM, Appendix F, Table 7, for CIFAR-10: 55.7 million parameters.
    """

    variant = ArchitectureVariant(eps=1e-6, gain=math.sqrt(0.5), fir=False, projects=True)
    has_pyramid = False
