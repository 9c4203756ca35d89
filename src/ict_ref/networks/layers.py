"""The parts that both networks are made of: resampling, residual block, attention, and a block with its attention."""

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
from ict_ref.networks.embedding import in_full_precision
from ict_ref.networks.masks import DropoutSite, Masks, drop

Resampling = Literal["none", "down", "up"]


@dataclass(frozen=True)
class Style:
    """What tells the parts of NCSN++ from those of ADM."""

    eps: float
    """Of every group normalisation."""
    gain: float
    """Factor on every sum of two branches."""
    fir: bool
    """Resample by the filter [1, 3, 3, 1], and by a 1x1 convolution on the other branch; else by averages and copies,
    and by nothing."""


class ResidualBlock(nn.Module):
    """x + conv(drop(silu(norm(conv(silu(norm(x))) + linear(e))))), resampled before the first convolution.

    With adaptive normalisation (AdaGN) it is norm(conv(...)) (1 + scale) + shift, linear(e) being [scale | shift].
    """

    def __init__(
        self, before: int, after: int, options: Network, style: Style, way: Resampling, site: int | None
    ) -> None:
        super().__init__()
        self.way, self.site, self.rate, self.style = way, site, options.dropout, style
        self.adaptive = options.adaptive_norm
        self.norm0 = nn.GroupNorm(options.groups_of(before), before, style.eps)
        self.conv0 = nn.Conv2d(before, after, 3, padding=1)
        self.linear = nn.Linear(4 * options.width, 2 * after if self.adaptive else after)
        self.norm1 = nn.GroupNorm(options.groups_of(after), after, style.eps)
        self.conv1 = nn.Conv2d(after, after, 3, padding=1)
        self.resample = resampling(way, style)
        projects = before != after or (style.fir and way != "none")
        self.skip = nn.Conv2d(before, after, 1) if projects else nn.Identity()

    def forward(
        self, x: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return the map after the block; its mask is masks[site]."""
        h = F.silu(self.norm0(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv0(h)
        with in_full_precision(x.device):
            told: Tensor = self.linear(e)[:, :, None, None]
        told = told.to(h.dtype)
        if self.adaptive:
            scale, shift = told.chunk(2, dim=1)
            h = self.norm1(h) * (1 + scale) + shift
        else:
            h = self.norm1(h + told)
        h = F.silu(h)
        if masks is not None and self.site is not None:
            h = drop(h, masks[self.site], self.rate)
        return joined(self.skip(x), self.conv1(h), self.style.gain)


class SelfAttention(nn.Module):
    """x + projection(softmax(q k^T / sqrt(d)) v) over the pixels of a map, in heads of d channels each."""

    def __init__(self, channels: int, options: Network, style: Style) -> None:
        super().__init__()
        self.heads = channels // options.head_channels if options.head_channels else 1
        self.gain = style.gain
        self.norm = nn.GroupNorm(options.groups_of(channels), channels, style.eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Linear(channels, channels)

    def forward(
        self, x: Float[Tensor, " batch channels height width"]
    ) -> Float[Tensor, " batch channels height width"]:
        """Return x with every pixel informed of all others."""
        batch, channels, height, width = x.shape
        pixels: Tensor = self.norm(x).flatten(2).transpose(1, 2)
        # Rows of qkv are [q | k | v], each (head, d). The channels of a head lie together, as fused kernels want them.
        qkv: Tensor = self.qkv(pixels)
        q, k, v = qkv.reshape(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height * width, channels)
        update: Tensor = self.projection(attended).transpose(1, 2).reshape(batch, channels, height, width)
        return joined(x, update, self.gain)


class Stage(nn.Module):
    """A residual block, and attention after it where the map is small."""

    def __init__(self, block: ResidualBlock, attention: SelfAttention | None) -> None:
        super().__init__()
        self.block, self.attention = block, attention
        self.way = block.way
        self.recompute = False

    def forward(
        self, h: Float[Tensor, " batch _ _ _"], e: Float[Tensor, " batch _"], masks: Masks | None
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return the map after block and attention, which with `recompute` are computed again in the backward pass."""
        if self.recompute and torch.is_grad_enabled():
            # No random number is drawn in it: there is no generator whose state to keep.
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


class Stages:
    """Makes the stages of one network and notes, in the order in which they are made, where they drop values."""

    def __init__(self, options: Network, style: Style) -> None:
        self.options, self.style = options, style
        self.sites: list[DropoutSite] = []

    def make(self, before: int, after: int, size: int, way: Resampling = "none", *, attends: bool = False) -> Stage:
        """Return the next stage, its map `size` pixels wide after resampling."""
        options, site = self.options, None
        # iCT Section 3.1: "layers with resolution less than or equal to 16x16", the map on which the dropout acts.
        if options.dropout > 0 and size <= options.dropout_max_resolution:
            site = len(self.sites)
            self.sites.append(DropoutSite(after, size, size, options.dropout))
        block = ResidualBlock(before, after, options, self.style, way, site)
        return Stage(block, SelfAttention(after, options, self.style) if attends else None)

    def attends(self, size: int) -> bool:
        """Return whether maps of this size have attention."""
        return size in self.options.attention_resolutions

    def refuse_wrong_number(self, masks: Masks | None) -> None:
        """Raise ValueError unless there are no masks, or one for each place."""
        if masks is not None and len(masks) != len(self.sites):
            raise ValueError(f"needs {len(self.sites)} dropout masks; got {len(masks)}; draw them by dropout_sites()")


def joined(
    x: Float[Tensor, " batch channels height width"], y: Float[Tensor, " batch channels height width"], gain: float
) -> Float[Tensor, " batch channels height width"]:
    """Return (x + y) * gain."""
    return x + y if gain == 1 else (x + y) * gain


def downsample(h: Float[Tensor, " batch channels height width"]) -> Float[Tensor, " batch channels height/2 width/2"]:
    """Return the means of 2x2 squares."""
    return F.avg_pool2d(h, 2)


def upsample(h: Float[Tensor, " batch channels height width"]) -> Float[Tensor, " batch channels 2*height 2*width"]:
    """Return each value four times, as a 2x2 square."""
    return F.interpolate(h, scale_factor=2.0, mode="nearest")


class Fir(nn.Module):
    """The filter [1, 3, 3, 1] / 8 in both directions, each channel apart, with zeros around the map.

    down: every second value of the filtered map. up: the adjoint of that, times 4. smooth: all values, one more in each
    direction than the map has.
    """

    kernel: Tensor

    def __init__(self, way: Literal["down", "up", "smooth"]) -> None:
        super().__init__()
        self.way = way
        # On the CPU also in a network that is built on the meta device: no state brings it back.
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu") / 8
        gain = 4 if way == "up" else 1
        self.register_buffer("kernel", gain * torch.outer(taps, taps)[None, None], persistent=False)

    def forward(self, h: Float[Tensor, " batch channels _ _"]) -> Float[Tensor, " batch channels _ _"]:
        """Return the map, filtered and resampled."""
        channels = h.shape[1]
        kernel = self.kernel.expand(channels, -1, -1, -1)
        if self.way == "up":
            return F.conv_transpose2d(h, kernel, stride=2, padding=1, groups=channels)
        stride, padding = (2, 1) if self.way == "down" else (1, 2)
        return F.conv2d(h, kernel, stride=stride, padding=padding, groups=channels)


def resampling(way: Resampling, style: Style) -> Callable[[Tensor], Tensor] | None:
    """Return what a block does to the resolution of its map, None if nothing."""
    if way == "none":
        return None
    if style.fir:
        return Fir(way)
    return downsample if way == "down" else upsample


def halvable(size: int, options: Network) -> int:
    """Return the size, or raise ValueError if the network's levels cannot halve it that often."""
    halvings = len(options.multipliers) - 1
    if size % 2**halvings:
        raise ValueError(
            f"needs images whose size {size} can be halved {halvings} times; got {options.multipliers}; "
            "give fewer network.multipliers"
        )
    return size


def fill(parameter: Tensor, values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> None:
    """Set the parameter to these values, rounded to its dtype."""
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values))


def fans(weight: Tensor) -> tuple[int, int]:
    """Return fan-in and fan-out of a linear map's or a convolution's weight, the kernel's area included."""
    area = math.prod(weight.shape[2:])
    return weight.shape[1] * area, weight.shape[0] * area
