"""The building blocks of both networks: resampling, residual block, attention, and a block with its attention."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ict_ref.config import Network
from ict_ref.networks.dropout import Masks, drop
from ict_ref.networks.norm import fuses, norm_silu_drop
from ict_ref.networks.precision import in_full_precision

Resampling = Literal["none", "down", "up"]


@dataclass(frozen=True)
class ArchitectureVariant:
    """The differences between the blocks of NCSN++, DDPM++ and ADM."""

    eps: float
    """Epsilon of each group normalisation."""
    gain: float
    """Factor on each sum of two branches."""
    fir: bool
    """Resample with the filter [1, 3, 3, 1]; otherwise by averages and copies."""
    projects: bool
    """Project the skip connection of a block that resamples by a 1x1 convolution."""


class ResidualBlock(nn.Module):
    """x + conv(drop(silu(norm(conv(silu(norm(x))) + linear(e))))), resampled before the first convolution.

    With adaptive normalisation (AdaGN) the inner map is norm(conv(...)) (1 + scale) + shift, where linear(e) is [scale
    | shift].
    """

    def __init__(
        self, before: int, after: int, options: Network, variant: ArchitectureVariant, way: Resampling, site: int | None
    ) -> None:
        super().__init__()
        self.way, self.site, self.rate, self.gain = way, site, options.dropout, variant.gain
        self.adaptive = options.adaptive_norm
        self.norm0 = nn.GroupNorm(options.groups_of(before), before, variant.eps)
        self.conv0 = nn.Conv2d(before, after, 3, padding=1)
        self.linear = nn.Linear(4 * options.width, 2 * after if self.adaptive else after)
        self.norm1 = nn.GroupNorm(options.groups_of(after), after, variant.eps)
        self.conv1 = nn.Conv2d(after, after, 3, padding=1)
        self.resample = resampling(way, variant)
        projects = before != after or (variant.projects and way != "none")
        self.skip = nn.Conv2d(before, after, 1) if projects else nn.Identity()

    def forward(
        self, x: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return the map after the block; its dropout mask is masks[site]."""
        mask = None if masks is None or self.site is None else masks[self.site]
        h = norm_silu_drop(self.norm0, x, product=self.resample is None)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self._modulated(h, e, mask)
        with in_full_precision(x.device):
            x = self.skip(x)
        return joined(x, self.conv1(h), self.gain)

    def _modulated(
        self, h: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], mask: Tensor | None
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return the first convolution of h, modulated by the embedding, normalised, activated and dropped."""
        with in_full_precision(h.device):
            projected: Tensor = self.linear(e)
        if self.adaptive:
            scale, shift = projected[:, :, None, None].chunk(2, dim=1)
            h = F.silu(self.norm1(self.conv0(h).to(projected.dtype)) * (1 + scale) + shift)
            return h if mask is None else drop(h, mask, self.rate)
        offset = None
        if fuses(h, self.norm1.weight):
            # A GPU's convolution would add its bias by a kernel of its own, and round the sum to 16 bits.
            h, offset = F.conv2d(h, self.conv0.weight, padding=1), self.conv0.bias
        else:
            h = self.conv0(h)
        return norm_silu_drop(self.norm1, h, shift=projected, offset=offset, mask=mask, rate=self.rate)


class SelfAttention(nn.Module):
    """x + projection(softmax(q k^T / sqrt(d)) v) over the pixels of a map, in heads of d channels each."""

    def __init__(self, channels: int, options: Network, variant: ArchitectureVariant) -> None:
        super().__init__()
        self.heads = channels // options.head_channels if options.head_channels else 1
        self.gain = variant.gain
        self.norm = nn.GroupNorm(options.groups_of(channels), channels, variant.eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)

    def forward(
        self, x: Float[Tensor, " batch channels height width"]
    ) -> Float[Tensor, " batch channels height width"]:
        """Apply multi-head self-attention over pixels with a residual connection."""
        batch, channels, height, width = x.shape
        pixels = norm_silu_drop(self.norm, x, silu=False).flatten(2).transpose(1, 2)
        # Rows of qkv are [q | k | v], each (head, d). Fused kernels need the channels of a head next to each other.
        qkv: Tensor = self.qkv(pixels)
        q, k, v = qkv.reshape(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height * width, channels)
        update: Tensor = self.projection(attended).transpose(1, 2).reshape(batch, channels, height, width)
        return joined(x, update, self.gain)


class Block(nn.Module):
    """A residual block, followed by attention where the map is small."""

    def __init__(self, block: ResidualBlock, attention: SelfAttention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention
        self.way = block.way
        self.recompute = False

    def forward(
        self, h: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return the map after block and attention; with `recompute`, the backward pass computes activations again."""
        if self.recompute and torch.is_grad_enabled():
            # The block uses no random numbers, so no generator state needs to be kept.
            after: Tensor = checkpoint(self._after, h, e, masks, use_reentrant=False, preserve_rng_state=False)
            return after
        return self._after(h, e, masks)

    def _after(
        self, h: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        h = self.block(h, e, masks)
        if self.attention is not None:
            h = self.attention(h)
        return h


def joined(
    x: Float[Tensor, " batch channels height width"], y: Float[Tensor, " batch channels height width"], gain: float
) -> Float[Tensor, " batch channels height width"]:
    """Return (x + y) * gain, in the dtype of x or better; under autocast x is in float32 and y may be in 16 bits."""
    return x + y if gain == 1 else (x + y) * gain


def downsample(h: Float[Tensor, " batch channels height width"]) -> Float[Tensor, " batch channels height/2 width/2"]:
    """Return the means of 2x2 squares."""
    return F.avg_pool2d(h, 2)


def upsample(h: Float[Tensor, " batch channels height width"]) -> Float[Tensor, " batch channels 2*height 2*width"]:
    """Repeat each value four times, as a 2x2 square."""
    return F.interpolate(h, scale_factor=2.0, mode="nearest")


class Fir(nn.Module):
    """The filter [1, 3, 3, 1] / 8 in both directions, on each channel separately, with zeros around the map.

    down: every second value of the filtered map. up: 4 times the adjoint of down. smooth: all values, one more in each
    direction than the map has.
    """

    kernel: Tensor

    def __init__(self, way: Literal["down", "up", "smooth"]) -> None:
        super().__init__()
        self.way = way
        # On the CPU even in a network on the meta device, because the kernel is not part of the state.
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu") / 8
        gain = 4 if way == "up" else 1
        self.register_buffer("kernel", gain * torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, h: Float[Tensor, " batch channels _ _"]) -> Float[Tensor, " batch channels _ _"]:
        """Return the filtered and resampled map, under autocast in the dtype of h."""
        channels = h.shape[1]
        kernel = self.kernel.expand(channels, -1, -1, -1)
        with in_full_precision(h.device):
            if self.way == "up":
                return F.conv_transpose2d(h, kernel, stride=2, padding=1, groups=channels)
            stride, padding = (2, 1) if self.way == "down" else (1, 2)
            return F.conv2d(h, kernel, stride=stride, padding=padding, groups=channels)


def resampling(way: Resampling, variant: ArchitectureVariant) -> Callable[[Tensor], Tensor] | None:
    """Return the resampling of a block, None for a block that does not resample."""
    if way == "none":
        return None
    if variant.fir:
        return Fir(way)
    return downsample if way == "down" else upsample


def fill(parameter: Tensor, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    """Set the parameter to these values, rounded to its dtype."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))


def fans(weight: Tensor) -> tuple[int, int]:
    """Return fan-in and fan-out of the weight of a linear map or a convolution, including the kernel's area."""
    area = math.prod(weight.shape[2:])
    return weight.shape[1] * area, weight.shape[0] * area
