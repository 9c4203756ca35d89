"""The trace of a training loop: weights, EMA weights and noise levels of each update."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training.loop import Loop, State, guarded_call, loop_of
from ict_ref.verify.audit.training.network import NetworkCall, Record, TrainingNetwork

TOTAL_STEPS = 27
"""Updates of a run. It is not a multiple of 8, so that the curriculum shows how K' is rounded."""
# c_noise as the network may get it: log(sigma) / 4, sigma, or 1000 log(sigma) / 4.
_DECODED: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda c: (4 * c).exp(),
    lambda c: c,
    lambda c: (c / 250).exp(),
)


@dataclass(frozen=True)
class LoopTrace:
    """The weights and EMA weights before the first update and after each one, and the calls of each update."""

    online: Sequence[State]
    ema: Sequence[State]
    calls: Sequence[Sequence[NetworkCall]]
    gradients: Float[Tensor, "updates size"]
    losses: Sequence[float | None] = field(default=())

    @property
    def weights(self) -> Float[Tensor, "steps size"]:
        """Return `weight` before the first update and after each one."""
        return torch.stack([state["weight"].reshape(-1) for state in self.online])

    @property
    def ema_weights(self) -> Float[Tensor, "steps size"] | None:
        """Return `weight` of the EMA; where it does not exist yet, the initial one. None if it never does."""
        if "weight" not in self.ema[-1]:
            return None
        states = [state if "weight" in state else self.online[0] for state in self.ema]
        return torch.stack([state["weight"].reshape(-1) for state in states])


@dataclass(frozen=True)
class Observer:
    """Runs loops of the code under test on known images and with known gradients."""

    make: Callable[..., object]
    options: TrainingOptions
    integers: bool = True
    """Whether the network has an integer buffer."""

    def new_loop(self, seed: int, *, start: float = 0.0) -> tuple[Loop, Record]:
        """Return a loop that begins after the global generators are seeded.

        Raises:
            LoopError: It cannot be made.
        """
        torch.manual_seed(seed)
        record = Record()
        network = TrainingNetwork(record, start=start, integers=self.integers)
        return loop_of(self.make, network.train(), TOTAL_STEPS), record

    def images(self, index: int) -> Float[Tensor, "..."]:
        """Return the images of an update, without global random numbers."""
        generator = torch.Generator().manual_seed(1000 * self.options.seed + index)
        shape = (self.options.batch, *self.options.image_shape)
        return torch.rand(shape, generator=generator) * 2 - 1

    def trace(
        self, loop: Loop, record: Record, gradients: Float[Tensor, "updates size"], *, first: int = 0
    ) -> LoopTrace:
        """Run one update for each gradient and return the trace; `first` is the number of earlier updates.

        Raises:
            LoopError: An update fails.
        """
        online, ema, calls, losses = [loop.weights()], [loop.ema_weights()], [], []
        for index, gradient in enumerate(gradients, start=first):
            record.begin_update(gradient)
            x = self.images(index)
            losses.append(_number(guarded_call(f"train_step number {index}", partial(loop.train_step, x))))
            online.append(loop.weights())
            ema.append(loop.ema_weights())
            calls.append(tuple(record.calls))
        return LoopTrace(online, ema, calls, gradients, losses)


def _number(loss: object) -> float | None:
    """Return a loss as a number, None if it is not one."""
    try:
        return float(loss)  # type: ignore[arg-type] # of code under test
    except (TypeError, ValueError, RuntimeError):
        return None


def precision_of(values: Shaped[Tensor, "..."]) -> float:
    """Return the eps of the narrowest dtype that holds these float64 values."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        if torch.equal(values.to(dtype).double(), values):
            return torch.finfo(dtype).eps
    return torch.finfo(torch.float64).eps


def pairs_of(calls: Sequence[NetworkCall]) -> tuple[Tensor, Tensor] | None:
    """Return c_noise of each example at its two levels: of calls in pairs, or of one call with both; else None."""
    noises = [call.noise for call in calls]
    if len(noises) == 1 and len(noises[0]) % 2 == 0:
        first, second = noises[0].chunk(2)
        return first, second
    if not noises or len(noises) % 2 or any(len(a) != len(b) for a, b in _adjacent(noises)):
        return None
    return torch.cat(noises[::2]), torch.cat(noises[1::2])


def _adjacent(noises: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(noises[::2], noises[1::2], strict=True)


@dataclass(frozen=True)
class Levels:
    """The noise levels of an update: N of their grid, and the two levels of each example, in the order of the calls."""

    n: int
    sigmas: Float[Tensor, "2 batch"]


def levels_of(calls: Sequence[NetworkCall], options: TrainingOptions) -> Levels | None:
    """Return the levels of an update; None if there is not an N of whose grid they are neighbours."""
    if (pairs := pairs_of(calls)) is None:
        return None
    for decoded in _DECODED:
        sigmas = torch.stack([decoded(noise) for noise in pairs])
        places = _place(sigmas, options)
        n = round(1 + 1 / max(float(places.diff(dim=0).abs().mean()), 1e-6))
        nodes = (places * (n - 1)).round()
        on_grid = (places * (n - 1) - nodes).abs() < 0.1
        if bool((on_grid & (nodes >= 0) & (nodes < n)).all() and (nodes.diff(dim=0).abs() == 1).all()):
            return Levels(n, sigmas)
    return None


def _place(sigma: Tensor, options: TrainingOptions) -> Tensor:
    """Return where a level is between sigma_min (0) and sigma_max (1) on the scale sigma^(1/rho) of the grid."""
    low, high = options.sigma_min ** (1 / options.rho), options.sigma_max ** (1 / options.rho)
    place: Tensor = (sigma.clamp_min(0) ** (1 / options.rho) - low) / (high - low)
    return place.nan_to_num(-1.0, -1.0, -1.0)
