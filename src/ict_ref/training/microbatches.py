"""Microbatches on their device: images, labels, noise levels, noise and dropout masks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from ict_ref.config import Config
from ict_ref.data.dataset import to_float
from ict_ref.networks.dropout import DropoutSite
from ict_ref.training.loss import Draws, draw_levels_and_noise, draw_step_masks


@runtime_checkable
class Examples(Protocol):
    """What can be learned: images, or anything else that says which examples a step sees."""

    @property
    def event(self) -> tuple[int, ...]:
        """Return the shape of an example."""

    @property
    def classes(self) -> int:
        """Return the number of classes, or 0."""

    def batch(
        self, step: int, *, batch_size: int, seed: int, rows: slice
    ) -> tuple[Shaped[Tensor, " rows *event"], Int64[Tensor, " rows"]]:
        """Return these rows of the batch, as pixels (uint8) or as they are to be learned, and their labels.

        They are a pure function of the arguments.
        """


@dataclass(frozen=True)
class Batch:
    """A part of the batch of one step, on the device that computes it."""

    x: Float[Tensor, " batch *event"]
    labels: Int64[Tensor, " batch"] | None
    draws: Draws


@dataclass(frozen=True)
class _Host:
    """What of a part is made on the CPU."""

    x: Shaped[Tensor, " batch *event"]
    labels: Int64[Tensor, " batch"]
    index: Int64[Tensor, " batch"]
    z: Float[Tensor, " batch *event"]


Part = tuple[int, range]
"""A step, and some of its lanes."""


class Microbatches:
    """The microbatches of each step; on a GPU the next one is prepared while the device computes."""

    def __init__(
        self,
        examples: Examples,
        config: Config,
        sites: Sequence[DropoutSite],
        device: torch.device,
        parts: Sequence[range],
        *,
        ahead: bool,
    ) -> None:
        self.examples, self.config, self.sites, self.device, self.parts = examples, config, sites, device, parts
        self._worker = ThreadPoolExecutor(max_workers=1) if ahead else None
        self._waiting: tuple[Part, Future[_Host]] | None = None

    def of_step(self, step: int) -> Iterator[tuple[Batch, bool]]:
        """Yield the microbatches of this step, and whether each is the last one."""
        for number, part in enumerate(self.parts):
            is_last = number == len(self.parts) - 1
            following = (step + 1, self.parts[0]) if is_last else (step, self.parts[number + 1])
            yield self.get((step, part), following if following[0] < self.config.train.steps else None), is_last

    def get(self, part: Part, then: Part | None) -> Batch:
        """Return this part, and begin with the one that will be asked for next."""
        host = self._made(part)
        if self._worker is not None and then is not None:
            self._waiting = then, self._worker.submit(self._make, then)
        step, lanes = part
        dtype = getattr(torch, self.config.train.dtype)
        pixels, labels, index, z = (
            tensor.to(self.device, non_blocking=True) for tensor in (host.x, host.labels, host.index, host.z)
        )
        masks = draw_step_masks(step, lanes, self.config, self.sites, self.device)
        x = to_float(pixels) if pixels.dtype == torch.uint8 else pixels
        return Batch(x.to(dtype), labels if self.config.data.labels else None, Draws(index, z, masks))

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=True)

    def _made(self, part: Part) -> _Host:
        if self._waiting is not None:
            (announced, future), self._waiting = self._waiting, None
            if announced == part:
                return future.result()
        return self._make(part)

    def _make(self, part: Part) -> _Host:
        step, lanes = part
        train = self.config.train
        size = train.batch_size // train.lanes
        rows = slice(lanes.start * size, lanes.stop * size)
        x, labels = self.examples.batch(step, batch_size=train.batch_size, seed=train.seed, rows=rows)
        index, z = draw_levels_and_noise(step, lanes, self.config, event=self.examples.event)
        host = _Host(x, labels, index, z)
        if self.device.type != "cuda":
            return host
        # From pinned memory copies do not make the host wait.
        return _Host(*(tensor.pin_memory() for tensor in (x, labels, index, z)))
