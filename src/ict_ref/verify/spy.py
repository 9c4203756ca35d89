"""A network that writes down how a training step calls it, and answers what an audit wants it to."""

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
"""What the network answers to its input and c_noise, both in float64."""


@dataclass(frozen=True)
class Call:
    """One call of the network, and its answer, which is part of the step's graph."""

    x: Tensor
    noise: Tensor
    output: Tensor
    mask: Tensor
    training: bool

    @property
    def has_gradient(self) -> bool:
        """Whether the loss's gradient has passed through the answer: neither under no_grad nor once detached."""
        return self.output.requires_grad and self.output.grad is not None


def plain(x: Tensor, noise: Tensor) -> Tensor:
    """Return sin(3 x) + c / 10."""
    return torch.sin(3 * x) + 0.1 * column(noise)


def loud(x: Tensor, noise: Tensor) -> Tensor:
    """Return the same, but 10 000 more at sigma_min, where c_out = 0 keeps it from being heard."""
    return plain(x, noise) + 1e4 * column(((4 * noise).exp() - 0.002).abs() < 1e-5)


def quiet(data: Tensor) -> Answer:
    """Return an answer with which f(x, sigma) = data (1 + 0.002 sigma^(1/7)): neighbours are less than c apart."""

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        sigma = (4 * noise).exp()
        wanted = data * (1 + 0.002 * column(sigma) ** (1 / 7))
        out = column(formulas.c_out(sigma))
        missing = wanted - column(formulas.c_skip(sigma) / formulas.c_in(sigma)) * x
        return torch.where(out > 1e-9, missing / out.clamp_min(1e-9), 0)

    return answer


class Spy(nn.Module):
    """F(x, c) = theta answer(x, c), with a dropout layer that acts on nothing but the record."""

    def __init__(self, answer: Answer = plain) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout(DROPOUT)
        self.answer = answer
        self.calls: list[Call] = []

    def forward(self, x: Tensor, noise: Tensor, *others: object, **options: object) -> Tensor:
        """Return F(x, c). Masks that are handed over count as those of the call, else the dropout layer's do."""
        own: Tensor = self.dropout(torch.ones(4096))
        handed = _truth_values([*others, *options.values()])
        mask = torch.cat([mask.flatten() for mask in handed]) if handed else own
        answer = self.answer(x.detach().double(), noise.detach().double().reshape(-1)).to(x.dtype)
        output = self.theta.to(x.dtype) * answer
        if output.requires_grad:
            output.retain_grad()
        self.calls.append(Call(x.detach(), noise.detach(), output, mask, self.training or bool(handed)))
        return output


def _truth_values(value: object) -> list[Tensor]:
    """Return the masks among the arguments of a call."""
    if isinstance(value, Tensor):
        return [value] if value.dtype == torch.bool else []
    return [mask for part in value for mask in _truth_values(part)] if isinstance(value, list | tuple) else []


@dataclass(frozen=True)
class Observed:
    """What came of one step."""

    at: int
    x: Tensor
    n: int
    student: Call
    teacher: Call
    loss: Tensor


class Refused(Exception):  # noqa: N818 - a finding, not an error of ours
    """The step could not be run, or its network was called in no way that can be read."""


def data(seed: int) -> Tensor:
    """Return the images that a step is given."""
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def observe(step: Step, at: int, seed: int, answer: Answer = plain) -> Observed:
    """Run the step once on known data, and return what its network saw."""
    torch.manual_seed(seed)
    x = data(seed)
    spy = Spy(answer).train()
    try:
        loss = torch.as_tensor(step(spy, x.clone(), step=at, total_steps=TOTAL_STEPS))
        if loss.requires_grad:
            loss.mean().backward()  # type: ignore[no-untyped-call]
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())[:200]
        raise Refused(f"step {at} raised {type(error).__name__}: {said}") from error
    if len(spy.calls) != 2:
        raise Refused(f"the network was called {len(spy.calls)} times, should be 2: student and teacher")
    for call in spy.calls:
        if call.x.shape != x.shape or call.noise.numel() != len(x):
            raise Refused(
                f"the network was called with x {list(call.x.shape)} and noise {list(call.noise.shape)}, "
                f"should be {list(x.shape)} and [{len(x)}]"
            )
    by_level = sorted(spy.calls, key=lambda call: float(call.noise.double().mean()))
    n = formulas.exponential_curriculum(at, total_steps=TOTAL_STEPS)
    return Observed(at, x.double(), n, by_level[1], by_level[0], loss.detach().double())


def levels(call: Call) -> Tensor:
    """Return the noise levels of a call, from c_noise = log(sigma) / 4."""
    return (4 * call.noise.double().reshape(-1)).exp()


def column(sigma: Tensor) -> Tensor:
    """Return one number per example, to be broadcast to images."""
    return sigma.reshape(-1, 1, 1, 1)


def nearest(grid: Tensor, values: Tensor) -> Tensor:
    """Return which level of the grid each value is nearest to."""
    return (values[:, None] - grid).abs().argmin(1)


def noisy(call: Call, sigma: Tensor) -> Tensor:
    """Return x_sigma, from what the network was called with, c_in x_sigma."""
    return call.x.double() / column(formulas.c_in(sigma))


def values(seen: Observed, high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
    """Return f of student and teacher, which the right coefficients make of the answers."""

    def f(call: Call, sigma: Tensor) -> Tensor:
        skip, out = column(formulas.c_skip(sigma)), column(formulas.c_out(sigma))
        return skip * noisy(call, sigma) + out * call.output.detach().double()

    return f(seen.student, high), f(seen.teacher, low)


def z_of(seen: Observed, high: Tensor, low: Tensor) -> Tensor:
    """Return the noise of the step, which leads from one input to the other."""
    return (noisy(seen.student, high) - noisy(seen.teacher, low)) / column(high - low)
