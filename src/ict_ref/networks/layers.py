"""The small parts that networks are made of: dropout by explicit masks, resampling, attention."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

Masks: TypeAlias = tuple[Bool[Tensor, " batch _ _ _"], ...]
"""One mask per dropout of a network, in the order in which they act: true where a value is kept."""


class DropoutSite(NamedTuple):
    """Where a network drops values: the shape of one example's map there, and the rate."""

    channels: int
    height: int
    width: int
    rate: float


def draw_masks(sites: Sequence[DropoutSite], batch: int, generator: np.random.Generator) -> Masks:
    """Return a mask for each site: every value is kept with probability 1 - rate, to the nearest 1/65536.

    Masks are arguments of a network's call, not something that it draws: student and teacher share them because they
    are handed the same ones, on any device, under any wrapper, whatever ran in between. Saving and restoring a global
    generator's state does the same only while nobody else draws, and only for the device whose state was meant.
    """

    def mask(site: DropoutSite) -> Bool[Tensor, " batch channels height width"]:
        shape = (batch, site.channels, site.height, site.width)
        count = int(np.prod(shape))
        # Each 64-bit word of the generator is four numbers of 16 bits: a sixth of the time of torch's bernoulli_.
        words = generator.bit_generator.random_raw(-(-count // 4))
        numbers = np.asarray(words, dtype="<u8").view("<u2")[:count]  # in this order on every machine
        return torch.from_numpy((numbers >= round(site.rate * 65536)).reshape(shape))

    return tuple(mask(site) for site in sites)


def drop(
    h: Float[Tensor, " batch channels height width"],
    mask: Bool[Tensor, " batch channels height width"],
    rate: float,
) -> Float[Tensor, " batch channels height width"]:
    """Return h where the mask is true, divided by 1 - rate so that its mean stays, and 0 elsewhere."""
    return h * mask / (1 - rate)


def downsample(h: Float[Tensor, " batch channels height width"]) -> Float[Tensor, " batch channels height/2 width/2"]:
    """Return the means of 2x2 squares."""
    return F.avg_pool2d(h, 2)


def upsample(h: Float[Tensor, " batch channels height width"]) -> Float[Tensor, " batch channels 2*height 2*width"]:
    """Return each value four times, as a 2x2 square."""
    return F.interpolate(h, scale_factor=2.0, mode="nearest")


class SelfAttention(nn.Module):
    """x + projection(softmax(q k^T / sqrt(d)) v) over the pixels of a map, in heads of d channels each."""

    def __init__(self, channels: int, head_channels: int, groups: int) -> None:
        super().__init__()
        self.head_channels = head_channels
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.projection = nn.Conv2d(channels, channels, 1)

    def forward(
        self, x: Float[Tensor, " batch channels height width"]
    ) -> Float[Tensor, " batch channels height width"]:
        """Return x with every pixel informed of all others."""
        batch, channels, height, width = x.shape
        # Rows of qkv are [q | k | v], each (head, d): one tensor (3, batch, head, pixel, d).
        qkv: Tensor = self.qkv(self.norm(x))
        q, k, v = qkv.reshape(batch, 3, -1, self.head_channels, height * width).permute(1, 0, 2, 4, 3)
        attended = F.scaled_dot_product_attention(q, k, v)
        update: Tensor = self.projection(attended.transpose(2, 3).reshape(batch, channels, height, width))
        return x + update
