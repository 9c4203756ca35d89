"""Recognition of an optimizer by its updates for known gradients.

An update moves the weights by -lr D. D depends on the gradients so far and on the optimizer, but not on lr. So a
recognised optimizer has one D for all weights, and the ratio of movement and D is the learning rate of each update.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

Trace = Float[Tensor, "updates size"]
# Implementations of one optimizer add eps at different places, which changes these movements by less.
RTOL = 3e-4
EXACT = 1e-5


@dataclass(frozen=True)
class Optimizer:
    """An optimizer without its learning rate."""

    kind: str = "RAdam"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay: float = 0.0
    """Weight decay."""
    decay_in_gradient: bool = False
    """Whether the decay is added to the gradient (L2), not to the movement."""

    def __str__(self) -> str:
        """Return the optimizer in words."""
        numbers = list(self.betas)[_BETAS.get(self.kind, slice(0, 2))]
        texts = [f"{'betas' if len(numbers) == 2 else 'beta'} {', '.join(map(str, numbers))}"] if numbers else []
        texts += [f"eps {self.eps:g}"] if self.eps != 1e-8 else []
        return ", ".join([self.kind, *texts])


@dataclass
class _Moments:
    """A gradient, and the averages of an optimizer after t updates, of which it is the last."""

    g: Float[Tensor, " size"]
    m: Float[Tensor, " size"]
    v: Float[Tensor, " size"]
    t: int = 0


def _adam(s: _Moments, o: Optimizer) -> Tensor:
    b1, b2 = o.betas
    return s.m / (1 - b1**s.t) / ((s.v / (1 - b2**s.t)).sqrt() + o.eps)


def _uncorrected(s: _Moments, o: Optimizer) -> Tensor:
    return s.m / (s.v.sqrt() + o.eps)


def _radam(s: _Moments, o: Optimizer, above: float = 5.0) -> Tensor:
    b1, b2 = o.betas
    mean = s.m / (1 - b1**s.t)
    rho = 2 / (1 - b2) - 1
    rho_t = rho - 2 * s.t * b2**s.t / (1 - b2**s.t)
    if rho_t <= above:
        return mean
    r = math.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t))
    return mean * r * math.sqrt(1 - b2**s.t) / (s.v.sqrt() + o.eps)


def _early_radam(s: _Moments, o: Optimizer) -> Tensor:
    return _radam(s, o, above=4.0)


def _late_radam(s: _Moments, o: Optimizer) -> Tensor:
    b2 = o.betas[1]
    early = 2 / (1 - b2) - 1 - 2 * s.t * b2**s.t / (1 - b2**s.t) <= 5
    return torch.zeros_like(s.m) if early else _radam(s, o)


def _lion(s: _Moments, o: Optimizer) -> Tensor:
    before = (s.m - (1 - o.betas[1]) * s.g) / o.betas[1]
    return (o.betas[0] * before + (1 - o.betas[0]) * s.g).sign()


def _gradient(s: _Moments, _o: Optimizer) -> Tensor:
    return s.g


def _momentum(s: _Moments, _o: Optimizer) -> Tensor:
    return s.m


def _nesterov(s: _Moments, o: Optimizer) -> Tensor:
    return s.g + o.betas[0] * s.m


def _sign(s: _Moments, _o: Optimizer) -> Tensor:
    return s.g.sign()


def _scaled(s: _Moments, o: Optimizer) -> Tensor:
    return s.g / (s.v.sqrt() + o.eps)


_RULES: dict[str, Callable[[_Moments, Optimizer], Tensor]] = {
    "RAdam": _radam,
    "RAdam without its first updates": _late_radam,  # before Adam, which has the same directions
    "Adam": _adam,
    "SGD": _gradient,
    "SGD with momentum": _momentum,
    "SGD with Nesterov momentum": _nesterov,
    "SGD with averaged momentum": _momentum,
    "Lion": _lion,
    "sign SGD": _sign,
    "RAdam, adaptive from its fifth update": _early_radam,
    "Adam without bias correction": _uncorrected,
    "RMSprop": _scaled,
    "Adagrad": _scaled,
}
# The optimizers that do not have two betas: which of them they have.
_BETAS: dict[str, slice] = {
    "SGD": slice(0, 0),
    "sign SGD": slice(0, 0),
    "Adagrad": slice(0, 0),
    "RMSprop": slice(1, 2),
    **dict.fromkeys(("SGD with momentum", "SGD with Nesterov momentum", "SGD with averaged momentum"), slice(0, 1)),
}
KINDS = tuple(_RULES)
_SUMMED = ("SGD with momentum", "SGD with Nesterov momentum")
_FIRST = (0.9, 0.0, 0.5, 0.8, 0.95, 0.98, 0.99)
_SECOND = (0.999, 0.99, 0.995, 0.98, 0.95, 0.9, 0.9999)
_DECAYS = (1e-2, 1e-4, 1e-3, 5e-4, 1e-1, 1e-5, 1e-6, 5e-2)
_ADAPTIVE = ("Adam", "Adam without bias correction", "RMSprop", "Adagrad")
_EPS = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3)


def directions(optimizer: Optimizer, gradients: Trace, weights: Trace) -> Trace:
    """Return D of each update: the movement for learning rate 1 with reversed sign.

    `weights` are those before each update, on which the weight decay acts.
    """
    b1, b2 = optimizer.betas
    if optimizer.kind == "Lion":
        b1 = b2  # Lion's average has the second beta
    fresh = 1.0 if optimizer.kind in _SUMMED else 1 - b1
    b2, fresh_square = (1.0, 1.0) if optimizer.kind == "Adagrad" else (b2, 1 - b2)
    zero = torch.zeros_like(gradients[0])
    state, found = _Moments(zero, zero, zero), []
    for gradient, old in zip(gradients, weights, strict=True):
        g = gradient + optimizer.decay * old if optimizer.decay_in_gradient else gradient
        state = _Moments(g, b1 * state.m + fresh * g, b2 * state.v + fresh_square * g**2, state.t + 1)
        moved = _RULES[optimizer.kind](state, optimizer)
        found.append(moved if optimizer.decay_in_gradient else moved + optimizer.decay * old)
    return torch.stack(found)


@dataclass(frozen=True)
class Fit:
    """How well an optimizer explains some movements."""

    rates: Float[Tensor, " updates"]
    """The learning rate of each update."""
    error: float
    """Largest difference of a movement, relative to its size and beyond rounding."""

    @property
    def is_constant(self) -> bool:
        """Return whether all updates have the same learning rate."""
        return bool(((self.rates - self.rates[0]).abs() <= 3e-3 * self.rates[0].abs()).all())


@dataclass(frozen=True)
class Movements:
    """The weights before and after each update, and the gradients of the updates."""

    gradients: Trace
    before: Trace
    after: Trace
    precision: float
    """The eps of the dtype in which the loop keeps its weights."""
    shrinkage: float = 0.0
    """The part of the weights that the first update removes if its gradient is 0."""

    def first(self, count: int) -> "Movements":
        """Return the first updates."""
        parts = self.gradients[:count], self.before[:count], self.after[:count]
        return Movements(*parts, self.precision, self.shrinkage)


def fit(optimizer: Optimizer, moves: Movements) -> Fit:
    """Fit the learning rate of each update."""
    moved = moves.after - moves.before
    d = directions(optimizer, moves.gradients, moves.before)
    ratios = torch.where((d == 0) | (moved == 0), 0, -moved / d)
    rates = ratios.median(1).values
    expected = rates[:, None] * d
    slack = 4 * moves.precision * torch.maximum(moves.after.abs(), moves.before.abs())
    size = expected.abs().clamp_min(1e-300)
    still = moved.abs().amax(1) == 0
    # An update for which no rate moves the weights does not show its own.
    unseen = still & (d.abs().amax(1) == 0)
    rates = torch.where(unseen & ~unseen.all(), rates[~unseen].nanmedian(), rates)
    error = torch.where(still[:, None], 0, ((moved + expected).abs() - slack).clamp_min(0) / size)
    return Fit(rates, float(error.max()))


def recognise(expected: Optimizer, moves: Movements) -> Optimizer | None:
    """Return the optimizer that explains the movements best, None if none of the known ones does.

    One with a constant learning rate explains them better than another. RAdam's first five updates are not adaptive,
    the others are.
    """
    found: list[tuple[bool, float, Optimizer]] = []
    for plain in candidates(expected):
        for candidate in with_decay(plain, moves) if moves.shrinkage else (plain,):
            # Few updates rule out most candidates.
            if fit(candidate, moves.first(3)).error < RTOL and (seen := fit(candidate, moves)).error < RTOL:
                found.append((not seen.is_constant, seen.error, candidate))
        if any(error < EXACT and not varies for varies, error, _ in found):
            break
    return min(found, key=lambda one: one[:2])[2] if found else None


def with_decay(optimizer: Optimizer, moves: Movements) -> Iterator[Optimizer]:
    """Yield an optimizer with the weight decays that explain how weights without a gradient shrink."""
    # The weights are 0 before the first update, whose learning rate is that without a decay.
    rate = float(fit(optimizer, moves.first(1)).rates[0])
    decay = moves.shrinkage / rate if rate else 0.0
    yield replace(optimizer, decay=decay)
    # An adaptive optimizer hides the size of a gradient that consists of the decay alone.
    for other in (decay, *_DECAYS) if optimizer.kind in _ADAPTIVE else (decay,):
        yield replace(optimizer, decay=other, decay_in_gradient=True)


def candidates(expected: Optimizer) -> Iterator[Optimizer]:
    """Yield the expected optimizer and all others, the likely ones first."""
    yield expected
    for kind in KINDS:
        yield replace(expected, kind=kind, betas=(0.9, 0.999))
    yield replace(expected, kind="Lion", betas=(0.9, 0.99))
    # Adam with a first beta of 0 moves like RMSprop with another learning rate for each update.
    yield from (replace(expected, kind="RMSprop", betas=(0.9, second)) for second in _SECOND)
    for kind in KINDS:
        has_first, has_second = (index in range(2)[_BETAS.get(kind, slice(0, 2))] for index in (0, 1))
        firsts, seconds = _FIRST if has_first else (0.9,), _SECOND if has_second else (0.999,)
        for first, second, eps in product(firsts, seconds, _EPS if kind in ("RAdam", "Adam") else (1e-8,)):
            if eps == 1e-8 or (first, second) == (0.9, 0.999):
                yield replace(expected, kind=kind, betas=(first, second), eps=eps)
