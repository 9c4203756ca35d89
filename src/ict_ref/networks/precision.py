"""The precision of convolutions and matrix products on a device, for the whole process."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar

import torch

from ict_ref.utils.tf32 import without_tf32

META_AUTOCAST: ContextVar[torch.dtype | None] = ContextVar("META_AUTOCAST", default=None)
"""Dtype of autocast on the meta device, for which torch has none; set where a GPU's pass is counted."""


def use_precision(policy: str) -> None:
    """Set whether convolutions and matrix products of float32 tensors use TF32, as a `train.precision` requires.

    The policy tf32 allows it for both, all others forbid it: what the 16-bit policies leave in float32 is true float32.
    Torch's default is TF32 for convolutions only. On a device without TF32, such as a CPU, this changes nothing.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = policy == "tf32"


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Let convolutions and products of float32 tensors compute as a policy requires, and then as before."""
    with without_tf32():
        use_precision(policy)
        yield


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return the dtype of convolutions and products under autocast; None without autocast."""
    kind = device.type
    if kind == "meta":
        return META_AUTOCAST.get()
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None


def in_full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Return a context without autocast, as for noise levels: with 8 bits, neighbouring ones would be equal."""
    if autocast_dtype(device) is None:
        return nullcontext()
    return emulated_autocast(None) if device.type == "meta" else torch.autocast(device.type, enabled=False)


@contextmanager
def emulated_autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """Set the dtype of autocast on the meta device while the block runs."""
    token = META_AUTOCAST.set(dtype)
    try:
        yield
    finally:
        META_AUTOCAST.reset(token)
