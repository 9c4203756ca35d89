"""One run of a training step on known data: the rows of its calls in pairs, the loss, and side effects."""

import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ict_ref.verify.audit.step.network_spy import Answer, Call, NetworkSpy, Recorder, still
from ict_ref.verify.audit.step.settings import Settings

APART = 48_611_000
"""Difference between the seed of the global generators and the number of a step."""
ALIKE = 0.5
"""Mean cosine of the angle between inputs from which they are alike."""
CALLED_AS = "step(network, x, *, step, total_steps) -> loss"
Step: TypeAlias = Callable[..., object]


class UnreadableStep(Exception):  # noqa: N818 - a finding, not an error of ours
    """The step raised an exception, or the calls of its network cannot be interpreted."""


@dataclass(frozen=True)
class Side:
    """The rows of one of the two points of each example, all in float64 on the CPU."""

    x: Tensor
    noise: Tensor
    output: Tensor
    gradient: Tensor
    """Gradient of the loss with respect to `output`; 0 where the loss does not depend on it."""
    mask: Tensor
    training: Tensor

    def at(self, rows: Tensor) -> "Side":
        """Return some of the rows."""
        return Side(*(getattr(self, name)[rows] for name in FIELDS))


FIELDS = ("x", "noise", "output", "gradient", "mask", "training")


@dataclass(frozen=True)
class ObservedStep:
    """The record of one step."""

    at: int
    x: Tensor
    """The images that the step got, in float64."""
    upper: Side
    """The point of each example with the larger noise level."""
    lower: Side
    loss: Tensor
    """The loss in float64: one value, or one per example."""
    loss_dtype: torch.dtype
    input_dtype: torch.dtype
    effects: tuple[str, ...] = ()
    """Side effects."""
    end_states: tuple[object, ...] = ()
    """States of the global generators of Python and NumPy after the step."""


@dataclass(frozen=True)
class Observer:
    """Runs a step and records it; one network, and so one record, serves all runs."""

    step: Step
    settings: Settings
    network: NetworkSpy

    @classmethod
    def of(cls, step: Step, settings: Settings) -> "Observer":
        """Return the observer of a step."""
        return cls(step, settings, NetworkSpy(Recorder()).to(settings.device))

    def __call__(self, at: int, answer: Answer = still, *, seed: int | None = None) -> ObservedStep:
        """Run the step once and return its record. The seed of data and noise is by default the step's number.

        Raises:
            UnreadableStep: The step fails, or does not call its network on two points for each example.
        """
        seed = self.settings.seed + (at if seed is None else seed)
        images = self.settings.images(seed)
        seed += APART  # so that a step that seeds a generator by its number is seen
        given = images.to(self.settings.device, copy=True)
        with _seeded(seed):
            loss = self._run(at, answer, given)
            effects = self._effects(seed, images, given)
            numpy = np.random.get_state(legacy=False)["state"]
            states = (random.getstate(), (numpy["key"].tobytes(), numpy["pos"]))
        calls = self.network.recorder.calls
        upper, lower = _sides(_rows(calls, images.shape))
        kind = calls[0].x.dtype
        value = loss.detach().cpu().double().reshape(-1)
        value = value if len(value) > 1 else value[0]
        return ObservedStep(at, images.double(), upper, lower, value, loss.dtype, kind, effects, states)

    def _run(self, at: int, answer: Answer, given: Tensor) -> Tensor:
        """Return the loss of the step after its backward pass."""
        network, recorder = self.network, self.network.recorder
        with torch.no_grad():
            network.theta.fill_(1)
        network.theta.grad = None
        network.train().requires_grad_(True)
        recorder.answer, recorder.calls = answer, []
        try:
            returned = self.step(network, given, step=at, total_steps=self.settings.total_steps)
            loss = loss_of(returned)
            has_run = any(call.output.requires_grad and call.output.grad is not None for call in recorder.calls)
            if loss.requires_grad and not has_run:
                loss.mean().backward()  # type: ignore[no-untyped-call]
        except (Exception, SystemExit) as error:
            text = " ".join(str(error).split())[:200]
            wanted = "" if _accepts(self.step) else f"; it is called as {CALLED_AS}"
            raise UnreadableStep(f"step {at} raised {type(error).__name__}: {text}{wanted}") from error
        if loss.numel() not in (1, self.settings.batch):
            raise UnreadableStep(f"the loss has shape {list(loss.shape)}, should be one value, or one per example")
        return loss

    def _effects(self, seed: int, images: Tensor, given: Tensor) -> tuple[str, ...]:
        """Return the side effects of the step that one run shows."""
        unchanged = given.shape == images.shape and torch.equal(given.cpu(), images)
        found = {
            "it changes the images that it is given": not unchanged,
            "it reseeds torch's global generator": torch.initial_seed() != seed,
            "it leaves the network in evaluation mode": not self.network.training,
        }
        return tuple(text for text, is_so in found.items() if is_so)


def _accepts(step: Step) -> bool:
    """Return whether the step's parameters accept the audit's call, or are not known."""
    try:
        inspect.signature(step).bind("network", "x", step=0, total_steps=1)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed all global generators, and restore their states at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        # torch.manual_seed formats the stack of its caller each time.
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def loss_of(returned: object) -> Tensor:
    """Return the loss among what a step returned.

    Raises:
        TypeError: It has no number.
    """
    if isinstance(returned, Tensor):
        return returned
    if isinstance(returned, Mapping):
        values = [returned["loss"]] if "loss" in returned else list(returned.values())
        return loss_of(next((value for value in values if isinstance(value, Tensor | float)), None))
    if hasattr(returned, "loss"):
        return loss_of(returned.loss)
    if isinstance(returned, tuple | list) and returned:
        return loss_of(returned[0])
    if isinstance(returned, float | int | np.ndarray | np.generic):
        return torch.as_tensor(returned, dtype=torch.float64)
    raise TypeError(f"expected a loss, got {type(returned).__name__}")


def _rows(calls: Sequence[Call], shape: torch.Size) -> list[Side]:
    """Return the rows of each call.

    Raises:
        UnreadableStep: The calls are not of two points for each example.
    """
    for call in calls:
        if call.x.shape[1:] != shape[1:] or call.noise.numel() not in (1, len(call.x)):
            raise UnreadableStep(
                f"the network was called with x {list(call.x.shape)} and noise {list(call.noise.shape)}, "
                f"should be {list(shape)} and [{shape[0]}]"
            )
    count = sum(len(call.x) for call in calls)
    if count != 2 * shape[0]:
        raise UnreadableStep(
            f"the network was called {len(calls)} times, on {count} points; should be {2 * shape[0]}: one of the "
            "student and one of the teacher for each example"
        )
    return [_side(call) for call in calls]


def _side(call: Call) -> Side:
    output = call.output.detach()
    gradient = call.output.grad if call.output.requires_grad else None
    rows = len(call.x)
    return Side(
        call.x.cpu().double(),
        call.noise.cpu().double().reshape(-1).expand(rows),
        output.cpu().double(),
        torch.zeros_like(output).cpu().double() if gradient is None else gradient.cpu().double(),
        call.mask.detach().cpu(),
        torch.full((rows,), call.training),
    )


def _joined(sides: Sequence[Side]) -> Side:
    width = min(side.mask.shape[1] for side in sides)
    cut = [replace(side, mask=side.mask[:, :width].to(torch.float64)) for side in sides]
    return Side(*(torch.cat([getattr(side, name) for side in cut]) for name in FIELDS))


def _sides(calls: Sequence[Side]) -> tuple[Side, Side]:
    """Return the rows with the larger noise and those with the smaller one, example by example.

    Calls may be one for each point, one for both, or several of each. The order of the rows shows the pairs: in all of
    them the same one has the larger noise. Inputs that are alike decide where several orders have this property, or
    not even one. At few levels the inputs of one example are not alike.
    """
    whole = _joined(calls)
    layouts = _layouts([len(side.x) for side in calls])
    # Where several orders are equally likely, max returns the first.
    one, other = max(layouts, key=lambda layout: (_ordered(whole.noise, *layout), _alike(whole.x, *layout)))
    first = (whole.noise[one] >= whole.noise[other]).double().mean() >= 0.5
    return (whole.at(one), whole.at(other)) if first else (whole.at(other), whole.at(one))


def _layouts(sizes: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Return how rows of calls may be pairs, the commonest first, for the number of rows of each call."""
    rows = torch.arange(sum(sizes))
    by_call = torch.split(rows, list(sizes))
    layouts = []
    if list(sizes[::2]) == list(sizes[1::2]):
        layouts.append((torch.cat(by_call[::2]), torch.cat(by_call[1::2])))
    if all(size % 2 == 0 for size in sizes):
        one, other = zip(*(part.chunk(2) for part in by_call), strict=True)
        layouts.append((torch.cat(one), torch.cat(other)))
    half = len(rows) // 2
    return [*layouts, (rows[:half], rows[half:]), (rows[::2], rows[1::2])]


def _ordered(noise: Tensor, one: Tensor, other: Tensor) -> bool:
    """Return whether the same one of each pair has the larger noise."""
    return bool((noise[one] > noise[other]).all() or (noise[one] < noise[other]).all())


def _alike(x: Tensor, one: Tensor, other: Tensor) -> bool:
    """Return whether inputs in pairs are alike, by the mean cosine of the angle between them."""
    return float(torch.cosine_similarity(x[one].flatten(1), x[other].flatten(1)).mean()) > ALIKE
