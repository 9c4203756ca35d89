"""Training loops for the tests of their audit, and what the audit says about them."""

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training.audit import audit
from ict_ref.verify.checks.result import Result

R = 0.99993


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
