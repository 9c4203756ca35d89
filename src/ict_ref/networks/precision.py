"""The precision of convolutions and matrix products on a device, for the whole process."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def use_precision(policy: str) -> None:
    """Set whether convolutions and matrix products of float32 tensors use TF32, as a `train.precision` requires.

    The policy tf32 allows it for both, all others forbid it: what the 16-bit policies leave in float32 is true float32.
    Torch's default is TF32 for convolutions only. On a device without TF32, such as a CPU, this changes nothing.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = policy == "tf32"


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute in true float32 while the block runs, then as before."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    use_precision("float32")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
