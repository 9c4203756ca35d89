"""NCSN++, the U-Net of Song et al. 2021 that iCT trains on CIFAR-10, as the authors' CM code configures it."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Network
from ict_ref.networks.embedding import Embedding, NoiseFeatures
from ict_ref.networks.layers import (
    Fir,
    ResidualBlock,
    SelfAttention,
    Stages,
    Style,
    fans,
    fill,
    halvable,
    joined,
)
from ict_ref.networks.masks import DropoutSite, Masks

STYLE = Style(eps=1e-6, gain=math.sqrt(0.5), fir=True)


class NCSNpp(nn.Module):
    """F_theta(c_in x, c_noise, label): a U-Net of residual blocks whose encoder sees the input at every resolution.

    Beside the encoder the input itself is filtered, halved and projected, level by level, and joined to the encoder's
    map. Sums of two branches are divided by sqrt(2). Attention follows every block of a level in the encoder, the last
    one in the decoder. Dropout acts where, and only where, the call is given masks: `dropout_sites()` says of what
    shapes. There is no training mode. At the start the output is about 1e-5.
    """

    def __init__(
        self, options: Network, *, channels: int, size: int, classes: int, generator: np.random.Generator
    ) -> None:
        super().__init__()
        self._stages = stages = Stages(options, STYLE)
        size = halvable(size, options)
        self.embedding = Embedding(options, classes)
        h = options.width
        self.stem = nn.Conv2d(channels, h, 3, padding=1)

        skips, shown = [h], channels
        self.encoder, self.pyramid, self.smooth = nn.ModuleList(), nn.ModuleList(), Fir("smooth")
        for level, multiplier in enumerate(options.multipliers):
            if level > 0:
                size //= 2
                self.encoder.append(stages.make(h, h, size, "down"))
                self.pyramid.append(nn.Conv2d(shown, shown := h, 3, stride=2))
                skips.append(h)
            for _ in range(options.blocks):
                attends = stages.attends(size)
                self.encoder.append(stages.make(h, h := options.width * multiplier, size, attends=attends))
                skips.append(h)
        self.middle = nn.ModuleList([stages.make(h, h, size, attends=True), stages.make(h, h, size)])
        self.decoder = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(options.multipliers))):
            for block in range(options.blocks + 1):
                attends, before = stages.attends(size) and block == options.blocks, h + skips.pop()
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
        shown = x.to(self.stem.weight.dtype)
        h: Tensor = self.stem(shown)
        skips, projections = [h], iter(self.pyramid)
        for stage in self.encoder:
            h = stage(h, e, masks)
            if stage.way == "down":
                h = shown = joined(next(projections)(self.smooth(shown)), h, STYLE.gain)
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
        """Draw weights from U(+-sqrt(6 / (fan_in + fan_out))), biases 0 (Song et al. 2021, public code).

        Smaller by 1e-5: each block's second convolution, attention's projection and the head. Queries, keys and values
        are three maps, each smaller by sqrt(0.1). Fourier frequencies are from N(0, fourier_scale^2).
        """
        if self.stem.weight.is_meta:
            return
        factor: dict[nn.Module, float] = {self.head[-1]: 1e-5}
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                factor[module.conv1] = 1e-5
            elif isinstance(module, SelfAttention):
                factor[module.projection] = 1e-5
                # qkv as one map has fans C and 3C where each of the three has C and C: half, so sqrt(0.1) is sqrt(0.2).
                factor[module.qkv] = math.sqrt(0.2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = factor.get(module, 1.0) * math.sqrt(6 / sum(fans(module.weight)))
                fill(module.weight, generator.uniform(-bound, bound, size=module.weight.shape))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, NoiseFeatures) and module.fourier:
                fill(module.frequencies, options.fourier_scale * generator.standard_normal(options.width))
