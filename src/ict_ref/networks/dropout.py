"""Dropout by explicit masks, each a pure function of a key: the same bits on every device."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Masks: TypeAlias = tuple[Bool[Tensor, " batch _ _ _"], ...]
"""One mask per dropout of a network, in the order in which they act: true where a value is kept."""

# The increment and the two multipliers of splitmix64 (Steele, Lea & Flood 2014), as the int64 of the same bits.
_STRIDE, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
# Words that share a key: few enough to stay in a core's cache.
_BLOCK = 1 << 15


class DropoutSite(NamedTuple):
    """Where a network drops values: the shape of one example's map there, and the rate."""

    channels: int
    height: int
    width: int
    rate: float


def draw_masks(sites: Sequence[DropoutSite], batch: int, key: int, *, device: torch.device | str = "cpu") -> Masks:
    """Return a mask for each site, made on the device: every value is kept with probability 1 - rate, to 1/65536.

    A mask's value is a function of the 64-bit key, the site's number and the position, and of nothing else.

    Masks are arguments of a network's call, not something that it draws: student and teacher share them because they
    are handed the same ones, on any device, under DistributedDataParallel, autocast or torch.compile, whatever ran in
    between. Saving and restoring a global generator's state does the same only while nobody else draws, and only for
    the device whose state was meant.
    """
    if not 0 <= key < 1 << 64:
        raise ValueError(f"needs 0 <= key < 2^64; got {key}; draw it by random_raw()")
    for site in sites:
        if not 0 <= site.rate < 1:
            raise ValueError(f"needs 0 <= rate < 1; got {site.rate}; the rate is the share that is dropped")
    shapes = [(batch, site.channels, site.height, site.width) for site in sites]
    words = [-(-math.prod(shape) // 4) for shape in shapes]
    counters = torch.arange(min(max(words, default=0), _BLOCK), device=device).mul_(_STRIDE)
    blocks = torch.arange(-(-max(words, default=0) // _BLOCK), device=device).mul_(_STRIDE)
    of_sites = _mix(torch.arange(len(sites), device=device).mul_(_STRIDE).bitwise_xor_(key - (key >> 63 << 64)))
    keys = _mix(of_sites[:, None] ^ blocks)

    def mask(number: int) -> Bool[Tensor, " batch channels height width"]:
        kept = torch.empty(shapes[number], dtype=torch.bool, device=device)
        of_blocks = keys[number, : -(-words[number] // _BLOCK), None]
        _fill(kept.view(-1), of_blocks, counters[: words[number]], sites[number].rate)
        return kept

    return tuple(mask(number) for number in range(len(sites)))


def drop(
    h: Float[Tensor, " batch channels height width"],
    mask: Bool[Tensor, " batch channels height width"],
    rate: float,
) -> Float[Tensor, " batch channels height width"]:
    """Return h where the mask is true, divided by 1 - rate so that its mean stays, and 0 elsewhere."""
    return h * mask / (1 - rate)


def _fill(
    kept: Bool[Tensor, " values"], keys: Int64[Tensor, " blocks 1"], counters: Int64[Tensor, " words"], rate: float
) -> None:
    """Set each value to whether its 16 bits, a quarter of a 64-bit word, are at or above the rate's threshold."""
    # The 16 bits are read as a signed number. A rate below 1 keeps something, however near it is.
    threshold = min(round(rate * 65536), 65535) - 32768
    rows = _blocks_at_a_time(kept.device)
    for first in range(0, len(keys), rows):
        numbers = _mix(counters ^ keys[first : first + rows]).view(torch.int16).view(-1)
        here = kept[4 * len(counters) * first :][: len(numbers)]
        # In place, then copied: on the CPU five times as fast as a comparison that makes bools.
        here.copy_(numbers[: len(here)].ge_(threshold))


def _blocks_at_a_time(device: torch.device) -> int:
    # One stays in a core's cache; an accelerator is kept busy by 2^24 words.
    return 1 if device.type == "cpu" else 1 << 9


def _mix(x: Int64[Tensor, "*words"]) -> Int64[Tensor, "*words"]:
    """Return each word mixed as splitmix64 does, in its place; products are modulo 2^64."""
    x.bitwise_xor_(_shifted(x, 30)).mul_(_FIRST)
    x.bitwise_xor_(_shifted(x, 27)).mul_(_SECOND)
    return x.bitwise_xor_(_shifted(x, 31))


def _shifted(x: Int64[Tensor, "*words"], by: int) -> Int64[Tensor, "*words"]:
    # Torch shifts copies of the sign into an int64; xor with those would extinguish it.
    return (x >> by).bitwise_and_((1 << 64 - by) - 1)
