"""The memory of one process during an update, counted on the meta device.

A mode notes which storages live after each operation of the student's pass, the teacher's and the backward pass. An
operation's storages grow with the number of images, or do not depend on it; both parts are noted. The peak for any
number of images follows exactly.

Gradients are present in the whole pass, as with several microbatches or processes. With one microbatch they appear in
the course of the backward pass, so that the figure is a few per cent too high for a large network and few images.
"""

import weakref
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ict_ref.config import Config
from ict_ref.networks.model import ConsistencyModel
from ict_ref.plan.meta_step import META, counted_config, meta_inputs, meta_loss, meta_model
from ict_ref.training.radam import RAdam
from ict_ref.training.state import TrainingState

# A prime that divides the size of no parameter: the storages whose size it divides are those of a batch.
BATCH = 10_007


@dataclass(frozen=True)
class Memory:
    """The memory of one process at the peak of an update, in bytes.

    Not included: the CUDA context (about 0.5 GB), workspaces of cuDNN, buffers of nccl, and fragmentation.
    """

    parameters: int
    gradients: int
    """Gradients, in the buckets of DistributedDataParallel if there are several processes."""
    moments: int
    """Optimizer moments."""
    ema: int
    """EMA weights."""
    teacher: int
    """CT's averaged teacher; 0 if the student is its own teacher."""
    activations_per_image: int
    """Part of the peak that grows with the images: saved activations, inputs, dropout masks, temporary maps."""
    activations: int
    """The same for all images of a microbatch."""
    buffers: int
    """Part of the peak that does not: a gradient before it is added, converted parameters, Fourier frequencies."""

    @property
    def total(self) -> int:
        """Return the predicted peak."""
        states = self.parameters + self.gradients + self.moments + self.ema + self.teacher
        return states + self.activations + self.buffers


@dataclass(frozen=True)
class States:
    """The tensors that exist between updates, in bytes."""

    parameters: int
    moments: int
    ema: int
    teacher: int
    checkpoint: int
    """All tensors of a checkpoint."""


@dataclass(frozen=True, eq=False)
class LiveBytes:
    """The bytes that live after each operation of a pass, as constant + images * per_image."""

    constant: Int64[np.ndarray, " operations"]
    per_image: Int64[np.ndarray, " operations"]

    def peak(self, images: int) -> tuple[int, int]:
        """Return both parts, at the operation after which most bytes live for a number of images."""
        at = int((self.constant + images * self.per_image).argmax())
        return int(self.constant[at]), int(self.per_image[at])


def memory(config: Config, *, accumulate: int, recompute: bool, processes: int = 1) -> Memory:
    """Return the memory of one process, for its part of the batch in `accumulate` microbatches.

    >>> from ict_ref.config import minimal
    >>> found = memory(minimal(), accumulate=2, recompute=False)
    >>> found.parameters == found.gradients == found.ema
    True

    Raises:
        ValueError: `data.name` is folder, and `data.path` is not a prepared folder.
    """
    images = -(-config.train.batch_size // (processes * accumulate))
    states = state_sizes(config)
    constant, per_image = live_bytes(config, recompute=recompute).peak(images)
    return Memory(
        parameters=states.parameters,
        gradients=states.parameters,
        moments=states.moments,
        ema=states.ema,
        teacher=states.teacher,
        activations_per_image=per_image,
        activations=per_image * images,
        buffers=constant,
    )


def state_sizes(config: Config) -> States:
    """Return the sizes of the tensors that exist between updates."""
    model = meta_model(config)
    teacher = None if config.method.mu0 is None else model
    state = TrainingState(model, model, teacher, RAdam(model.parameters(), lr=1.0))
    state.allocate(1)
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    optimizer = sum(value.nbytes for values in state.optimizer.state.values() for value in values.values())
    return States(
        parameters=parameters,
        moments=optimizer,
        ema=parameters,
        teacher=0 if teacher is None else parameters,
        checkpoint=sum(tensor.nbytes for tensor in state.tensors().values()),
    )


def live_bytes(config: Config, *, recompute: bool) -> LiveBytes:
    """Return the bytes that live in the passes of a microbatch, beyond parameters and gradients."""
    return _live_bytes(counted_config(config), recompute)


# Cached because a count takes a second.
@lru_cache(maxsize=32)
def _live_bytes(config: Config, recompute: bool) -> LiveBytes:
    model = meta_model(config, recomputes=recompute)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    inputs = meta_inputs(config, model, BATCH)
    live = _Live(model)
    live.add([inputs.x, inputs.labels, inputs.noise.index, inputs.noise.z, *inputs.noise.masks])
    with live:
        torch.autograd.backward(meta_loss(config, model, inputs))
    constant, per_image = np.array(live.timeline, dtype=np.int64).T
    return LiveBytes(constant, per_image)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not annotate it
    """A mode that notes the bytes of all storages that live after each operation, except those of the model."""

    def __init__(self, model: ConsistencyModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        states = [*model.parameters(), *(parameter.grad for parameter in model.parameters()), *model.buffers()]
        self.known = {tensor.untyped_storage()._cdata for tensor in states if tensor is not None}
        self.bytes = [0, 0]
        self.timeline: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.add(result if isinstance(result, tuple | list) else [result])
        self.timeline.append((self.bytes[0], self.bytes[1]))
        return result

    def add(self, values: Any) -> None:
        """Note the storages of these values, and when they are freed."""
        for value in values:
            if isinstance(value, Tensor) and value.device == META:
                storage = value.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known.add(key)
                    self._change(storage.nbytes(), 1)
                    weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self._change(size, -1)

    def _change(self, size: int, sign: int) -> None:
        per_image, rest = divmod(size, BATCH)
        if rest:
            self.bytes[0] += sign * size
        else:
            self.bytes[1] += sign * per_image
