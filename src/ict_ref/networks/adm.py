"""ADM, the U-Net of Dhariwal & Nichol 2021 that iCT trains on ImageNet 64x64, without AdaGN (iCT, Appendix B)."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Network
from ict_ref.networks.embedding import Embedding, NoiseFeatures
from ict_ref.networks.layers import ResidualBlock, SelfAttention, Stages, Style, fans, fill, halvable
from ict_ref.networks.masks import DropoutSite, Masks

STYLE = Style(eps=1e-5, gain=1.0, fir=False)


class ADM(nn.Module):
    """F_theta(c_in x, c_noise, label): a U-Net of residual blocks, with attention at low resolutions.

    Dropout acts where, and only where, the call is given masks: `dropout_sites()` says of what shapes. There is no
    training mode. Each block adds a projection of the embedding to its map before the second normalisation, or scales
    and shifts the map with it afterwards (`adaptive_norm`). At the start the output is exactly 0.
    """

    def __init__(
        self, options: Network, *, channels: int, size: int, classes: int, generator: np.random.Generator
    ) -> None:
        super().__init__()
        self._stages = stages = Stages(options, STYLE)
        size = halvable(size, options)
        self.embedding = Embedding(options, classes)
        h = options.width * options.multipliers[0]
        self.stem = nn.Conv2d(channels, h, 3, padding=1)

        skips = [h]
        self.encoder = nn.ModuleList()
        for level, multiplier in enumerate(options.multipliers):
            if level > 0:
                size //= 2
                self.encoder.append(stages.make(h, h, size, "down"))
                skips.append(h)
            for _ in range(options.blocks):
                attends = stages.attends(size)
                self.encoder.append(stages.make(h, h := options.width * multiplier, size, attends=attends))
                skips.append(h)
        self.middle = nn.ModuleList([stages.make(h, h, size, attends=True), stages.make(h, h, size)])
        self.decoder = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(options.multipliers))):
            for _ in range(options.blocks + 1):
                attends, before = stages.attends(size), h + skips.pop()
                self.decoder.append(stages.make(before, h := options.width * multiplier, size, attends=attends))
            if level > 0:
                size *= 2
                self.decoder.append(stages.make(h, h, size, "up"))
        norm = nn.GroupNorm(options.groups_of(h), h, STYLE.eps)
        self.head = nn.Sequential(norm, nn.SiLU(), nn.Conv2d(h, channels, 3, padding=1))
        self._initialise(options, generator)

    def forward(
        self,
        x: Float[Tensor, " batch channels height width"],
        c_noise: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch channels height width"]:
        """Return F_theta; with masks, one for each of `dropout_sites()`, values are dropped."""
        self._stages.refuse_wrong_number(masks)
        e: Tensor = self.embedding(c_noise, labels)
        h: Tensor = self.stem(x.to(self.stem.weight.dtype))
        skips = [h]
        for stage in self.encoder:
            h = stage(h, e, masks)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, e, masks)
        for stage in self.decoder:
            h = stage(h if stage.way == "up" else torch.cat([h, skips.pop()], 1), e, masks)
        out: Tensor = self.head(h)
        return out

    def dropout_sites(self) -> list[DropoutSite]:
        """Return where values are dropped, in the order in which it happens."""
        return list(self._stages.sites)

    def _initialise(self, options: Network, generator: np.random.Generator) -> None:
        """Draw parameters by torch's default laws, from this generator: weights and biases U(+-1/sqrt(fan_in)),
        label embeddings N(0, 1); each block's second convolution, attention's projection and the head start at 0.
        """
        if self.stem.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 1 / math.sqrt(fans(module.weight)[0])
                for parameter in module.parameters():
                    fill(parameter, generator.uniform(-bound, bound, size=parameter.shape))
            elif isinstance(module, nn.Embedding):
                fill(module.weight, generator.standard_normal(module.weight.shape))
            elif isinstance(module, NoiseFeatures) and module.fourier:
                fill(module.frequencies, options.fourier_scale * generator.standard_normal(options.width))
        zero: list[nn.Module] = [self.head[-1]]
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                zero.append(module.conv1)
            elif isinstance(module, SelfAttention):
                zero.append(module.projection)
        for module in zero:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)
