"""NCSN++, the U-Net of Song et al. 2021 that iCT trains on CIFAR-10, as the authors' CM code configures it."""

import math

import numpy as np
from torch import nn

from ict_ref.networks.blocks import ArchitectureVariant, SelfAttention, fans, fill
from ict_ref.networks.embedding import NoiseFeatures
from ict_ref.networks.unet import UNet


class NCSNpp(UNet):
    """F_theta(c_in x, c_noise, label), a U-Net whose encoder sees the input at every resolution.

    Beside the encoder the input itself is filtered, halved and projected, level by level, and joined to the encoder's
    map. Sums of two branches are divided by sqrt(2). Attention follows every block of a level in the encoder, only the
    last one in the decoder. At the start the output is about 1e-5.
    """

    variant = ArchitectureVariant(eps=1e-6, gain=math.sqrt(0.5), fir=True)
    has_pyramid = True

    def initialise(self, generator: np.random.Generator) -> None:
        """Draw weights from U(+-sqrt(6 / (fan_in + fan_out))), biases 0 (Song et al. 2021, public code).

        The last map of every residual branch and the head are smaller by 1e-5. Queries, keys and values are three
        maps, each smaller by sqrt(0.1).
        """
        factor = dict.fromkeys(self.last_maps(), 1e-5)
        for module in self.modules():
            if isinstance(module, SelfAttention):
                # qkv as one map has fans C and 3C where each of the three has C and C: half, so sqrt(0.1) is sqrt(0.2).
                factor[module.qkv] = math.sqrt(0.2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = factor.get(module, 1.0) * math.sqrt(6 / sum(fans(module.weight)))
                fill(module.weight, generator.uniform(-bound, bound, size=module.weight.shape))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, NoiseFeatures) and module.fourier:
                fill(module.frequencies, self.frequencies(generator))
