"""The audit of a training loop reports its errors and only those."""

import copy
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ict_ref.verify.__main__ import main
from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training.audit import audit
from ict_ref.verify.audit.training.network import chosen_gradients
from ict_ref.verify.audit.training.optimizers import Movements, Optimizer, fit, recognise
from ict_ref.verify.audit.training.processes import _compared
from ict_ref.verify.checks.result import Result
from ict_ref.verify.report.finding import fix_of, known_deviations, seen_in

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
    return min(10 << (k // (total_steps // 8)), 1280) + 1


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
        loss.backward()  # type: ignore[no-untyped-call]
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
        self.ema = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(R))  # type: ignore[no-untyped-call]

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
            loss.backward()  # type: ignore[no-untyped-call]
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


# Wrong loops. Each has one error, which is the only finding.


def loop(**methods: Any) -> type[Loop]:
    """Return a loop with other methods."""
    return type("Other", (Loop,), methods)


def with_optimizer(make: Callable[..., torch.optim.Optimizer], **options: Any) -> type[Loop]:
    def init(self: Loop, network: nn.Module, total_steps: int) -> None:
        Loop.__init__(self, network, total_steps)
        self.optimizer = make(network.parameters(), **{"lr": 1e-4, **options})

    return loop(__init__=init)


def with_rate(rate: Callable[[int], float]) -> type[Loop]:
    def before_update(self: Loop) -> None:
        self.optimizer.param_groups[0]["lr"] = 1e-4 * rate(self.k)

    return loop(before_update=before_update)


class LateRAdam(torch.optim.RAdam):
    """RAdam that does not move the weights until it is adaptive, as in its authors' code by default."""

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        done = max((int(state["step"]) for state in self.state.values()), default=0)
        for group in self.param_groups:
            group["lr"] = 1e-4 if done >= 5 else 0.0
        super().step(closure)


class Lion(torch.optim.Optimizer):
    def __init__(self, parameters: Iterator[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                m, g = state.setdefault("m", torch.zeros_like(parameter)), parameter.grad
                parameter.sub_(group["lr"] * (0.9 * m + 0.1 * g).sign())
                state["m"] = 0.99 * m + 0.01 * g


def swapped(self: Loop) -> None:
    average(self.online, self.ema)


def exchanged(self: Loop) -> None:
    average(self.ema, self.online, 1 - R)


def every_fifth(self: Loop) -> None:
    if self.k % 5 == 4:
        average(self.ema, self.online)
    copy_buffers(self.ema, self.online)


def warmed_up(self: Loop) -> None:
    average(self.ema, self.online, min(R, (1 + self.k) / (10 + self.k)))


def replaced(self: Loop) -> None:
    average(self.ema, self.online)
    self.online.load_state_dict(self.ema.state_dict())


def twice(self: Loop) -> None:
    average(self.ema, self.online)
    average(self.ema, self.online)


def parameters_only(self: Loop) -> None:
    with torch.no_grad():
        for old, new in zip(self.ema.parameters(), self.online.parameters(), strict=True):
            old.lerp_(new, 1 - R)


@torch.no_grad()
def whole_state(self: Loop) -> None:
    for old, new in zip(self.ema.state_dict().values(), self.online.state_dict().values(), strict=True):
        old.lerp_(new, 1 - R)


@torch.no_grad()
def truncated_counters(self: Loop) -> None:
    for old, new in zip(self.ema.state_dict().values(), self.online.state_dict().values(), strict=True):
        old.copy_(R * old + (1 - R) * new)


def other_constants(self: Loop) -> None:
    average(self.ema, self.online)
    self.ema.get_buffer("frequencies").mul_(1.01)


class EmaFirst(Loop):
    def before_update(self) -> None:
        average(self.ema, self.online)

    def after_update(self) -> None:
        copy_buffers(self.ema, self.online)


class FromZero(Loop):
    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network, total_steps)
        with torch.no_grad():
            for parameter in self.ema.parameters():
                parameter.zero_()


def samples(self: Loop) -> int:
    return levels(min(self.k * 16, self.total_steps - 1), self.total_steps)


def by_norm(self: Loop) -> None:
    nn.utils.clip_grad_norm_(self.online.parameters(), 1.0)


def by_value(self: Loop) -> None:
    nn.utils.clip_grad_value_(self.online.parameters(), 0.5)


def skips_outliers(self: Loop) -> None:
    if float(nn.utils.get_total_norm([p.grad for p in self.online.parameters() if p.grad is not None])) > 1e3:
        for parameter in self.online.parameters():
            parameter.grad = None


def without(*names: str) -> type[Loop]:
    """Return a loop whose checkpoints lack some of its state."""

    def load(self: Loop, path: Path) -> None:
        old, state = self.state(), torch.load(path)
        torch.save({**state, **{name: copy.deepcopy(old[name]) for name in names}}, path)
        Loop.load(self, path)

    return loop(load=load)


class SeedsItself(Loop):
    def __init__(self, network: nn.Module, total_steps: int) -> None:
        super().__init__(network, total_steps)
        torch.manual_seed(5)
        self.noise_first = True

    def train_step(self, x: Tensor) -> Tensor:
        return super().train_step(x)

    def load(self, path: Path) -> None:
        rng = torch.get_rng_state()
        super().load(path)
        torch.set_rng_state(rng)


def endless(self: Loop, batches: Iterator[Tensor]) -> None:
    for x in batches:
        try:
            self.train_step(x)
        except Exception:  # noqa: S112 - as loops that skip batches which are not finite
            continue


def one_more(self: Loop, batches: Iterator[Tensor]) -> None:
    while self.k <= self.total_steps:
        self.train_step(next(batches))


def cosine(k: int) -> float:
    return (1 + math.cos(math.pi * k / 27)) / 2


T = torch.optim
WRONG: dict[str, tuple[Callable[..., object], str, str | None, str]] = {
    "EMA arguments are swapped": (loop(after_update=swapped), "ema", "SwappedEma", "the weights move towards them"),
    "the EMA is never updated": (
        loop(after_update=lambda self: copy_buffers(self.ema, self.online)),
        "ema",
        "FrozenEma",
        "never move",
    ),
    "r and 1 - r are exchanged": (loop(after_update=exchanged), "ema", "ExchangedDecay", "0.00007 EMA + 0.99993"),
    "the EMA is a copy": (
        loop(after_update=lambda self: self.ema.load_state_dict(self.online.state_dict())),
        "ema",
        "CopiedEma",
        "a copy of the weights",
    ),
    "the weights are replaced": (loop(after_update=replaced), "ema", "ReplacedWeights", "are replaced by"),
    "the EMA comes before the optimizer": (EmaFirst, "ema", "LateEma", "before the optimizer"),
    "the EMA has every fifth update": (loop(after_update=every_fifth), "ema", "EmaEveryNth", "0.999986 per update"),
    "the decay is warmed up": (loop(after_update=warmed_up), "ema", "EmaWarmup", "0.1, 0.1818, 0.25, ..."),
    "the EMA begins at 0": (FromZero, "ema", "EmaFromZero", "do not begin"),
    "the decay is another": (
        loop(after_update=lambda self: average(self.ema, self.online, 0.9999)),
        "ema_decay",
        None,
        "the decay is 0.9999, should be 0.99993",
    ),
    "the EMA is updated twice": (loop(after_update=twice), "ema_decay", None, "twice for each update"),
    "buffers are not copied": (loop(after_update=parameters_only), "buffers", "StaleBuffers", "those of the start"),
    "integer buffers fail": (loop(after_update=whole_state), "buffers", "IntegerBuffers", "lerp"),
    "integer buffers are averaged": (
        loop(after_update=truncated_counters), "buffers", "IntegerBuffers", "is 0, should be 54",
    ),
    "constant buffers change": (loop(after_update=other_constants), "buffers", "AveragedConstants", "constant buffer"),
    "N never changes": (loop(n=lambda self: 11), "curriculum", "FrozenCurriculum", "at update 3 of 27"),
    "k begins at 1": (
        loop(n=lambda self: levels(self.k + 1, self.total_steps)), "curriculum", "StepFromOne", "at update 2 of 27",
    ),
    "k counts images": (loop(n=samples), "curriculum", "SampleCurriculum", "N = 321, should be 11"),
    "K' is rounded up": (loop(n=lambda self: min(10 * 2 ** (self.k // 4), 1280) + 1), "curriculum", None, "rounded up"),
    "K' is not rounded": (
        loop(n=lambda self: min(10 * 2 ** int(self.k / 3.375), 1280) + 1), "curriculum", None, "N = 11, should be 21",
    ),
    "N is the number of intervals": (
        loop(n=lambda self: levels(self.k, self.total_steps) - 1), "curriculum", "NoPlusOne", "N = 10, should be 11",
    ),
    "N passes s1": (loop(n=lambda self: 10 * 2 ** (self.k // 3) + 1), "curriculum", None, "N = 2561, should be 1281"),
    "Adam": (with_optimizer(T.Adam), "optimizer", "OtherOptimizer", "of Adam, betas 0.9, 0.999; expected RAdam"),
    "SGD": (with_optimizer(T.SGD), "optimizer", "OtherOptimizer", "of SGD;"),
    "SGD with momentum": (
        with_optimizer(T.SGD, momentum=0.8), "optimizer", "OtherOptimizer", "of SGD with momentum, beta 0.8;",
    ),
    "Lion": (with_optimizer(Lion), "optimizer", "OtherOptimizer", "of Lion, betas 0.9, 0.99;"),
    "RAdam without its first updates": (
        with_optimizer(LateRAdam), "optimizer", "OtherOptimizer", "of RAdam without its first updates, betas",
    ),
    "RMSprop": (with_optimizer(T.RMSprop), "optimizer", "OtherOptimizer", "of RMSprop, beta 0.99;"),
    "another beta2": (with_optimizer(T.RAdam, betas=(0.9, 0.995)), "optimizer", "OtherBetas", "betas 0.9, 0.995;"),
    "another beta1": (with_optimizer(T.RAdam, betas=(0.0, 0.999)), "optimizer", "OtherBetas", "betas 0.0, 0.999;"),
    "another eps": (with_optimizer(T.RAdam, eps=1e-5), "optimizer", "OtherBetas", "eps 1e-05;"),
    "another learning rate": (with_optimizer(T.RAdam, lr=2e-4), "learning_rate", None, "is 0.0002, should be 0.0001"),
    "the rate is warmed up": (
        with_rate(lambda k: min(1, (k + 1) / 10)), "learning_rate", "LearningRateWarmup", "1e-05, 2e-05, 3e-05",
    ),
    "the rate is warmed up from 0": (
        with_rate(lambda k: min(1, k / 10)), "learning_rate", "LearningRateWarmup", "it is 0, 1e-05, 2e-05, ...",
    ),
    "the rate decays": (with_rate(cosine), "learning_rate", "LearningRateDecay", "decays"),
    "weights decay": (
        with_optimizer(T.RAdam, weight_decay=0.01, decoupled_weight_decay=True),
        "weight_decay",
        "WeightDecay",
        "of 0.01",
    ),
    "weights decay by the gradient": (
        with_optimizer(T.RAdam, weight_decay=0.02), "weight_decay", "WeightDecay", "of 0.02",
    ),
    "gradients are clipped": (loop(before_update=by_norm), "gradient_clipping", "GradientClipping", "to norm 1;"),
    "values are clipped": (loop(before_update=by_value), "gradient_clipping", "GradientClipping", "to value 0.5;"),
    "large gradients are skipped": (loop(before_update=skips_outliers), "gradient_clipping", None, "is skipped"),
    "the weights never move": (with_optimizer(T.SGD, lr=0.0), "optimizer", None, "never move"),
    "the step is not restored": (without("k"), "resume", "LostStep", "at update 7, N = 11 in the resumed run"),
    "the optimizer is not restored": (without("optimizer"), "resume", "LostOptimizer", "without a past"),
    "the EMA is not restored": (without("ema"), "resume", "LostEma", "but others"),
    "the weights are not restored": (without("online"), "resume", None, "the weights after load differ"),
    "the noise is repeated": (SeedsItself, "resume:noise", "RepeatedNoise", "repeats the noise"),
    "the run does not end": (loop(run=endless), "updates", "EndlessRun", "does not end"),
    "the run is one update too long": (loop(run=one_more), "updates", None, "28 updates, should be 27"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_loop_has_one_finding_that_names_its_error(what: str) -> None:
    make, check, deviation, text = WRONG[what]
    [found] = failures(make)
    assert found.id == f"training:{check}", found.message
    assert found.deviation == deviation
    assert text in found.message
    assert found.message.startswith(f"{found.id}: ")
    assert found.message.endswith("]")


@pytest.mark.parametrize("what", ["EMA arguments are swapped", "SGD", "the weights are replaced", "weights decay"])
def test_errors_are_named_in_float32_too(what: str) -> None:
    make, check, deviation, _ = WRONG[what]

    def in_float32(network: nn.Module, *, total_steps: int) -> object:
        return make(network.float(), total_steps=total_steps)

    assert [(result.id, result.deviation) for result in failures(in_float32)] == [(f"training:{check}", deviation)]


def test_two_errors_are_two_findings_and_a_later_one_is_not_hidden() -> None:
    class Both(EmaFirst):
        def n(self) -> int:
            return 11

    assert {result.deviation for result in failures(Both)} == {"LateEma", "FrozenCurriculum"}


def test_an_untried_check_has_its_reason() -> None:
    class Least(Loop):
        save = load = run = None  # type: ignore[assignment] # it offers nothing

        def train_step(self, x: Tensor) -> None:  # type: ignore[override]
            self.optimizer.zero_grad()
            self.online(x, x[:, 0, 0, 0]).mean().backward()
            self.optimizer.step()

    def make(network: nn.Module, total_steps: int) -> object:
        return (Least(network, total_steps).train_step,)

    found = {result.id: result.message for result in results(make)}
    assert "does not have EMA weights" in found["training:ema_decay"]
    assert "does not have save(path) and load(path)" in found["training:resume"]
    assert "does not have run(batches)" in found["training:updates"]
    assert "the levels of update 0 are not neighbours on a grid" in found["training:curriculum"]
    assert found["training:optimizer"] == ""


def test_other_noise_after_a_resume_is_a_note() -> None:
    def load(self: Loop, path: Path) -> None:
        rng = torch.get_rng_state()
        Loop.load(self, path)
        torch.set_rng_state(rng)

    [found] = failures(loop(load=load))
    assert (found.id, found.kind) == ("training:resume:noise", "type")
    assert "the state of the generators is not saved" in found.message


def test_another_loss_after_a_resume_is_found() -> None:
    class Reported(Loop):
        resumed = False

        def train_step(self, x: Tensor) -> Tensor:
            return super().train_step(x) * (2 if self.resumed else 1)

        def load(self, path: Path) -> None:
            super().load(path)
            self.resumed = True

    [found] = failures(Reported)
    assert "at update 7 the loss of the resumed run is" in found.message


def imagenet(network: nn.Module, *, total_steps: int) -> Loop:
    decay = {"after_update": lambda self: average(self.ema, self.online, 0.99997)}
    return loop(**decay)(network, total_steps)


def of_ct(network: nn.Module, *, total_steps: int) -> Loop:
    """A loop with other settings than iCT's: CT's curriculum, AdamW, clipping."""

    def n(self: Loop) -> int:
        share = self.k / self.total_steps
        return math.ceil(math.sqrt(share * (151**2 - 2**2) + 2**2) - 1) + 1

    def init(self: Loop, network: nn.Module, total_steps: int) -> None:
        Loop.__init__(self, network, total_steps)
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4, weight_decay=0.05)

    return loop(n=n, __init__=init, before_update=by_norm)(network, total_steps)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (imagenet, {"ema_decay": 0.99997, "batch": 8, "shape": "1,8,8"}),
        (
            of_ct,
            {
                "optimizer": "Adam",
                "lr": 3e-4,
                "weight_decay": 0.05,
                "clip": 1.0,
                "curriculum": "sqrt",
                "s0": 2,
                "s1": 150,
            },
        ),
        (with_optimizer(Lion), {"optimizer": "Lion"}),
        (Loop, {"seed": 7}),
    ],
)
def test_expected_settings_are_options(make: Callable[..., object], options: dict[str, Any]) -> None:
    assert [result.message for result in failures(make, **options)] == []


def test_a_loop_without_expected_clipping_and_decay_is_wrong() -> None:
    found = {result.id: result.message for result in failures(Loop, clip=1.0, weight_decay=0.01)}
    assert found.keys() == {"training:gradient_clipping", "training:weight_decay"}
    assert "gradients are not clipped; expected that they are clipped to norm 1" in found["training:gradient_clipping"]
    assert "there is no weight decay, should be 0.01" in found["training:weight_decay"]


@pytest.mark.parametrize("scale", [1.0, 250.0])
def test_the_curriculum_is_read_from_levels_in_another_form(scale: float) -> None:
    def train_step(self: Loop, x: Tensor) -> None:
        def network(x: Tensor, log_sigma: Tensor) -> Tensor:
            value: Tensor = self.online(x, log_sigma.exp() if scale == 1 else 250 * log_sigma)
            return value

        self.optimizer.zero_grad()
        consistency_loss(network, x, self.n(), scale=1.0).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.after_update()
        self.k += 1

    assert statuses(loop(train_step=train_step))["curriculum"] == "pass"


def raises(network: nn.Module, *, total_steps: int) -> object:
    raise RuntimeError(f"not for {total_steps} updates of {type(network).__name__}")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (raises, "make raised RuntimeError: not for 27 updates of TrainingNetwork"),
        (
            lambda network, total_steps: 3,
            "with train_step(x), or (train_step, online, ema), got int",
        ),
        (lambda network, total_steps: (lambda x: 1 / 0, network), "train_step number 0 raised ZeroDivisionError"),
        (lambda network, total_steps: (lambda x: x, {}), "online: expected the network, or a mapping with its weight"),
        (loop(load=lambda self, path: 1 / 0), "load raised ZeroDivisionError"),
        (loop(run=lambda self, batches: 1 / 0), "run raised ZeroDivisionError"),
    ],
)
def test_a_loop_that_fails_has_one_clear_row(make: Callable[..., object], message: str) -> None:
    [found] = failures(make)
    assert message in found.message


# The optimizers of torch, by their own updates.


def moves_of(make: Callable[..., torch.optim.Optimizer], **options: Any) -> Movements:
    gradients = chosen_gradients(27, 3)
    parameter = nn.Parameter(torch.zeros(gradients.shape[1], dtype=torch.float64))
    optimizer = make([parameter], **options)
    trace = [parameter.detach().clone()]
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        trace.append(parameter.detach().clone())
    weights = torch.stack(trace)
    return Movements(gradients, weights[:-1], weights[1:], 2**-52)


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (T.RAdam, {}, Optimizer()),
        (T.RAdam, {"betas": (0.5, 0.99)}, Optimizer(betas=(0.5, 0.99))),
        (T.Adam, {"eps": 1e-4}, Optimizer("Adam", eps=1e-4)),
        (T.AdamW, {"weight_decay": 0.0}, Optimizer("Adam")),
        (T.SGD, {}, Optimizer("SGD")),
        (T.SGD, {"momentum": 0.95}, Optimizer("SGD with momentum", (0.95, 0.999))),
        (T.SGD, {"momentum": 0.9, "nesterov": True}, Optimizer("SGD with Nesterov momentum")),
        (T.RMSprop, {"alpha": 0.9}, Optimizer("RMSprop", (0.9, 0.9))),
        (T.Adagrad, {"eps": 1e-8}, Optimizer("Adagrad")),
    ],
)
def test_an_optimizer_of_torch_is_recognised(
    make: Callable[..., torch.optim.Optimizer], options: dict[str, Any], expected: Optimizer
) -> None:
    moves = moves_of(make, lr=0.01, **options)
    found = recognise(Optimizer(), moves)
    assert found is not None
    assert str(found) == str(expected)
    assert torch.allclose(fit(found, moves).rates, torch.full((27,), 0.01, dtype=torch.float64))


def test_unknown_movements_are_not_recognised() -> None:
    moves = moves_of(T.Adamax, lr=0.01)
    assert recognise(Optimizer(), moves) is None
    assert recognise(Optimizer(), replace(moves, after=moves.before + 1)) is None


# The command.


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a target with two errors; the module is this one."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    (tmp_path / "wrong_loop_of_a_test.py").write_text(
        "import test_audit_training as these\n\n\n"
        "class Wrong(these.Loop):\n    n = staticmethod(lambda: 11)\n    after_update = these.every_fifth\n"
    )
    return f"{tmp_path / 'wrong_loop_of_a_test.py'}:Wrong"


def test_the_command_reports_findings_with_effect_places_and_fix(
    target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "training", target, "--json", str(tmp_path / "report.json")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "training:ema: the EMA is not updated at each update" in out
    assert "also in: thibautissenhuth/consistency_GC@47c5787 train_consistency.py:147" in out
    assert "fix:     pass the number of updates to the curriculum" in out
    assert out.rstrip().splitlines()[-1] == "WRONG  2 of 11 checks; status 1"
    found = json.loads((tmp_path / "report.json").read_text())["findings"]
    assert [finding["deviations"] for finding in found] == [["FrozenCurriculum"], ["EmaEveryNth"]]


def test_a_finding_can_be_waived(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waivers = tmp_path / "w.toml"
    names = ("training:ema", "training:curriculum", "training:buffers")
    waivers.write_text("".join(f'[[waiver]]\nid = "{name}"\nreason = "known"\n' for name in names))
    assert main(["audit", "training", target, "--waivers", str(waivers)]) == 1
    out = capsys.readouterr().out
    assert "2 waived" in out
    assert "training:buffers: waived, but it does not fail" in out


def test_the_project_s_own_loop_passes() -> None:
    # A separate process has no import hook: the annotations of the model exclude the recording network.
    command = [sys.executable, "-m", "ict_ref.verify", "audit", "training", f"{PEERS / 'our_loop.py'}:make", "-v"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "right  10 checks; 1 not counted; status 0"
    assert "pass     training:resume:noise" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "0"], "--lr: expected a positive number, got 0.0"),
        (["--ema-decay", "1"], "--ema-decay: expected 0 < decay < 1, got 1.0"),
        (["--weight-decay", "-1"], "--weight-decay: expected a number >= 0, got -1.0"),
        (["--clip", "0"], "--clip: expected a positive number, got 0.0"),
        (["--s0", "1"], "--s0: expected an integer from 2 to --s1 (1280), got 1"),
        (["--sigma-min", "90"], "--sigma-min: expected 0 < sigma_min < --sigma-max (80.0), got 90.0"),
        (["--batch", "1"], "--batch: expected an integer >= 2, got 1"),
        (["--processes", "0"], "--processes: expected an integer from 1 to 64, got 0"),
        (["--shape", "3,x"], "--shape: expected positive integers such as 3,32,32, got 3,x"),
        (
            ["--curriculum", "linar"],
            "expected one of exponential, sqrt, constant, linear, square, cosine, got",
        ),
        (["--s0", "2", "--s1", str(2**28)], "--s1: expected at most 2^26 --s0"),
    ],
)
def test_impossible_options_are_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "training", "os:getcwd", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert message in err


@pytest.mark.slow
def test_n_is_compared_between_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "loop_in_processes.py"
    path.write_text(
        "import os, sys\n\nimport torch.distributed as dist\n\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_audit_training as these\n\n\n"
        "class RankZero(these.Loop):\n"
        "    def n(self):\n"
        "        if int(os.environ.get('WORLD_SIZE', 1)) > 1 and not dist.is_initialized():\n"
        "            dist.init_process_group('gloo')\n"
        "        first = not dist.is_initialized() or dist.get_rank() == 0\n"
        "        return super().n() if first else 11\n"
    )
    assert main(["audit", "training", f"{path}:RankZero", "--processes", "2"]) == 1
    out = capsys.readouterr().out
    assert "at update 3, N = 21 in process 0 and 11 in process 1" in out
    assert "also in: huggingface/diffusers@071190d" in out
    assert "WRONG  1 of 12 checks" in out


def test_the_levels_of_processes_are_compared() -> None:
    assert _compared([[11, 21], [11, 21]]) == (None, None)
    assert _compared([[11, 21], [11, 21], [11, 11]])[1] == "RankZeroCurriculum"
    wrong, deviation = _compared([[11, 21, 41], [11, 41, 41]])
    assert (wrong, deviation) == ("at update 1, N = 21 in process 0 and 41 in process 1", None)


def test_deviations_of_loops_have_effects_fixes_and_commits() -> None:
    # The vectors of ema_update name swapped arguments too.
    loops = [one for one in known_deviations().values() if one.function == "training" or one.name == "SwappedEma"]
    named = {deviation for _, _, deviation, _ in WRONG.values()} - {None, "NoPlusOne"}
    assert named <= {one.name for one in loops}
    assert all(one.what and one.effect and fix_of(one.name) for one in loops)
    places = [place for one in loops for place in seen_in(one.name)]
    assert all(re.fullmatch("[0-9a-f]{7}", place.commit) and (place.path or not place.line) for place in places)
    assert {"SwappedEma", "EmaEveryNth", "StaleBuffers"} <= {one.name for one in loops if seen_in(one.name)}
