"""A network that records how a training step calls it, and returns outputs that an audit chooses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

MASK = 64
"""Number of values of an example's dropout mask."""
DROPOUT = 0.5

Answer: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""The network's output for its input and c_noise, both in float64."""


@dataclass(frozen=True)
class Call:
    """One call of the network with its output, which is part of the step's graph."""

    x: Tensor
    noise: Tensor
    output: Tensor
    mask: Tensor
    training: bool


def column(values: Tensor, x: Tensor) -> Tensor:
    """Return one number per example in a shape that broadcasts to the examples `x`."""
    return values.reshape(-1, *[1] * (x.ndim - 1))


def still(x: Tensor, _noise: Tensor) -> Tensor:
    """Return 0.1, where the output does not matter."""
    return torch.full_like(x, 0.1)


def wild(size: float) -> Answer:
    """Return an answer of this size, for which outputs of neighbouring levels have nothing in common."""

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        phase = 1e4 * noise + 1e3 * (noise.abs() + 1e-9).log()
        place = torch.arange(x[0].numel(), device=x.device, dtype=x.dtype).reshape(x.shape[1:])
        return size * torch.sin(37 * x + column(phase, x) + 1.7 * place)

    return answer


@dataclass
class Recorder:
    """The calls of a network and of all its copies, and what they answer."""

    answer: Answer = still
    calls: list[Call] = field(default_factory=list)


class NetworkSpy(nn.Module):
    """F(x, c) = theta answer(x, c), with a dropout layer that affects only the record. Copies share the record."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(DROPOUT)
        self.recorder = recorder

    def __deepcopy__(self, memo: dict[int, object]) -> "NetworkSpy":
        copy = type(self)(self.recorder).to(self.theta.device).train(self.training)
        copy.load_state_dict(self.state_dict())
        copy.requires_grad_(self.theta.requires_grad)
        memo[id(self)] = copy
        return copy

    def forward(self, x: Tensor, noise: Tensor | None = None, *others: object, **options: object) -> Tensor:
        """Return F(x, c). The call's masks are those among its arguments, else the dropout layer's."""
        noise = noise if noise is not None else _first_number(options.values(), len(x))
        drawn: Tensor = self.dropout(torch.ones(len(x), MASK, device=x.device))
        given = _masks([*others, *options.values()], len(x))
        levels = noise.detach().double().reshape(-1).expand(len(x))
        output = self.theta.to(x.dtype) * self._answer(x.detach().double(), levels).to(x.dtype)
        if output.requires_grad:
            output.retain_grad()
        mask = torch.cat(given, 1) if given else drawn
        self.recorder.calls.append(Call(x.detach(), noise.detach(), output, mask, self.training or bool(given)))
        return output

    def _answer(self, x: Tensor, levels: Tensor) -> Tensor:
        # At level 0, which methods without a grid have, log(sigma) is infinite.
        return self.recorder.answer(x, levels.nan_to_num(nan=-100.0, posinf=100.0, neginf=-100.0))


def _first_number(values: object, rows: int) -> Tensor:
    """Return the tensor among keyword arguments that has one number per example.

    Raises:
        TypeError: Such a tensor is missing.
    """
    for value in values if hasattr(values, "__iter__") else ():
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel() in (1, rows):
            return value
    raise TypeError("the network was called without a noise level")


def _masks(value: object, rows: int) -> list[Tensor]:
    """Return the masks among the arguments of a call, one row for each example."""
    if isinstance(value, Tensor):
        return [value.reshape(rows, -1)] if value.dtype == torch.bool and value.numel() % rows == 0 else []
    return [mask for part in value for mask in _masks(part, rows)] if isinstance(value, list | tuple) else []
