"""ADM, the U-Net of Dhariwal & Nichol 2021 that iCT trains on ImageNet 64x64, without AdaGN (iCT, Appendix B)."""

import math

import numpy as np
from torch import nn

from ict_ref.networks.blocks import ArchitectureVariant, fans, fill
from ict_ref.networks.embedding import NoiseFeatures
from ict_ref.networks.unet import UNet


class ADM(UNet):
    """F_theta(c_in x, c_noise, label), with attention after each block of a low resolution.

    Each block adds a projection of the embedding to its map before the second normalisation. With `adaptive_norm` the
    projection scales and shifts the normalised map instead. The initial output is exactly 0.
    """

    variant = ArchitectureVariant(eps=1e-5, gain=1.0, fir=False, projects=False)
    has_pyramid = False

    def initialise(self, generator: np.random.Generator) -> None:
        """Set the parameters to torch's default distributions: U(+-1/sqrt(fan_in)), and N(0, 1) for label embeddings.

        The last map of each residual branch and the head are set to 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 1 / math.sqrt(fans(module.weight)[0])
                for parameter in module.parameters():
                    fill(parameter, generator.uniform(-bound, bound, size=parameter.shape))
            elif isinstance(module, nn.Embedding):
                fill(module.weight, generator.standard_normal(module.weight.shape))
            elif isinstance(module, NoiseFeatures) and module.fourier:
                fill(module.frequencies, self.frequencies(generator))
        for module in self.last_maps():
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
