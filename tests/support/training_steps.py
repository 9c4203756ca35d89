"""A right training step of iCT, written in several styles, and small variations of it."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

DATA, LEAST, MOST = 0.5, 0.002, 80.0
Step = Callable[..., Any]


def grid(n: int, rho: float = 7.0, least: float = LEAST, most: float = MOST) -> Tensor:
    low, high = least ** (1 / rho), most ** (1 / rho)
    sigmas: Tensor = (low + torch.arange(n).double() / (n - 1) * (high - low)) ** rho
    return sigmas


def doubling(step: int, total: int) -> int:
    return int(min(10 * 2 ** (step // (total // 8)), 1280)) + 1


def root(step: int, total: int, first: int = 2, last: int = 151) -> int:
    return math.ceil(math.sqrt(step / total * (last**2 - first**2) + first**2) - 1) + 1


def lognormal(sigmas: Tensor, batch: int, mean: float = -1.1, std: float = 2.0) -> Tensor:
    edges = torch.special.ndtr((sigmas.log() - mean) / std)
    return torch.multinomial(edges.diff(), batch, replacement=True)


def uniform(sigmas: Tensor, batch: int) -> Tensor:
    return torch.randint(len(sigmas) - 1, (batch,))


def skip(sigma: Tensor, least: float = LEAST, data: float = DATA) -> Tensor:
    return data**2 / ((sigma - least) ** 2 + data**2)


def out(sigma: Tensor, least: float = LEAST, data: float = DATA) -> Tensor:
    return data * (sigma - least) / (sigma**2 + data**2).sqrt()


def huber(delta: Tensor, c: float | None = None) -> Tensor:
    c = 0.00054 * math.sqrt(delta[0].numel()) if c is None else c
    return (delta.flatten(1).square().sum(1) + c**2).sqrt() - c


def elementwise(delta: Tensor) -> Tensor:
    c = 0.00054 * math.sqrt(delta[0].numel())
    return ((delta.flatten(1).square() + c**2).sqrt() - c).mean(1)


def gap(low: Tensor, high: Tensor, _: Tensor) -> Tensor:
    return 1 / (high - low)


@dataclass(frozen=True)
class TrainingStep:
    """The step of iCT; each field is a part of it that can be replaced."""

    levels: Callable[[int, int], int] = doubling
    grid: Callable[[int], Tensor] = grid
    draw: Callable[[Tensor, int], Tensor] = lognormal
    apart: int = 1
    normal: Callable[[Tensor], Tensor] = torch.randn_like
    other_normal: Callable[[Tensor, Tensor], Tensor] = lambda z, x: z
    """Noise of the teacher, from that of the student."""
    images: Callable[[Tensor], Tensor] = lambda x: x
    points: Callable[..., tuple[Tensor, Tensor]] = lambda x, z, other, low, high: (x + high * z, x + low * other)
    c_noise: Callable[[Tensor], Tensor] = lambda sigma: sigma.log() / 4
    c_in: Callable[[Tensor], Tensor] = lambda sigma: (sigma**2 + DATA**2).rsqrt()
    c_skip: Callable[[Tensor], Tensor] = skip
    c_out: Callable[[Tensor], Tensor] = out
    output: Callable[[Tensor], Tensor] = lambda f: f
    """What is done to f."""
    distance: Callable[[Tensor], Tensor] = huber
    weight: Callable[[Tensor, Tensor, Tensor], Tensor] = gap
    """Weight by lower level, upper level and grid."""
    reduce: Callable[[Tensor], Any] = torch.mean
    share_dropout: bool = True
    evaluates: str = ""
    """Which of student and teacher are in evaluation mode."""
    gradient: str = "student"
    """Which of student and teacher get a gradient."""
    swapped: bool = False
    """Whether the student is at the lower level."""
    before: Callable[[Tensor, int], None] = lambda x, step: None
    """What happens to the given images and elsewhere before the step."""

    def __call__(self, network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
        return self.reduce(self.losses(network, x, step=step, total_steps=total_steps))

    def losses(self, network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
        self.before(x, step)
        x, z, low, high, sigmas = self.drawn(x, step, total_steps)
        x_high, x_low = self.points(x, z, self.other_normal(z, x), low, high)
        calls = ((x_high, high), (x_low, low))
        first, second = reversed(calls) if self.swapped else calls
        student = self.called(network, *first, "student")
        teacher = self.called(network, *second, "teacher")
        return self.loss(student, teacher, low, high, sigmas)

    def drawn(self, x: Tensor, step: int, total_steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        sigmas = self.grid(self.levels(step, total_steps))
        index = self.draw(sigmas, len(x)).clamp_max(len(sigmas) - 1 - self.apart)
        low, high = (sigmas[i].reshape(-1, *[1] * (x.ndim - 1)) for i in (index, index + self.apart))
        x = self.images(x.double())
        return x, self.normal(x), low, high, sigmas

    def f(self, network: nn.Module, x: Tensor, sigma: Tensor) -> Tensor:
        value = network((self.c_in(sigma) * x).float(), self.c_noise(sigma).flatten().float())
        return self.output(self.c_skip(sigma) * x + self.c_out(sigma) * value)

    def called(self, network: nn.Module, x: Tensor, sigma: Tensor, who: str) -> Tensor:
        """Return f with dropout and gradient of the student, or of the teacher."""
        was = network.training
        network.train(who not in self.evaluates.split())
        state = torch.get_rng_state()
        with torch.set_grad_enabled(who in self.gradient.split()):
            value = self.f(network, x, sigma)
        if self.share_dropout and who == "student":
            torch.set_rng_state(state)
        network.train(was)
        return value

    def loss(self, student: Tensor, teacher: Tensor, low: Tensor, high: Tensor, sigmas: Tensor) -> Tensor:
        return self.weight(low, high, sigmas).flatten() * self.distance(student - teacher)


RIGHT = TrainingStep()


def copied_teacher(network: nn.Module, x: Tensor, *, step: int, total_steps: int, base: TrainingStep = RIGHT) -> Tensor:
    """The teacher is a deep copy, called first."""
    teacher = copy.deepcopy(network).requires_grad_(False)
    x, z, low, high, sigmas = base.drawn(x, step, total_steps)
    state = torch.get_rng_state()
    target = base.f(teacher, x + low * z, low)
    torch.set_rng_state(state)
    return base.loss(base.f(network, x + high * z, high), target, low, high, sigmas).mean()


class KeptTeacher:
    """The teacher is copied once and gets the student's weights at each step."""

    def __init__(self) -> None:
        self.teacher: nn.Module | None = None

    def __call__(self, network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
        self.teacher = self.teacher or copy.deepcopy(network)
        self.teacher.load_state_dict(network.state_dict())
        x, z, low, high, sigmas = RIGHT.drawn(x, step, total_steps)
        state = torch.get_rng_state()
        student = RIGHT.f(network, x + high * z, high)
        torch.set_rng_state(state)
        target = RIGHT.f(self.teacher, x + low * z, low).detach()
        return RIGHT.loss(student, target, low, high, sigmas).mean()


def with_masks(network: nn.Module, x: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
    value: Tensor = network((RIGHT.c_in(sigma) * x).float(), RIGHT.c_noise(sigma).flatten().float(), [mask])
    return skip(sigma) * x + out(sigma) * value


def one_call(network: nn.Module, x: Tensor, *, step: int, total_steps: int, base: TrainingStep = RIGHT) -> Tensor:
    """Both points are one batch of 2 B; the masks are arguments."""
    x, z, low, high, sigmas = base.drawn(x, step, total_steps)
    mask = torch.rand(len(x), 32) < 0.5
    both = torch.cat([x + high * z, x + low * z])
    student, teacher = with_masks(network, both, torch.cat([high, low]), torch.cat([mask, mask])).chunk(2)
    return base.loss(student, teacher.detach(), low, high, sigmas).mean()


def microbatches(network: nn.Module, x: Tensor, *, step: int, total_steps: int, base: TrainingStep = RIGHT) -> Tensor:
    """Four microbatches, each with its own calls and backward pass; the loss comes back detached."""
    x, z, low, high, sigmas = base.drawn(x, step, total_steps)
    total = torch.zeros(())
    for part in torch.arange(len(x)).chunk(4):
        state = torch.get_rng_state()
        student = base.f(network, (x + high * z)[part], high[part])
        torch.set_rng_state(state)
        with torch.no_grad():
            teacher = base.f(network, (x + low * z)[part], low[part])
        loss = base.loss(student, teacher, low[part], high[part], sigmas).mean() / 4
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach()
    return total


def microbatches_of_both(
    network: nn.Module, x: Tensor, *, step: int, total_steps: int, base: TrainingStep = RIGHT
) -> Tensor:
    """Two calls, each of students and teachers of half of the batch."""
    x, z, low, high, sigmas = base.drawn(x, step, total_steps)
    losses = []
    for part in torch.arange(len(x)).chunk(2):
        mask = torch.rand(len(part), 32) < 0.5
        both, levels = torch.cat([(x + high * z)[part], (x + low * z)[part]]), torch.cat([high[part], low[part]])
        student, teacher = with_masks(network, both, levels, torch.cat([mask, mask])).chunk(2)
        losses.append(base.loss(student, teacher.detach(), low[part], high[part], sigmas))
    return torch.cat(losses).mean()


def parts_of_the_student_first(
    network: nn.Module, x: Tensor, *, step: int, total_steps: int, base: TrainingStep = RIGHT
) -> Tensor:
    """Four calls of the student, and then four of the teacher; the masks are arguments."""
    x, z, low, high, sigmas = base.drawn(x, step, total_steps)
    mask = torch.rand(len(x), 32) < 0.5
    parts = torch.arange(len(x)).chunk(4)
    student = torch.cat([with_masks(network, (x + high * z)[part], high[part], mask[part]) for part in parts])
    with torch.no_grad():
        teacher = torch.cat([with_masks(network, (x + low * z)[part], low[part], mask[part]) for part in parts])
    return base.loss(student, teacher, low, high, sigmas).mean()


def rows_in_turn(network: nn.Module, x: Tensor, *, step: int, total_steps: int, base: TrainingStep = RIGHT) -> Tensor:
    """One call, of which the even rows are the teacher's; the masks are arguments."""
    x, z, low, high, sigmas = base.drawn(x, step, total_steps)
    mask = torch.rand(len(x), 32) < 0.5
    both, levels = (torch.stack(pair, 1).flatten(0, 1) for pair in ((x + low * z, x + high * z), (low, high)))
    f = with_masks(network, both, levels, mask.repeat_interleave(2, 0))
    return base.loss(f[1::2], f[::2].detach(), low, high, sigmas).mean()


def backward_inside(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> float:
    """The step does the backward pass and returns a Python number."""
    loss = RIGHT.losses(network, x, step=step, total_steps=total_steps).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def backward_that_keeps_the_graph(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
    loss = RIGHT.losses(network, x, step=step, total_steps=total_steps).mean()
    loss.backward()  # type: ignore[no-untyped-call]
    return loss


def seeded_by_its_number(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
    """The step draws from a generator of its own, which it seeds with its number."""
    generator = torch.Generator().manual_seed(step)
    normal = torch.randn(x.shape, generator=generator).double()
    loss: Tensor = replace(RIGHT, normal=lambda _: normal)(network, x, step=step, total_steps=total_steps)
    return loss


def noise_first(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
    """The noise is drawn before the intervals, in float32."""
    normal = torch.randn_like(x).double()
    loss: Tensor = replace(RIGHT, normal=lambda _: normal)(network, x, step=step, total_steps=total_steps)
    return loss


@dataclass
class Output:
    loss: Tensor
    n: int


def flipped(x: Tensor) -> Tensor:
    which = torch.rand(len(x), 1, 1, 1) < 0.5
    return torch.where(which, x.flip(-1), x)


def shuffled(x: Tensor) -> Tensor:
    return x[torch.randperm(len(x))]


STYLES: dict[str, Step] = {
    "mean": RIGHT,
    "one loss per example": replace(RIGHT, reduce=lambda losses: losses),
    "losses of shape [B, 1]": replace(RIGHT, reduce=lambda losses: losses[:, None]),
    "a dict": replace(RIGHT, reduce=lambda losses: {"lr": 1e-4, "loss": losses.mean()}),
    "a tuple": replace(RIGHT, reduce=lambda losses: (losses.mean(), {"n": 11})),
    "an attribute": replace(RIGHT, reduce=lambda losses: Output(losses.mean(), 11)),
    "flips inside": replace(RIGHT, images=flipped),
    "another order of the images": replace(RIGHT, images=shuffled),
    "deep copy": copied_teacher,
    "kept copy": KeptTeacher(),
    "one call": one_call,
    "microbatches": microbatches,
    "microbatches of both": microbatches_of_both,
    "parts of the student first": parts_of_the_student_first,
    "rows in turn": rows_in_turn,
    "noise first": noise_first,
    "a generator seeded by the step's number": seeded_by_its_number,
    "backward inside": backward_inside,
    "backward inside, loss with its graph": backward_that_keeps_the_graph,
    "float32": replace(
        RIGHT,
        grid=lambda n: grid(n).float(),
        images=lambda x: x.float(),
        distance=lambda delta: huber(delta.float()),
        draw=lambda sigmas, batch: lognormal(sigmas.double(), batch),
    ),
}
"""Right steps."""


def mean_of_squares(delta: Tensor) -> Tensor:
    return delta.flatten(1).square().mean(1)


CT = replace(
    RIGHT, levels=root, draw=uniform, weight=lambda low, high, _: torch.ones_like(low), distance=mean_of_squares
)
"""A right step of CT."""


def ct_styles(ct: TrainingStep = CT) -> dict[str, Step]:
    """Return a step of CT in several styles."""
    functions = (
        copied_teacher,
        one_call,
        microbatches,
        microbatches_of_both,
        parts_of_the_student_first,
        rows_in_turn,
    )
    return {
        "two calls": ct,
        "inputs without c_in": replace(ct, c_in=torch.ones_like),
        **{function.__name__: partial(function, base=ct) for function in functions},
    }
