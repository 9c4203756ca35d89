"""A tiny network with chosen gradients, and the record of a training loop's calls of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

WEIGHTS = ("weight", "bias")
"""The parameters. `weight` begins at 0, near which float32 is as precise as float64; `bias` does not."""
BUFFERS = ("frequencies", "running", "count")
"""A constant buffer, one that each call in training mode changes, and an integer one that counts these calls."""
SIZE = 16
# So large that a gradient of any sensible clipping norm is smaller, and so small that its square is finite in float32.
HUGE = 1e6


@dataclass(frozen=True)
class NetworkCall:
    """One call of the network in training mode."""

    x: Shaped[Tensor, "..."]
    noise: Shaped[Tensor, " batch"]
    weights: Float[Tensor, " size"]
    has_gradient: bool


@dataclass
class Record:
    """The calls of the network and of all its copies, and the gradient that the next backward pass returns."""

    calls: list[NetworkCall] = field(default_factory=list)
    gradient: Float[Tensor, " size"] | None = None
    """The gradient of the next backward pass; later passes return 0 until it is set again."""
    always: bool = False
    """Whether every backward pass returns the gradient."""
    most_updates: int | None = None
    """Number of updates after which the loop is stopped."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Record":
        """Return the record itself: a copy of the network is recorded in the same list."""
        return self

    def begin_update(self, gradient: Float[Tensor, " size"]) -> None:
        """Set the gradient of the next update, and forget the calls of the last one."""
        self.calls.clear()
        self.gradient = gradient

    def next_gradient(self) -> Float[Tensor, " size"]:
        """Return the gradient of a backward pass: of several in one update, the first has all of it."""
        if self.gradient is None:
            return torch.zeros(SIZE, dtype=torch.float64)
        gradient = self.gradient
        self.gradient = gradient if self.always else None
        return gradient

    def add(self, call: NetworkCall) -> None:
        """Add a call.

        Raises:
            TooManyUpdatesError: The loop has made more updates than it may.
        """
        self.calls.append(call)
        if self.most_updates is not None and updates_of(self.calls) > self.most_updates:
            raise TooManyUpdatesError


class TooManyUpdatesError(BaseException):
    """The loop does not end. Not an Exception: loops that skip failed batches must not catch it."""


def updates_of(calls: Sequence[NetworkCall], last: Float[Tensor, " size"] | None = None) -> int:
    """Return the number of changes of the weights between calls with a gradient, and until `last`."""
    weights = [call.weights for call in calls if call.has_gradient] + ([] if last is None else [last])
    return sum(not torch.equal(old, new) for old, new in pairwise(weights))


class _ChosenGradient(torch.autograd.Function):
    """The identity of a value, whose gradient with respect to the weights is that of the record."""

    @staticmethod
    def forward(value: Tensor, *_: Any) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004 - names are torch's
        _, ctx.weight, ctx.bias, ctx.record = inputs

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple[Tensor | None, ...]:
        gradient = ctx.record.next_gradient()
        weight = gradient.to(ctx.weight, copy=True).reshape(ctx.weight.shape)  # the loop may clip it in place
        return None, weight, torch.zeros_like(ctx.bias), None


class TrainingNetwork(nn.Module):
    """F(x, c) = sin(3 x) + c / 10 with 16 weights, which have chosen gradients and do not change the output.

    `start` is the first value of the weights. A network without `integers` lacks the integer buffer.
    """

    def __init__(self, record: Record, *, start: float = 0.0, integers: bool = True) -> None:
        super().__init__()
        self.record = record
        self.weight = nn.Parameter(torch.full((4, SIZE // 4), start, dtype=torch.float64))
        self.bias = nn.Parameter(torch.full((4,), 0.5, dtype=torch.float64))
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("frequencies", torch.randn(4, generator=generator, dtype=torch.float64))
        self.register_buffer("running", torch.zeros(1, dtype=torch.float64))
        if integers:
            self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, noise: Tensor, *_: object, **__: object) -> Tensor:
        """Return F(x, c) and record the call."""
        c = torch.as_tensor(noise).reshape(-1)
        value = torch.sin(3 * x.detach()) + 0.1 * c.detach().to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        if self.training:
            self._count()
            weights = plain(self.weight).reshape(-1)
            has_gradient = torch.is_grad_enabled() and self.weight.requires_grad
            self.record.add(NetworkCall(plain(x), plain(c), weights, has_gradient))
        output: Tensor = _ChosenGradient.apply(value, self.weight, self.bias, self.record)  # type: ignore[no-untyped-call]
        return output

    def _count(self) -> None:
        buffers = dict(self.named_buffers())
        # torch.func forbids to change a tensor that its function has captured.
        with torch.no_grad(), torch._C._DisableFuncTorch():
            buffers["running"].mul_(0.9).add_(0.1)
            if "count" in buffers:
                buffers["count"].add_(1)


def plain(tensor: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Return a copy on the CPU without gradient, in float64 if it has floating-point values."""
    while torch._C._functorch.is_gradtrackingtensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    copy = tensor.detach().cpu().clone()
    return copy.double() if copy.is_floating_point() else copy


def chosen_gradients(count: int, seed: int) -> Float[Tensor, "count size"]:
    """Return gradients of elements from 0.001 to 0.1 with random signs, whose norms are below 0.5."""
    generator = torch.Generator().manual_seed(seed + 1)
    size = torch.logspace(-2, -1, SIZE, dtype=torch.float64)
    factors = 10 ** -torch.rand(count, SIZE, generator=generator, dtype=torch.float64)
    signs = torch.randint(0, 2, (count, SIZE), generator=generator) * 2 - 1
    return size * factors * signs
