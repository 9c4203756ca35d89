"""Dropout by explicit masks, each a pure function of a key, with the same bits on each device."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

Masks: TypeAlias = tuple[Bool[Tensor, " batch _ _ _"], ...]
"""One mask per dropout site of a network, in the order of the forward pass: true where a value is kept."""

# The increment and the two multipliers of splitmix64 (Steele, Lea & Flood 2014), as the int64 of the same bits.
_STRIDE, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
# Number of words that share a key, small enough for a core's cache.
_BLOCK = 1 << 15


class DropoutSite(NamedTuple):
    """A place where a network drops values: the shape of one example's map there, and the dropout rate."""

    channels: int
    height: int
    width: int
    rate: float


def draw_masks(sites: Sequence[DropoutSite], batch: int, key: int, *, device: torch.device | str = "cpu") -> Masks:
    """Return a mask for each site, made on the device: each value is kept with probability 1 - rate, to 1/65536.

    A mask's value is a function of the 64-bit key, the number of the site and the position only.

    Masks are arguments of a network's call. Student and teacher share them because both get the same ones, under
    autocast and torch.compile too. Restoring the state of a global generator would fail if
    other code sampled in between, and would cover one device only.

    >>> (mask,) = draw_masks([DropoutSite(channels=2, height=4, width=4, rate=0.5)], batch=3, key=7)
    >>> mask.shape, mask.dtype
    (torch.Size([3, 2, 4, 4]), torch.bool)

    Raises:
        ValueError: not 0 <= key < 2^64, or not 0 <= rate < 1.
    """
    if not 0 <= key < 1 << 64:
        raise ValueError(f"key: expected 0 <= key < 2^64, got {key}. Sample it with random_raw().")
    for site in sites:
        if not 0 <= site.rate < 1:
            raise ValueError(f"rate: expected 0 <= rate < 1, got {site.rate}. It is the fraction of values to drop.")
    shapes = [(batch, site.channels, site.height, site.width) for site in sites]
    words = [-(-math.prod(shape) // 4) for shape in shapes]
    counters = torch.arange(min(max(words, default=0), _BLOCK), device=device).mul_(_STRIDE)
    blocks = torch.arange(-(-max(words, default=0) // _BLOCK), device=device).mul_(_STRIDE)
    of_sites = _mix(torch.arange(len(sites), device=device).mul_(_STRIDE).bitwise_xor_(_as_int64(key)))
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
    """Return h / (1 - rate) where the mask is true, which keeps the mean, and 0 elsewhere."""
    return h * mask / (1 - rate)


def _fill(
    kept: Bool[Tensor, " values"], keys: Int64[Tensor, " blocks 1"], counters: Int64[Tensor, " words"], rate: float
) -> None:
    """Set each value to whether its 16 bits, a quarter of a 64-bit word, reach the threshold of the rate."""
    # The 16 bits are read as a signed number. Every rate below 1 keeps some values.
    threshold = min(round(rate * 65536), 65535) - 32768
    rows = _blocks_at_a_time(kept.device)
    for first in range(0, len(keys), rows):
        numbers = _mix(counters ^ keys[first : first + rows]).view(torch.int16).view(-1)
        here = kept[4 * len(counters) * first :][: len(numbers)]
        # An in-place comparison and a copy are five times as fast on the CPU as a comparison that returns bools.
        here.copy_(numbers[: len(here)].ge_(threshold))


def _as_int64(key: int) -> int:
    """Return the signed integer with the same 64 bits as an unsigned one."""
    return key - (key >> 63 << 64)


def _blocks_at_a_time(device: torch.device) -> int:
    # One block fits into a core's cache; an accelerator needs 2^24 words to be busy.
    return 1 if device.type == "cpu" else 1 << 9


def _mix(x: Int64[Tensor, "*words"]) -> Int64[Tensor, "*words"]:
    """Mix each word in place, as splitmix64 does; products are modulo 2^64."""
    x.bitwise_xor_(_shifted(x, 30)).mul_(_FIRST)
    x.bitwise_xor_(_shifted(x, 27)).mul_(_SECOND)
    return x.bitwise_xor_(_shifted(x, 31))


def _shifted(x: Int64[Tensor, "*words"], by: int) -> Int64[Tensor, "*words"]:
    # Torch fills an int64 with copies of the sign bit, which are set to 0 here.
    return (x >> by).bitwise_and_((1 << 64 - by) - 1)
