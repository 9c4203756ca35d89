"""Group normalisation, SiLU and dropout as one operation, which keeps its input alone for the backward pass."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ict_ref.networks.dropout import drop
from ict_ref.networks.kernels import define, has_triton, runs_kernels
from ict_ref.networks.precision import autocast_dtype


def norm_silu_drop(
    norm: nn.GroupNorm,
    x: Float[Tensor, " batch channels height width"],
    *,
    shift: Float[Tensor, " batch channels"] | None = None,
    offset: Float[Tensor, " channels"] | None = None,
    mask: Bool[Tensor, " batch channels height width"] | None = None,
    rate: float = 0.0,
    silu: bool = True,
    product: bool = True,
) -> Float[Tensor, " batch channels height width"]:
    """Return drop(silu(norm(x + shift + offset))), without the parts whose argument is missing.

    `shift` and `offset` are added to each channel. The mask drops values at `rate`. With `product` the result is the
    operand of a convolution or product: under autocast on a GPU in its 16-bit dtype. Everything is computed in the
    dtype of the parameters.

    On a GPU this is one kernel, and one in the backward pass, which computes everything again from x. Under
    torch.compile, in forward-mode differentiation and on a CPU it consists of torch's operations.
    """
    if not fuses(x, norm.weight):
        return _activated(norm(_shifted(x, shift, offset, norm.weight.dtype)), mask, rate, silu)
    low = autocast_dtype(x.device) if product else None
    dtype = norm.weight.dtype if low is None else low
    options = _Options(norm.num_groups, norm.eps, rate, silu, dtype)
    y: Tensor = _NormSiluDrop.apply(x, shift, offset, norm.weight, norm.bias, mask, options)  # type: ignore[no-untyped-call]
    return y


def fuses(x: Float[Tensor, " batch _ _ _"], weight: Float[Tensor, " channels"]) -> bool:
    """Return whether the fused operation is used, which computes in float32 or better."""
    return weight.dtype.itemsize >= 4 and runs_kernels(x)


class _Options(NamedTuple):
    """The numbers of a fused operation, and the dtype of its result."""

    groups: int
    eps: float
    rate: float
    silu: bool
    dtype: torch.dtype


class _NormSiluDrop(torch.autograd.Function):
    """The fused operation. It saves its input and the statistics of each group."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, " batch channels height width"],
        shift: Float[Tensor, " batch channels"] | None,
        offset: Float[Tensor, " channels"] | None,
        weight: Float[Tensor, " channels"],
        bias: Float[Tensor, " channels"],
        mask: Bool[Tensor, " batch channels height width"] | None,
        options: _Options,
    ) -> Float[Tensor, " batch channels height width"]:
        """Return the result in the dtype of the options."""
        y, mean, rstd = _FORWARD(x, shift, offset, weight, bias, mask, *options)
        ctx.save_for_backward(x, shift, offset, weight, bias, mask, mean, rstd)
        ctx.options = options
        result: Tensor = y
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, " batch channels height width"]) -> tuple[Tensor | None, ...]:
        """Return the gradients by x, shift, offset, weight and bias, which torch can differentiate again."""
        (dy,) = gradients
        x, shift, offset, weight, bias, mask, mean, rstd = ctx.saved_tensors
        options: _Options = ctx.options
        if torch.is_grad_enabled():
            return _differentiable_backward(dy, x, shift, offset, weight, bias, mask, options)
        numbers = options.groups, options.rate, options.silu
        dx, sums = _BACKWARD(dy, x, shift, offset, weight, bias, mask, mean, rstd, *numbers)
        dbias, dweight, *doffset = sums.sum(1).unbind()
        dshift = None if shift is None else sums[2]
        return dx, dshift, None if offset is None else doffset[0], dweight, dbias, None, None


def _differentiable_backward(
    dy: Float[Tensor, " batch channels height width"],
    x: Float[Tensor, " batch channels height width"],
    shift: Float[Tensor, " batch channels"] | None,
    offset: Float[Tensor, " channels"] | None,
    weight: Float[Tensor, " channels"],
    bias: Float[Tensor, " channels"],
    mask: Bool[Tensor, " batch channels height width"] | None,
    options: _Options,
) -> tuple[Tensor | None, ...]:
    """Return the same gradients with a graph, for a second derivative."""
    h = _shifted(x, shift, offset, weight.dtype)
    h = F.group_norm(h, options.groups, weight, bias, options.eps)
    y = _activated(h, mask, options.rate, options.silu).to(options.dtype)
    given = [x, shift, offset, weight, bias]
    wanted = [tensor for tensor in given if tensor is not None and tensor.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=True))
    gradients = [next(found) if tensor is not None and tensor.requires_grad else None for tensor in given]
    return (*gradients, None, None)


def _shifted(
    x: Float[Tensor, " batch channels height width"],
    shift: Float[Tensor, " batch channels"] | None,
    offset: Float[Tensor, " channels"] | None,
    dtype: torch.dtype,
) -> Float[Tensor, " batch channels height width"]:
    """Return x + shift + offset in a dtype."""
    x = x.to(dtype)
    if offset is not None:
        x = x + offset[:, None, None]
    return x if shift is None else x + shift[:, :, None, None]


def _activated(
    h: Float[Tensor, " batch channels height width"],
    mask: Bool[Tensor, " batch channels height width"] | None,
    rate: float,
    silu: bool,
) -> Float[Tensor, " batch channels height width"]:
    """Return drop(silu(h)), without the parts that are missing."""
    h = F.silu(h) if silu else h
    return h if mask is None else drop(h, mask, rate)


def _forward(
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
    """Return the result, and mean and reciprocal standard deviation of each group, by torch's operations."""
    h = _shifted(x, shift, offset, weight.dtype)
    n, channels, pixels = len(x), x.shape[1], x[0, 0].numel()
    y, mean, rstd = torch.native_group_norm(h, weight, bias, n, channels, pixels, groups, eps)
    return _activated(y, mask, rate, silu).to(dtype), mean, rstd


def _backward(
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
    """Return the gradient by x, and those by bias, weight and shift for each example, by torch's operations."""
    h = _shifted(x, shift, offset, weight.dtype)
    n, channels, pixels = len(x), x.shape[1], x[0, 0].numel()
    of_channel = (mean, rstd)
    center, scale = (each.repeat_interleave(channels // groups, 1)[:, :, None, None] for each in of_channel)
    normal = (h - center) * scale
    gradient = dy.to(weight.dtype)
    if mask is not None:
        gradient = drop(gradient, mask, rate)
    if silu:
        affine = normal * weight[:, None, None] + bias[:, None, None]
        gradient = torch.ops.aten.silu_backward(gradient, affine)
    # The kernel takes tensors of one memory format.
    gradient, h = gradient.contiguous(), h.contiguous()
    dh, _, _ = torch.ops.aten.native_group_norm_backward(
        gradient, h, mean, rstd, weight, n, channels, pixels, groups, [True, False, False]
    )
    sums = [gradient.sum((2, 3)), (gradient * normal).sum((2, 3))]
    if shift is not None or offset is not None:
        sums.append(dh.sum((2, 3)))
    return dh.to(x.dtype), torch.stack(sums)


def _forward_on_a_gpu(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    if not has_triton():
        return _forward(*given)
    from ict_ref.networks.norm_kernel import forward

    return forward(*given)


def _backward_on_a_gpu(*given: Any) -> tuple[Tensor, Tensor]:
    if not has_triton():
        return _backward(*given)
    from ict_ref.networks.norm_kernel import backward

    return backward(*given)


def _forward_shapes(
    x: Tensor, _shift: Any, _offset: Any, weight: Tensor, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    groups, dtype = others[2], others[-1]
    mean, rstd = (weight.new_empty(len(x), groups) for _ in range(2))
    return torch.empty_like(x, dtype=dtype), mean, rstd


def _backward_shapes(
    _dy: Tensor, x: Tensor, shift: Tensor | None, offset: Tensor | None, weight: Tensor, *_: Any
) -> tuple[Tensor, Tensor]:
    sums = 2 if shift is None and offset is None else 3
    return torch.empty_like(x), weight.new_empty(sums, len(x), x.shape[1])


_FORWARD = define(
    "norm_silu_drop(Tensor x, Tensor? shift, Tensor? offset, Tensor weight, Tensor bias, Tensor? mask, int groups, "
    "float eps, float rate, bool silu, ScalarType dtype) -> (Tensor, Tensor, Tensor)",
    cuda=_forward_on_a_gpu,
    meta=_forward_shapes,
    cpu=_forward,
)
_BACKWARD = define(
    "norm_silu_drop_backward(Tensor dy, Tensor x, Tensor? shift, Tensor? offset, Tensor weight, Tensor bias, "
    "Tensor? mask, Tensor mean, Tensor rstd, int groups, float rate, bool silu) -> (Tensor, Tensor)",
    cuda=_backward_on_a_gpu,
    meta=_backward_shapes,
    cpu=_backward,
)
