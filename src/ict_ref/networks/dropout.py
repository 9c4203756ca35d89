"""Dropout by explicit masks, each a pure function of a key, with the same bits on each device."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ict_ref.networks.kernels import define, has_triton, runs_kernels

Masks: TypeAlias = tuple[Bool[Tensor, " batch _ _ _"], ...]
"""One mask per dropout site of a network, in the order of the forward pass: true where a value is kept."""

# The increment and the two multipliers of splitmix64 (Steele, Lea & Flood 2014), as the int64 of the same bits.
_STRIDE, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
# Number of words that share a key, small enough for a core's cache, and its logarithm.
_BLOCK, _LOG_BLOCK = 1 << 15, 15


class DropoutSite(NamedTuple):
    """A place where a network drops values: the shape of one example's map there, and the dropout rate."""

    channels: int
    height: int
    width: int
    rate: float

    @property
    def values(self) -> int:
        """Return the number of values of one example's map."""
        return self.channels * self.height * self.width


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
    return draw_shard_masks(sites, batch, mask_keys([key]).to(device))


def mask_keys(keys: Iterable[int]) -> Int64[Tensor, " shards"]:
    """Return 64-bit keys as a tensor on the CPU: the signed integers of the same bits.

    >>> mask_keys([7, 2**64 - 1])
    tensor([ 7, -1])

    Raises:
        ValueError: not 0 <= key < 2^64.
    """
    keys = list(keys)
    for key in keys:
        if not 0 <= key < 1 << 64:
            raise ValueError(f"key: expected 0 <= key < 2^64, got {key}. Sample it with random_raw().")
    return torch.tensor([_as_int64(key) for key in keys], dtype=torch.int64)


def draw_shard_masks(sites: Sequence[DropoutSite], batch: int, keys: Int64[Tensor, " shards"]) -> Masks:
    """Return the masks of several noise shards of `batch` examples each, with the bits of `draw_masks` for each key.

    Each mask has a row per example, shard after shard. It is made on the device of the keys, on a GPU by one kernel
    per site. The keys are a tensor, so that torch.compile traces the function once for all keys.

    >>> sites = [DropoutSite(channels=2, height=4, width=4, rate=0.5)]
    >>> (mask,) = draw_shard_masks(sites, 3, mask_keys([7, 8]))
    >>> torch.equal(mask[3:], draw_masks(sites, 3, key=8)[0])
    True

    Raises:
        ValueError: not 0 <= rate < 1.
    """
    for site in sites:
        if not 0 <= site.rate < 1:
            raise ValueError(f"rate: expected 0 <= rate < 1, got {site.rate}. It is the fraction of values to drop.")
    if keys.device.type == "cpu" and not torch.compiler.is_compiling():
        kept = _on_the_cpu(sites, batch, keys)
    else:
        of_site = _functional if torch.compiler.is_compiling() else _KERNEL
        kept = [of_site(keys, k, batch * site.values, _threshold(site.rate)) for k, site in enumerate(sites)]
    return tuple(mask.view(-1, *site[:3]) for mask, site in zip(kept, sites, strict=True))


def drop(
    h: Float[Tensor, " batch channels height width"],
    mask: Bool[Tensor, " batch channels height width"],
    rate: float,
) -> Float[Tensor, " batch channels height width"]:
    """Return h / (1 - rate) where the mask is true, which keeps the mean, and 0 elsewhere.

    On a GPU this is one kernel, and one in the backward pass.
    """
    if not runs_kernels(h):
        return h * mask / (1 - rate)
    dropped: Tensor = _Drop.apply(h, mask, 1 / (1 - rate))  # type: ignore[no-untyped-call]
    return dropped


class _Drop(torch.autograd.Function):
    """h * mask * scale by one kernel. It saves the mask alone."""

    @staticmethod
    def forward(
        ctx: Any, h: Float[Tensor, " batch _ _ _"], mask: Bool[Tensor, " batch _ _ _"], scale: float
    ) -> Float[Tensor, " batch _ _ _"]:
        """Return h * mask * scale."""
        ctx.save_for_backward(mask)
        ctx.scale = scale
        dropped: Tensor = torch.ops.aten.native_dropout_backward(h, mask, scale)
        return dropped

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, " batch _ _ _"]) -> tuple[Tensor, None, None]:
        """Return the gradient by h, which torch can differentiate again."""
        (gradient,) = gradients
        (mask,) = ctx.saved_tensors
        return _Drop.apply(gradient, mask, ctx.scale), None, None  # type: ignore[no-untyped-call]


def _on_the_cpu(
    sites: Sequence[DropoutSite], batch: int, keys: Int64[Tensor, " shards"]
) -> list[Bool[Tensor, " shards _"]]:
    """Return the masks of each site, a cache's worth of words at a time."""
    words = [_words(batch * site.values) for site in sites]
    counters = _counters()
    blocks = torch.arange(-(-max(words, default=0) // _BLOCK)).mul_(_STRIDE)
    of_sites = _mix(torch.arange(len(sites)).mul_(_STRIDE)[:, None] ^ keys)
    of_blocks = _mix(of_sites[:, :, None] ^ blocks)
    made = []
    for site, count, block_keys in zip(sites, words, of_blocks, strict=True):
        kept = torch.empty(len(keys), batch * site.values, dtype=torch.bool)
        _fill(kept, block_keys[:, : -(-count // _BLOCK)], counters[:count], _threshold(site.rate))
        made.append(kept)
    return made


def _fill(
    kept: Bool[Tensor, " shards values"],
    keys: Int64[Tensor, " shards blocks"],
    counters: Int64[Tensor, " words"],
    threshold: int,
) -> None:
    """Set each value to whether its 16 bits, a quarter of a 64-bit word, reach the threshold."""
    width, rows = 4 * len(counters), max(1, _BLOCK // max(1, len(counters)))
    for block in range(keys.shape[1]):
        for first in range(0, len(keys), rows):
            here = kept[first : first + rows, width * block : width * (block + 1)]
            numbers = _mix(counters ^ keys[first : first + rows, block, None]).view(torch.int16)
            # An in-place comparison and a copy are five times as fast on the CPU as a comparison that returns bools.
            here.copy_(numbers[:, : here.shape[1]].ge_(threshold))


def _functional(
    keys: Int64[Tensor, " shards"], site: int, values: int, threshold: int
) -> Bool[Tensor, " shards {values}"]:
    """Return one site's mask by operations that torch.compile fuses."""
    word = torch.arange(_words(values), device=keys.device)
    of_site = _mix(keys ^ _as_int64(site * _STRIDE % (1 << 64)))
    of_block = _mix(of_site[:, None] ^ (word >> _LOG_BLOCK) * _STRIDE)
    mixed = _mix(of_block ^ (word & _BLOCK - 1) * _STRIDE)
    # The shifts return a quarter of the word as a signed number.
    quarters = [((mixed << 48 - 16 * quarter) >> 48) >= threshold for quarter in range(4)]
    return torch.stack(quarters, -1).flatten(1)[:, :values].contiguous()


def _on_a_gpu(
    keys: Int64[Tensor, " shards"], site: int, values: int, threshold: int
) -> Bool[Tensor, " shards {values}"]:
    """Return one site's mask by one kernel, or without Triton by torch's operations."""
    if not has_triton():
        return _functional(keys, site, values, threshold)
    from ict_ref.networks.mask_kernel import mask_of_site

    return mask_of_site(keys, site, values, threshold)


def _shape_of_mask(
    keys: Int64[Tensor, " shards"], _site: int, values: int, _threshold: int
) -> Bool[Tensor, " shards {values}"]:
    return keys.new_empty(len(keys), values, dtype=torch.bool)


_KERNEL = define(
    "dropout_mask(Tensor keys, int site, int values, int threshold) -> Tensor", cuda=_on_a_gpu, meta=_shape_of_mask
)


def _words(values: int) -> int:
    return -(-values // 4)


def _threshold(rate: float) -> int:
    """Return the least signed 16-bit number that is kept. Every rate below 1 keeps some values."""
    return min(round(rate * 65536), 65535) - 32768


@lru_cache(maxsize=1)
def _counters() -> Int64[Tensor, " words"]:
    return torch.arange(_BLOCK).mul_(_STRIDE)


def _as_int64(key: int) -> int:
    """Return the signed integer with the same 64 bits as an unsigned one."""
    return key - (key >> 63 << 64)


def _mix(x: Int64[Tensor, "*words"]) -> Int64[Tensor, "*words"]:
    """Mix each word in place, as splitmix64 does; products are modulo 2^64."""
    x.bitwise_xor_(_shifted(x, 30)).mul_(_FIRST)
    x.bitwise_xor_(_shifted(x, 27)).mul_(_SECOND)
    return x.bitwise_xor_(_shifted(x, 31))


def _shifted(x: Int64[Tensor, "*words"], by: int) -> Int64[Tensor, "*words"]:
    # Torch fills an int64 with copies of the sign bit, which are set to 0 here.
    return (x >> by).bitwise_and_((1 << 64 - by) - 1)
