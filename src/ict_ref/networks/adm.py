"""ADM, the U-Net of Dhariwal & Nichol 2021 that iCT trains on ImageNet 64x64, without AdaGN (iCT, Appendix B)."""

import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ict_ref.config import Network
from ict_ref.formulas import positional_embedding
from ict_ref.networks.layers import DropoutSite, Masks, SelfAttention, downsample, drop, upsample

Resampling = Literal["none", "down", "up"]


class ADM(nn.Module):
    """F_theta(c_in x, c_noise, label): a U-Net of residual blocks, with attention at low resolutions.

    Dropout acts where, and only where, the call is given masks: `dropout_sites()` says of what shapes. There is no
    training mode. The embedding of the label is added to that of the noise level; each block adds a projection of
    both to its map before the second normalisation. At the start the output is exactly 0.
    """

    def __init__(
        self, options: Network, *, channels: int, size: int, classes: int, generator: np.random.Generator
    ) -> None:
        super().__init__()
        self._sites: list[DropoutSite] = []
        self._options = options
        width, halvings = options.width, len(options.multipliers) - 1
        if size % 2**halvings:
            raise ValueError(
                f"needs images whose size {size} can be halved {halvings} times; got {options.multipliers}; "
                "give fewer network.multipliers"
            )
        self.embedding = Embedding(width, 4 * width, classes, options.time_scale)
        self.stem = nn.Conv2d(channels, width * options.multipliers[0], 3, padding=1)

        h, skips = width * options.multipliers[0], [width * options.multipliers[0]]
        self.encoder = nn.ModuleList()
        for level, multiplier in enumerate(options.multipliers):
            if level > 0:
                size //= 2
                self.encoder.append(self._stage(h, h, size, "down"))
                skips.append(h)
            for _ in range(options.blocks):
                self.encoder.append(self._stage(h, h := width * multiplier, size))
                skips.append(h)
        self.middle = nn.ModuleList([self._stage(h, h, size, attention=True), self._stage(h, h, size, attention=False)])
        self.decoder = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(options.multipliers))):
            for _ in range(options.blocks + 1):
                self.decoder.append(self._stage(h + skips.pop(), h := width * multiplier, size))
            if level > 0:
                size *= 2
                self.decoder.append(self._stage(h, h, size, "up"))
        self.head = nn.Sequential(nn.GroupNorm(options.groups, h), nn.SiLU(), nn.Conv2d(h, channels, 3, padding=1))
        self._initialise(generator)

    def forward(
        self,
        x: Float[Tensor, " batch channels height width"],
        c_noise: Float[Tensor, " batch"],
        labels: Int64[Tensor, " batch"] | None = None,
        masks: Masks | None = None,
    ) -> Float[Tensor, " batch channels height width"]:
        """Return F_theta; with masks, one for each of `dropout_sites()`, values are dropped."""
        if masks is not None and len(masks) != len(self._sites):
            raise ValueError(f"needs {len(self._sites)} dropout masks; got {len(masks)}; draw them by dropout_sites()")
        e: Tensor = self.embedding(c_noise, labels)
        h: Tensor = self.stem(x)
        skips = [h]
        for stage in self.encoder:
            h = stage(h, e, masks)
            skips.append(h)
        for stage in self.middle:
            h = stage(h, e, masks)
        for stage in self.decoder:
            h = stage(h if stage.upsamples else torch.cat([h, skips.pop()], 1), e, masks)
        out: Tensor = self.head(h)
        return out

    def dropout_sites(self) -> list[DropoutSite]:
        """Return where values are dropped, in the order in which it happens."""
        return list(self._sites)

    def _stage(
        self, before: int, after: int, size: int, way: Resampling = "none", *, attention: bool | None = None
    ) -> "Stage":
        """Return the next block, its map `size` pixels wide after resampling; a place for its dropout is noted."""
        options = self._options
        site = None
        # iCT Section 3.1: "layers with resolution less than or equal to 16x16", the map on which the dropout acts.
        if options.dropout > 0 and size <= options.dropout_max_resolution:
            site = len(self._sites)
            self._sites.append(DropoutSite(after, size, size, options.dropout))
        block = ResidualBlock(before, after, 4 * options.width, options.groups, way, site, options.dropout)
        attends = size in options.attention_resolutions and way == "none" if attention is None else attention
        return Stage(block, SelfAttention(after, options.head_channels, options.groups) if attends else None)

    def _initialise(self, generator: np.random.Generator) -> None:
        """Draw parameters by torch's default laws, from this generator: weights and biases U(+-1/sqrt(fan_in)),
        label embeddings N(0, 1); each block's second convolution, attention's projection and the head start at 0.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 1 / math.sqrt(module.weight[0].numel())
                for parameter in module.parameters():
                    _fill(parameter, generator.uniform(-bound, bound, size=parameter.shape))
            elif isinstance(module, nn.Embedding):
                _fill(module.weight, generator.standard_normal(module.weight.shape))
        zero: list[nn.Module] = [self.head[-1]]
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                zero.append(module.conv1)
            elif isinstance(module, SelfAttention):
                zero.append(module.projection)
        for module in zero:
            for parameter in module.parameters():
                nn.init.zeros_(parameter)


class Embedding(nn.Module):
    """What every block is told: an MLP of the noise level's positional embedding, plus the label's embedding."""

    def __init__(self, width: int, out: int, classes: int, time_scale: float) -> None:
        super().__init__()
        self.width, self.time_scale = width, time_scale
        self.linear0, self.linear1 = nn.Linear(width, out), nn.Linear(out, out)
        self.label = nn.Embedding(classes, out) if classes > 0 else None

    def forward(
        self, c_noise: Float[Tensor, " batch"], labels: Int64[Tensor, " batch"] | None
    ) -> Float[Tensor, " batch out"]:
        """Return the embedding; labels are needed if, and only if, the network has classes."""
        if (labels is None) != (self.label is None):
            needs, got = ("no labels", "labels") if self.label is None else ("labels", "none")
            raise ValueError(f"needs {needs}; got {got}; a network learns with labels or without (data.labels)")
        e: Tensor = self.linear1(F.silu(self.linear0(positional_embedding(self.time_scale * c_noise, self.width))))
        if self.label is not None:
            e = e + self.label(labels)
        return e


class Stage(nn.Module):
    """A residual block, and attention after it where the map is small."""

    def __init__(self, block: "ResidualBlock", attention: SelfAttention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention
        self.upsamples = block.way == "up"

    def forward(
        self, h: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return the map after block and attention."""
        h = self.block(h, e, masks)
        if self.attention is not None:
            h = self.attention(h)
        return h


class ResidualBlock(nn.Module):
    """x + conv(drop(silu(norm(conv(silu(norm(x))) + linear(silu(e)))))), resampled before the first convolution."""

    def __init__(
        self, before: int, after: int, embedded: int, groups: int, way: Resampling, site: int | None, rate: float
    ) -> None:
        super().__init__()
        self.way, self.site, self.rate = way, site, rate
        self.norm0 = nn.GroupNorm(groups, before)
        self.conv0 = nn.Conv2d(before, after, 3, padding=1)
        self.linear = nn.Linear(embedded, after)
        self.norm1 = nn.GroupNorm(groups, after)
        self.conv1 = nn.Conv2d(after, after, 3, padding=1)
        self.skip = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(
        self, x: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return the map after the block; its mask is masks[site]."""
        h = F.silu(self.norm0(x))
        if self.way != "none":
            resample = downsample if self.way == "down" else upsample
            h, x = resample(h), resample(x)
        h = self.conv0(h) + self.linear(F.silu(e))[:, :, None, None]
        h = F.silu(self.norm1(h))
        if masks is not None and self.site is not None:
            h = drop(h, masks[self.site], self.rate)
        out: Tensor = self.skip(x) + self.conv1(h)
        return out


def _fill(parameter: Tensor, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))
