"""The Triton kernels of `networks.norm`, imported where a tensor is on a GPU.

A program computes one group of one example. It reads the group's values three times, after the first time from a cache.
The strides of x are arguments, so the kernels keep both memory formats.
"""

from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

TILE = 2048
"""Largest number of values that a program holds at a time."""


def forward(
    x: Float[Tensor, " batch channels height width"],
    shift: Float[Tensor, " batch channels"] | None,
    offset: Float[Tensor, " channels"] | None,
    weight: Float[Tensor, " channels"],
    bias: Float[Tensor, " channels"],
    mask: Bool[Tensor, " batch channels height width"] | None,
    groups: int,
    eps: float,
    rate: float,
    silu: bool,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the result, and mean and reciprocal standard deviation of each group, by one kernel."""
    x = _dense(x)
    y = torch.empty_like(x, dtype=dtype)
    mean, rstd = (weight.new_empty(len(x), groups) for _ in range(2))
    given = x, _contiguous(shift, x), _contiguous(offset, x), weight, bias, _bytes(mask, x), y, mean, rstd
    numbers: Any = _numbers(x, groups, rate)._asdict()
    optional = _parts(shift, offset, mask) | {"SILU": silu, "EPS": eps}
    _forward[len(x) * groups,](*given, **numbers, **optional, ACC=_accumulator(weight))
    return y, mean, rstd


def backward(
    dy: Float[Tensor, " batch channels height width"],
    x: Float[Tensor, " batch channels height width"],
    shift: Float[Tensor, " batch channels"] | None,
    offset: Float[Tensor, " channels"] | None,
    weight: Float[Tensor, " channels"],
    bias: Float[Tensor, " channels"],
    mask: Bool[Tensor, " batch channels height width"] | None,
    mean: Float[Tensor, " batch groups"],
    rstd: Float[Tensor, " batch groups"],
    groups: int,
    rate: float,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """Return the gradient by x, and those by bias, weight and shift for each example, by one kernel."""
    x = _dense(x)
    dx = torch.empty_like(x)
    # The gradient has the strides of x.
    dy = torch.empty_like(x, dtype=dy.dtype).copy_(dy) if dy.stride() != x.stride() else dy
    sums = weight.new_empty(2 if shift is None and offset is None else 3, len(x), x.shape[1])
    added = _contiguous(shift, x), _contiguous(offset, x)
    given = dy, x, *added, weight, bias, _bytes(mask, x), mean, rstd, dx, sums
    numbers: Any = _numbers(x, groups, rate)._asdict()
    optional = _parts(shift, offset, mask) | {"SILU": silu}
    _backward[len(x) * groups,](*given, batch=len(x), **numbers, **optional, ACC=_accumulator(weight))
    return dx, sums


class _Numbers(NamedTuple):
    """The shape of a group and the strides of x; those in capitals are constants of the compiled kernel."""

    channels: int
    pixels: int
    groups: int
    of_example: int
    of_channel: int
    of_pixel: int
    SCALE: float
    CHANNELS: int
    """Channels of a group."""
    ROWS: int
    COLUMNS: int


def _numbers(x: Float[Tensor, " batch channels height width"], groups: int, rate: float) -> _Numbers:
    channels, pixels = x.shape[1], x[0, 0].numel()
    of_pixel = 1 if x.is_contiguous() else channels
    rows = triton.next_power_of_2(channels // groups)
    columns = min(triton.next_power_of_2(pixels), max(1, TILE // rows))
    of_channel = pixels if of_pixel == 1 else 1
    size = channels // groups
    return _Numbers(
        channels, pixels, groups, channels * pixels, of_channel, of_pixel, 1 / (1 - rate), size, rows, columns
    )


def _parts(shift: Tensor | None, offset: Tensor | None, mask: Tensor | None) -> dict[str, Any]:
    """Return the constants that say which arguments the kernel reads."""
    return {"SHIFT": shift is not None, "OFFSET": offset is not None, "MASK": mask is not None}


def _dense(x: Float[Tensor, " batch channels height width"]) -> Float[Tensor, " batch channels height width"]:
    """Return x in one of the two memory formats."""
    return x if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def _contiguous(value: Tensor | None, instead: Tensor) -> Tensor:
    """Return the tensor, or any other one for an argument that the kernel does not read."""
    return instead if value is None else value.contiguous()


def _bytes(mask: Tensor | None, instead: Tensor) -> Tensor:
    return instead if mask is None else mask.contiguous().view(torch.uint8)


def _accumulator(weight: Float[Tensor, " channels"]) -> Any:
    return tl.float64 if weight.dtype == torch.float64 else tl.float32


@triton.jit
@no_type_check
def _added(shift, offset, example, channels, channel, is_row, ROWS: tl.constexpr, SHIFT: tl.constexpr,
           OFFSET: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """Return what is added to each channel of the group."""
    added = tl.zeros((ROWS,), ACC)
    if SHIFT:
        added += tl.load(shift + example * channels + channel, mask=is_row, other=0).to(ACC)
    if OFFSET:
        added += tl.load(offset + channel, mask=is_row, other=0).to(ACC)
    return added


@triton.jit
@no_type_check
def _dropped(value, mask, at, inside, SCALE: tl.constexpr):
    """Return the values that the mask keeps, scaled, and 0 elsewhere."""
    return tl.where(tl.load(mask + at, mask=inside, other=0) != 0, value * SCALE, 0)


@triton.jit
@no_type_check
def _forward(
    x, shift, offset, weight, bias, mask, y, mean, rstd,
    channels, pixels, groups, of_example, of_channel, of_pixel,
    SCALE: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    SHIFT: tl.constexpr, OFFSET: tl.constexpr, MASK: tl.constexpr, SILU: tl.constexpr, EPS: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    example, group = (program // groups).to(tl.int64), program % groups
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    is_row, channel = row < CHANNELS, group * CHANNELS + row
    added = _added(shift, offset, example, channels, channel, is_row, ROWS, SHIFT, OFFSET, ACC)
    of_rows = x + example * of_example + channel[:, None] * of_channel
    count = CHANNELS * pixels

    total = tl.zeros((ROWS, COLUMNS), ACC)
    for first in range(0, pixels, COLUMNS):
        pixel = first + column[None, :]
        inside = is_row[:, None] & (pixel < pixels)
        value = tl.load(of_rows + pixel * of_pixel, mask=inside, other=0).to(ACC) + added[:, None]
        total += tl.where(inside, value, 0)
    center = tl.sum(tl.sum(total, 1), 0) / count

    total = tl.zeros((ROWS, COLUMNS), ACC)
    for first in range(0, pixels, COLUMNS):
        pixel = first + column[None, :]
        inside = is_row[:, None] & (pixel < pixels)
        value = tl.load(of_rows + pixel * of_pixel, mask=inside, other=0).to(ACC) + added[:, None] - center
        total += tl.where(inside, value * value, 0)
    scale = 1 / tl.sqrt(tl.sum(tl.sum(total, 1), 0) / count + EPS)
    tl.store(mean + program, center)
    tl.store(rstd + program, scale)

    gamma = tl.load(weight + channel, mask=is_row, other=0).to(ACC)
    beta = tl.load(bias + channel, mask=is_row, other=0).to(ACC)
    for first in range(0, pixels, COLUMNS):
        pixel = first + column[None, :]
        inside = is_row[:, None] & (pixel < pixels)
        value = tl.load(of_rows + pixel * of_pixel, mask=inside, other=0).to(ACC) + added[:, None]
        value = (value - center) * scale * gamma[:, None] + beta[:, None]
        if SILU:
            value = value / (1 + tl.exp(-value))
        if MASK:
            value = _dropped(value, mask, (example * channels + channel[:, None]) * pixels + pixel, inside, SCALE)
        to = y + example * of_example + channel[:, None] * of_channel + pixel * of_pixel
        tl.store(to, value.to(y.dtype.element_ty), mask=inside)


# Without specialisation, a batch of 1 would be a constant, which cannot be converted.
@triton.jit(do_not_specialize=["batch"])
@no_type_check
def _backward(
    dy, x, shift, offset, weight, bias, mask, mean, rstd, dx, sums,
    batch, channels, pixels, groups, of_example, of_channel, of_pixel,
    SCALE: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    SHIFT: tl.constexpr, OFFSET: tl.constexpr, MASK: tl.constexpr, SILU: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)
    example, group = (program // groups).to(tl.int64), program % groups
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    is_row, channel = row < CHANNELS, group * CHANNELS + row
    center, scale = tl.load(mean + program), tl.load(rstd + program)
    added = _added(shift, offset, example, channels, channel, is_row, ROWS, SHIFT, OFFSET, ACC)
    gamma = tl.load(weight + channel, mask=is_row, other=0).to(ACC)
    beta = tl.load(bias + channel, mask=is_row, other=0).to(ACC)

    by_bias = tl.zeros((ROWS, COLUMNS), ACC)
    by_weight = tl.zeros((ROWS, COLUMNS), ACC)
    normals = tl.zeros((ROWS, COLUMNS), ACC)
    for first in range(0, pixels, COLUMNS):
        pixel = first + column[None, :]
        inside = is_row[:, None] & (pixel < pixels)
        at = example * of_example + channel[:, None] * of_channel + pixel * of_pixel
        kept = (example * channels + channel[:, None]) * pixels + pixel
        normal = (tl.load(x + at, mask=inside, other=0).to(ACC) + added[:, None] - center) * scale
        gradient = _of_norm(dy, mask, at, kept, inside, normal, gamma, beta, SCALE, MASK, SILU, ACC)
        by_bias += gradient
        by_weight += gradient * normal
        normals += tl.where(inside, normal, 0)
    of_bias, of_weight = tl.sum(by_bias, 1), tl.sum(by_weight, 1)
    count = CHANNELS * pixels
    mean_gradient = tl.sum(gamma * of_bias, 0) / count
    mean_product = tl.sum(gamma * of_weight, 0) / count
    to = sums + example * channels + channel
    tl.store(to, of_bias, mask=is_row)
    tl.store(to + batch.to(tl.int64) * channels, of_weight, mask=is_row)
    if SHIFT or OFFSET:
        of_shift = scale * (gamma * of_bias - pixels * mean_gradient - mean_product * tl.sum(normals, 1))
        tl.store(to + 2 * batch.to(tl.int64) * channels, of_shift, mask=is_row)

    for first in range(0, pixels, COLUMNS):
        pixel = first + column[None, :]
        inside = is_row[:, None] & (pixel < pixels)
        at = example * of_example + channel[:, None] * of_channel + pixel * of_pixel
        kept = (example * channels + channel[:, None]) * pixels + pixel
        normal = (tl.load(x + at, mask=inside, other=0).to(ACC) + added[:, None] - center) * scale
        gradient = _of_norm(dy, mask, at, kept, inside, normal, gamma, beta, SCALE, MASK, SILU, ACC)
        value = scale * (gamma[:, None] * gradient - mean_gradient - mean_product * normal)
        tl.store(dx + at, value.to(dx.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _of_norm(dy, mask, at, kept, inside, normal, gamma, beta, SCALE: tl.constexpr, MASK: tl.constexpr,
             SILU: tl.constexpr, ACC: tl.constexpr):  # fmt: skip
    """Return the gradient by the result of the normalisation."""
    gradient = tl.load(dy + at, mask=inside, other=0).to(ACC)
    if MASK:
        gradient = _dropped(gradient, mask, kept, inside, SCALE)
    if SILU:
        value = normal * gamma[:, None] + beta[:, None]
        share = 1 / (1 + tl.exp(-value))
        gradient *= share * (1 + value * (1 - share))
    return gradient
