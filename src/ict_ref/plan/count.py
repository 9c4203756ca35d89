"""The bytes and the floating-point operations of a microbatch's passes, counted on the meta device.

A mode sees each operation of the student's pass, the teacher's and the backward pass. It notes which storages live
after it, and adds its operations by torch's own formulas (`torch.utils.flop_counter`). A storage either grows with the
number of images or does not depend on it. Both parts are noted, so the peak for any number of images follows exactly.
"""

import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ict_ref.config import Config
from ict_ref.networks.kernels import torch_operations
from ict_ref.networks.model import ConsistencyModel
from ict_ref.plan.meta_step import META, counted_config, meta_inputs, meta_loss, meta_model

# A prime that divides the size of no parameter: the storages whose size it divides are those of a batch.
BATCH = 10_007


@dataclass(frozen=True, eq=False)
class Count:
    """The bytes that live after each operation, as constant + images * per_image, and the operations of an image."""

    constant: Int64[np.ndarray, " operations"]
    per_image: Int64[np.ndarray, " operations"]
    convolutions: int
    """Floating-point operations of convolutions."""
    products: int
    """Floating-point operations of matrix products and attention."""
    saved_per_image: int
    """Bytes of an image that live between the forward and the backward pass: saved activations, inputs and masks."""

    def peak(self, images: int) -> tuple[int, int]:
        """Return both parts of the bytes, at the operation after which most bytes live for a number of images."""
        at = int((self.constant + images * self.per_image).argmax())
        return int(self.constant[at]), int(self.per_image[at])


def count(config: Config, *, recompute: bool) -> Count:
    """Return the count of a microbatch, of bytes beyond parameters and gradients."""
    return _count(counted_config(config), recompute)


# Cached because a count takes a second.
@lru_cache(maxsize=32)
def _count(config: Config, recompute: bool) -> Count:
    with torch_operations() if config.machine.device == "cpu" else nullcontext():
        return _counted(config, recompute)


def _counted(config: Config, recompute: bool) -> Count:
    model = meta_model(config, recomputes=recompute)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    inputs = meta_inputs(config, model, BATCH)
    mode = _Counting(model)
    mode.add([inputs.x, inputs.labels, inputs.noise.index, inputs.noise.z, *inputs.noise.masks])
    with mode:
        loss = meta_loss(config, model, inputs)
        saved = mode.per_image
        torch.autograd.backward(loss)
    constant, per_image = np.array(mode.timeline, dtype=np.int64).T
    return Count(constant, per_image, mode.convolutions // BATCH, mode.products // BATCH, saved)


def group_norm(
    x: Tensor, _weight: Tensor | None, _bias: Tensor | None, n: int, _channels: int, _pixels: int, groups: int,
    _eps: float,
) -> tuple[Tensor, ...]:  # fmt: skip
    """Return the results of a group normalisation by their shapes."""
    return torch.empty_like(x), x.new_empty(n, groups), x.new_empty(n, groups)


def group_norm_backward(_gradient: Tensor, x: Tensor, *others: Any) -> tuple[Tensor, ...]:
    """Return the gradients of a group normalisation by their shapes."""
    channels: int = others[4]
    return torch.empty_like(x), x.new_empty(channels), x.new_empty(channels)


# Torch derives the shapes of these two by their definition, which takes half of a count's time.
QUICK = {
    torch.ops.aten.native_group_norm.default: group_norm,
    torch.ops.aten.native_group_norm_backward.default: group_norm_backward,
}


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch does not annotate it
    """A mode that counts operations, and notes the bytes that live after each of them, except those of the model."""

    def __init__(self, model: ConsistencyModel) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        states = [*model.parameters(), *(parameter.grad for parameter in model.parameters()), *model.buffers()]
        self.known = {tensor.untyped_storage()._cdata for tensor in states if tensor is not None}
        self.constant = self.per_image = self.convolutions = self.products = 0
        self.timeline: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = QUICK.get(func, func)(*args, **kwargs)
        self.add(result if isinstance(result, tuple | list) else [result])
        self.timeline.append((self.constant, self.per_image))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            self._operations(str(func), formula(*args, **kwargs, out_val=result))
        return result

    def add(self, values: Any) -> None:
        """Note the storages of these values, and when they are freed."""
        for value in values:
            if isinstance(value, Tensor) and value.device == META:
                storage = value.untyped_storage()
                key = storage._cdata
                if key not in self.known:
                    self.known.add(key)
                    self._bytes(storage.nbytes(), 1)
                    weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self._bytes(size, -1)

    def _bytes(self, size: int, sign: int) -> None:
        per_image, rest = divmod(size, BATCH)
        if rest:
            self.constant += sign * size
        else:
            self.per_image += sign * per_image

    def _operations(self, name: str, number: int) -> None:
        if "convolution" in name:
            self.convolutions += number
        else:
            self.products += number
