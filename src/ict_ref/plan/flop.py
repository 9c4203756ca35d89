"""The floating-point operations of training on one image, counted on the meta device.

A multiplication and an addition are two operations. Counted are convolutions, matrix products and attention, of the
student's forward and backward pass and of the teacher's forward pass. Elementwise operations are not counted: they are
limited by the memory's bandwidth.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from ict_ref.config import Config
from ict_ref.plan.meta_step import counted_config, meta_inputs, meta_loss, meta_model

# With one image torch takes other paths.
IMAGES = 2


@dataclass(frozen=True)
class Flop:
    """The operations of training on one image."""

    convolutions: int
    products: int
    """Matrix products and attention."""

    @property
    def total(self) -> int:
        """Return the sum."""
        return self.convolutions + self.products


def flop_per_image(config: Config, *, recompute: bool = False) -> int:
    """Return the operations of training on one image.

    The model FLOP, of which a share of a GPU's peak is a fraction, are those without `recompute`.

    >>> from ict_ref.config import PRESETS
    >>> round(flop_per_image(PRESETS["cifar10"]()) / 1e9)
    170
    """
    return counted_flop(config, recompute=recompute).total


def counted_flop(config: Config, *, recompute: bool = False) -> Flop:
    """Return the operations of training on one image by kind."""
    return _counted(counted_config(config), recompute)


# Cached because a count takes a second.
@lru_cache(maxsize=32)
def _counted(config: Config, recompute: bool) -> Flop:
    model = meta_model(config, recomputes=recompute)
    inputs = meta_inputs(config, model, IMAGES)
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(meta_loss(config, model, inputs))
    counts = counter.get_flop_counts()["Global"]
    convolutions = sum(count for operation, count in counts.items() if "convolution" in str(operation))
    return Flop(convolutions // IMAGES, (counter.get_total_flops() - convolutions) // IMAGES)
