"""The Triton kernel of dropout masks, imported where a tensor is on a GPU."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Int64
from torch import Tensor

WORDS = 1024
"""Words of a program; a divisor of the 2^15 words that share a key."""


def mask_of_site(
    keys: Int64[Tensor, " shards"], site: int, values: int, threshold: int
) -> Bool[Tensor, " shards {values}"]:
    """Return one site's mask for all noise shards, by one kernel."""
    kept = torch.empty(len(keys), values, dtype=torch.bool, device=keys.device)
    grid: Any = (triton.cdiv(values, 4 * WORDS), len(keys))
    _mask[grid](kept.view(torch.uint8), keys, site, values, threshold, WORDS=WORDS)
    return kept


@triton.jit
@no_type_check
def _mix(x):
    """Mix each word as splitmix64 does."""
    x = (x ^ (x >> 30)) * tl.full((), 0xBF58476D1CE4E5B9, tl.uint64)
    x = (x ^ (x >> 27)) * tl.full((), 0x94D049BB133111EB, tl.uint64)
    return x ^ (x >> 31)


# Without specialisation, a number of 1 would be a constant, which cannot be converted.
@triton.jit(do_not_specialize=["site", "threshold"])
@no_type_check
def _mask(kept, keys, site, values, threshold, WORDS: tl.constexpr):
    stride = tl.full((), 0x9E3779B97F4A7C15, tl.uint64)
    shard = tl.program_id(1)
    first = tl.program_id(0) * WORDS
    key = tl.load(keys + shard).to(tl.uint64, bitcast=True)
    key = _mix(key ^ (site.to(tl.uint64) * stride))
    key = _mix(key ^ ((first // 32768).to(tl.uint64) * stride))
    word = first + tl.arange(0, WORDS)
    mixed = _mix(key ^ ((word % 32768).to(tl.uint64) * stride))
    quarter = tl.arange(0, 4)
    number = ((mixed[:, None] >> (16 * quarter[None, :]).to(tl.uint64)) & 0xFFFF).to(tl.int32)
    number = tl.where(number >= 32768, number - 65536, number)
    position = 4 * word[:, None] + quarter[None, :]
    to = kept + shard.to(tl.int64) * values + position
    tl.store(to, (number >= threshold).to(tl.uint8), mask=position < values)
