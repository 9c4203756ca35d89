"""The arithmetic of GPUs on a CPU: operands and results of products are rounded, and sums are in float32.

Products are those of matrices, convolutions and attention.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

OPERANDS: Mapping[str, int] = {"operands of 11 bits": 11, "operands of 8 bits": 8}
"""Bounds of what a policy can reach: only operands are rounded, to these significant bits; all else is in float64."""
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
TF32_BITS = 11
PRODUCTS = (F.conv2d, F.conv_transpose2d, F.linear, F.scaled_dot_product_attention)
Rounding = Callable[[Tensor], Tensor]


def emulation(policy: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context that emulates what a device does not compute itself."""
    if policy in OPERANDS:
        return Emulated(rounds_to_bits(OPERANDS[policy]), unchanged, active=lambda: True)
    if device.type == "cuda" or policy not in ("tf32", *DTYPES):
        return nullcontext()
    if policy == "tf32":
        return Emulated(rounds_to_bits(TF32_BITS), rounds_gradient_to_bits(TF32_BITS), active=tf32_is_allowed)
    dtype = DTYPES[policy]
    return Emulated(rounds_to(dtype), lambda x: x.to(dtype), active=autocast_is_enabled)


class Emulated(TorchFunctionMode):
    """A context in which convolutions and products round their operands and results wherever `active` is true.

    Gradients are rounded as well, because the roundings are part of the graph.
    """

    def __init__(self, operand: Rounding, result: Rounding, *, active: Callable[[], bool]) -> None:
        super().__init__()
        self.operand, self.result, self.active = operand, result, active

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Round around the operations of PRODUCTS."""
        if func not in PRODUCTS or not self.active():
            return func(*args, **(kwargs or {}))
        with torch.autocast("cpu", enabled=False):
            if func is F.scaled_dot_product_attention:
                q, k, v = (self.operand(value) for value in args)
                shares = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
                return self.result(self.operand(shares) @ v)
            rounded = [self.operand(value) if isinstance(value, Tensor) else value for value in args]
            return self.result(func(*rounded, **(kwargs or {})))


def tf32_is_allowed() -> bool:
    """Return whether torch may use TF32, as `networks.precision.use_precision` sets it."""
    return torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32


def autocast_is_enabled() -> bool:
    """Return whether the CPU's autocast is on."""
    return torch.is_autocast_enabled("cpu")


def significant(x: Float[Tensor, "*shape"], bits: int) -> Float[Tensor, "*shape"]:
    """Return float32 or float64 rounded to this number of significant bits, to nearest (Veltkamp)."""
    dropped = (53 if x.dtype == torch.float64 else 24) - bits
    large: Tensor = x * (2.0**dropped + 1)
    return large - (large - x)


class _Significant(torch.autograd.Function):
    """Rounding to significant bits, forward, backward or both."""

    @staticmethod
    def forward(ctx: Any, x: Float[Tensor, "*shape"], value: int, gradient: int) -> Float[Tensor, "*shape"]:
        """Return x rounded to `value` bits; 0 keeps it."""
        ctx.bits = gradient
        return significant(x, value) if value else x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], None, None]:
        """Return the gradient, rounded as `gradient` has it."""
        (gradient,) = gradients
        return significant(gradient, ctx.bits) if ctx.bits else gradient, None, None


def rounds_to_bits(bits: int) -> Rounding:
    """Return a function that rounds to this number of significant bits and keeps the gradient."""
    return lambda x: _Significant.apply(x, bits, 0)  # type: ignore[no-untyped-call]


def rounds_gradient_to_bits(bits: int) -> Rounding:
    """Return a function that keeps x and rounds its gradient, which is an operand of the backward pass."""
    return lambda x: _Significant.apply(x, 0, bits)  # type: ignore[no-untyped-call]


def rounds_to(dtype: torch.dtype) -> Rounding:
    """Return a function that rounds to a 16-bit dtype, as float32."""
    return lambda x: x.to(dtype).float()


def unchanged(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return x."""
    return x
