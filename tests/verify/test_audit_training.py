"""The audit of a training loop reports its errors and only those."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.optimizers import Movements, Optimizer, fit, recognise
from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training import audit
from ict_ref.verify.audit.training_network import chosen_gradients
from ict_ref.verify.checks.result import Result
from ict_ref.verify.report.finding import findings, known_deviations

R = 0.99993
PEERS = Path(__file__).parent / "implementations"
Network = Callable[[Tensor, Tensor], Tensor]


def sigma_grid(n: int) -> Tensor:
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    sigmas: Tensor = (low + torch.arange(n).double() / (n - 1) * (high - low)) ** 7
    return sigmas


def consistency_loss(
    network: Network, x: Tensor, n: int, generator: torch.Generator | None = None, scale: float = 0.25
) -> Tensor:
    """Return the loss of a batch on n levels; the network gets scale log(sigma)."""
    sigmas = sigma_grid(n)
    probabilities = torch.special.ndtr((sigmas.log() + 1.1) / 2).diff()
    z = torch.randn(x.shape, generator=generator)
    index = torch.multinomial(probabilities, len(x), replacement=True, generator=generator)
    low, high = (sigmas[i].reshape(-1, 1, 1, 1).float() for i in (index, index + 1))

    def f(x_sigma: Tensor, sigma: Tensor) -> Tensor:
        c_skip = 0.25 / ((sigma - 0.002) ** 2 + 0.25)
        c_out = 0.5 * (sigma - 0.002) / (sigma**2 + 0.25).sqrt()
        return c_skip * x_sigma + c_out * network((sigma**2 + 0.25).rsqrt() * x_sigma, scale * sigma.log().flatten())

    student = f(x + high * z, high)
    with torch.no_grad():
        teacher = f(x + low * z, low)
    c = 0.00054 * math.sqrt(x[0].numel())
    distance = ((student - teacher).flatten(1).square().sum(1) + c**2).sqrt() - c
    return (distance / (high - low).flatten()).mean()


def levels(k: int, total_steps: int) -> int:
    return min(10 * 2 ** (k // (total_steps // 8)), 1280) + 1


@torch.no_grad()
def average(ema: nn.Module, online: nn.Module, decay: float = R) -> None:
    """Average parameters and copy buffers."""
    for old, new in zip(ema.parameters(), online.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    copy_buffers(ema, online)


@torch.no_grad()
def copy_buffers(ema: nn.Module, online: nn.Module) -> None:
    for old, new in zip(ema.buffers(), online.buffers(), strict=True):
        old.copy_(new)


class Loop:
    """A right loop in the usual style: a deep copy, and lerp_."""

    def __init__(self, network: nn.Module, total_steps: int) -> None:
        self.online, self.total_steps, self.k = network, total_steps, 0
        self.ema = copy.deepcopy(network).requires_grad_(False)
        self.optimizer: torch.optim.Optimizer = torch.optim.RAdam(network.parameters(), lr=1e-4)

    def n(self) -> int:
        return levels(self.k, self.total_steps)

    def train_step(self, x: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        loss = consistency_loss(self.online, x, self.n())
        loss.backward()
        self.before_update()
        self.optimizer.step()
        self.after_update()
        self.k += 1
        return loss.detach()

    def before_update(self) -> None:
        pass

    def after_update(self) -> None:
        average(self.ema, self.online)

    def state(self) -> dict[str, Any]:
        return {
            "online": self.online.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "k": self.k,
            "rng": torch.get_rng_state(),
        }

    def save(self, path: Path) -> None:
        torch.save(self.state(), path)

    def load(self, path: Path) -> None:
        state = torch.load(path)
        self.online.load_state_dict(state["online"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.k = state["k"]
        torch.set_rng_state(state["rng"])

    def run(self, batches: Iterator[Tensor]) -> None:
        while self.k < self.total_steps:
            self.train_step(next(batches))


def results(make: Callable[..., object], **options: Any) -> list[Result]:
    return list(audit(make, TrainingOptions(target="mine:make", **options)))


def failures(make: Callable[..., object], **options: Any) -> list[Result]:
    return [result for result in results(make, **options) if result.status == "fail"]


def statuses(make: Callable[..., object], **options: Any) -> dict[str, str]:
    return {result.id.removeprefix("training:"): result.status for result in results(make, **options)}


# Right loops.


class Averaged(Loop):
    """Torch's own EMA, whose first update copies."""

    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network, total_steps)
        self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(R))

    def after_update(self) -> None:
        self.ema.update_parameters(self.online)  # type: ignore[operator] # an AveragedModel


class ShadowParameters:
    """The EMA of diffusers, without warm-up: a list of parameters, and its first update copies."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        self.shadow_params, self.steps = [parameter.clone().detach() for parameter in parameters], 0

    @torch.no_grad()
    def step(self, parameters: Iterator[nn.Parameter]) -> None:
        self.steps += 1
        decay = 0.0 if self.steps == 1 else R
        for shadow, parameter in zip(self.shadow_params, parameters, strict=True):
            shadow.sub_((1 - decay) * (shadow - parameter))


class Diffusers(Loop):
    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network, total_steps)
        self.ema = ShadowParameters(network.parameters())  # type: ignore[assignment] # not a module

    def after_update(self) -> None:
        self.ema.step(self.online.parameters())  # type: ignore[operator] # not a module

    save = load = None  # type: ignore[assignment] # it cannot be resumed


def functional(network: nn.Module, *, total_steps: int) -> tuple[Callable[[Tensor], Tensor], Any, Any]:
    """A loop over dictionaries of tensors, with its own RAdam; noise is a function of the number of updates."""
    names = [name for name, _ in network.named_parameters()]
    online = {name: value.detach().clone() for name, value in network.named_parameters()}
    ema, m, v, done = dict(online), dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0), [0]

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(done[0])

        def call(x: Tensor, noise: Tensor) -> Tensor:
            value: Tensor = torch.func.functional_call(network, weights, (x, noise))
            return value

        return consistency_loss(call, x, levels(done[0], total_steps), generator)

    def train_step(x: Tensor) -> Tensor:
        gradient, value = torch.func.grad_and_value(loss)(online, x)
        done[0] += 1
        t, rho = done[0], 1999.0
        rho_t = rho - 2 * t * 0.999**t / (1 - 0.999**t)
        for name in names:
            m[name] = 0.9 * m[name] + 0.1 * gradient[name]
            v[name] = 0.999 * v[name] + 0.001 * gradient[name] ** 2
            move = m[name] / (1 - 0.9**t)
            if rho_t > 5:
                r = math.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
                move = r * move / ((v[name] / (1 - 0.999**t)) ** 0.5 + 1e-8)
            online[name] = online[name] - 1e-4 * move
            ema[name] = R * ema[name] + (1 - R) * online[name]
        return value  # type: ignore[no-any-return] # of torch.func

    return train_step, lambda: online, lambda: ema


class OneCall(Loop):
    """Student and teacher in one call, in two microbatches, in float32, with every level of a batch in its own."""

    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network.float(), total_steps)

    def train_step(self, x: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        losses = [consistency_loss(self.online, part, self.n()) / 2 for part in x.chunk(2)]
        for loss in losses:
            loss.backward()
        self.optimizer.step()
        self.after_update()
        self.k += 1
        return sum(losses).detach()  # type: ignore[union-attr] # a tensor


RIGHT: dict[str, Callable[..., object]] = {
    "a deep copy and lerp_": Loop,
    "torch's AveragedModel": Averaged,
    "diffusers' EMAModel": Diffusers,
    "functions of dictionaries": functional,
    "microbatches in float32": OneCall,
}


@pytest.mark.parametrize("style", RIGHT)
def test_a_right_loop_passes(style: str) -> None:
    assert [result.message for result in failures(RIGHT[style])] == []


def test_everything_is_checked_of_a_loop_that_offers_everything() -> None:
    assert set(statuses(Loop).values()) == {"pass"}
    assert {name: status for name, status in statuses(Diffusers).items() if status != "pass"} == {
        "buffers": "skipped",
        "resume": "skipped",
    }
