"""A network that records how a training step calls it, and returns outputs that an audit chooses."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ict_ref import formulas

SHAPE = (64, 3, 4, 4)
TOTAL_STEPS = 8000
DROPOUT = 0.5

Step: TypeAlias = Callable[..., object]
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

    @property
    def has_gradient(self) -> bool:
        """Whether the loss's gradient has reached the output: it was neither computed under no_grad nor detached."""
        return self.output.requires_grad and self.output.grad is not None


def plain(x: Tensor, noise: Tensor) -> Tensor:
    """Return sin(3 x) + c / 10."""
    return torch.sin(3 * x) + 0.1 * column(noise)


def loud(x: Tensor, noise: Tensor) -> Tensor:
    """Return the same plus 10 000 at sigma_min, where c_out = 0 hides it from the loss."""
    return plain(x, noise) + 1e4 * column(((4 * noise).exp() - 0.002).abs() < 1e-5)


def quiet(data: Tensor) -> Answer:
    """Return a function with which f(x, sigma) = data (1 + 0.002 sigma^(1/7)): neighbours are less than c apart."""

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        sigma = (4 * noise).exp()
        wanted = data * (1 + 0.002 * column(sigma) ** (1 / 7))
        out = column(formulas.c_out(sigma))
        missing = wanted - column(formulas.c_skip(sigma) / formulas.c_in(sigma)) * x
        return torch.where(out > 1e-9, missing / out.clamp_min(1e-9), 0)

    return answer


class NetworkSpy(nn.Module):
    """F(x, c) = theta answer(x, c), with a dropout layer that affects only the record."""

    def __init__(self, answer: Answer = plain) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(DROPOUT)
        self.answer = answer
        self.calls: list[Call] = []

    def forward(self, x: Tensor, noise: Tensor, *others: object, **options: object) -> Tensor:
        """Return F(x, c). The call's masks are those among its arguments, else the dropout layer's."""
        drawn: Tensor = self.dropout(torch.ones(4096))
        given = _truth_values([*others, *options.values()])
        mask = torch.cat([mask.flatten() for mask in given]) if given else drawn
        answer = self.answer(x.detach().double(), noise.detach().double().reshape(-1)).to(x.dtype)
        output = self.theta.to(x.dtype) * answer
        if output.requires_grad:
            output.retain_grad()
        self.calls.append(Call(x.detach(), noise.detach(), output, mask, self.training or bool(given)))
        return output


def _truth_values(value: object) -> list[Tensor]:
    """Return the masks among the arguments of a call."""
    if isinstance(value, Tensor):
        return [value] if value.dtype == torch.bool else []
    return [mask for part in value for mask in _truth_values(part)] if isinstance(value, list | tuple) else []


@dataclass(frozen=True)
class ObservedStep:
    """The record of one step."""

    at: int
    x: Tensor
    n: int
    student: Call
    teacher: Call
    loss: Tensor


class UnreadableStep(Exception):  # noqa: N818 - a finding, not an error of ours
    """The step raised an exception, or the calls of its network cannot be interpreted."""


def data(seed: int) -> Tensor:
    """Return the images for a step."""
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def observe(step: Step, at: int, seed: int, answer: Answer = plain) -> ObservedStep:
    """Run the step once on known data and return the record of its network.

    Raises:
        UnreadableStep: The step fails, or does not call its network once as student and once as teacher.
    """
    torch.manual_seed(seed)
    x = data(seed)
    network = NetworkSpy(answer).train()
    try:
        loss = torch.as_tensor(step(network, x.clone(), step=at, total_steps=TOTAL_STEPS))
        if loss.requires_grad:
            loss.mean().backward()  # type: ignore[no-untyped-call]
    except (Exception, SystemExit) as error:
        text = " ".join(str(error).split())[:200]
        raise UnreadableStep(f"step {at} raised {type(error).__name__}: {text}") from error
    if len(network.calls) != 2:
        raise UnreadableStep(f"the network was called {len(network.calls)} times, should be 2: student and teacher")
    for call in network.calls:
        if call.x.shape != x.shape or call.noise.numel() != len(x):
            raise UnreadableStep(
                f"the network was called with x {list(call.x.shape)} and noise {list(call.noise.shape)}, "
                f"should be {list(x.shape)} and [{len(x)}]"
            )
    by_level = sorted(network.calls, key=lambda call: float(call.noise.double().mean()))
    n = formulas.exponential_curriculum(at, total_steps=TOTAL_STEPS)
    return ObservedStep(at, x.double(), n, by_level[1], by_level[0], loss.detach().double())


def levels(call: Call) -> Tensor:
    """Return the noise levels of a call, from c_noise = log(sigma) / 4."""
    return (4 * call.noise.double().reshape(-1)).exp()


def column(sigma: Tensor) -> Tensor:
    """Return one number per example, in a shape that broadcasts to images."""
    return sigma.reshape(-1, 1, 1, 1)


def nearest(grid: Tensor, values: Tensor) -> Tensor:
    """Return the index of the level of the grid that is nearest to each value."""
    return (values[:, None] - grid).abs().argmin(1)


def noisy(call: Call, sigma: Tensor) -> Tensor:
    """Return x_sigma from the network's input c_in x_sigma."""
    return call.x.double() / column(formulas.c_in(sigma))


def values(seen: ObservedStep, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """Return f of student and teacher, computed from the network's outputs with the correct coefficients."""

    def f(call: Call, sigma: Tensor) -> Tensor:
        skip, out = column(formulas.c_skip(sigma)), column(formulas.c_out(sigma))
        return skip * noisy(call, sigma) + out * call.output.detach().double()

    return f(seen.student, high), f(seen.teacher, low)


def z_of(seen: ObservedStep, high: Tensor, low: Tensor) -> Tensor:
    """Return the noise of the step, from the difference of its two inputs."""
    return (noisy(seen.student, high) - noisy(seen.teacher, low)) / column(high - low)
