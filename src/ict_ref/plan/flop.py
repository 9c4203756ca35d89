"""The floating-point operations of training on one image.

A multiplication and an addition are two operations. Counted are convolutions, matrix products and attention, of the
student's forward and backward pass and of the teacher's forward pass. Elementwise operations are not counted: they are
limited by the memory's bandwidth.
"""

from ict_ref.config import Config
from ict_ref.plan.count import count


def flop_per_image(config: Config, *, recompute: bool = False) -> int:
    """Return the operations of training on one image.

    Shares of a GPU's peak refer to the operations without `recompute`, the model FLOP.

    >>> from ict_ref.config import PRESETS
    >>> round(flop_per_image(PRESETS["cifar10"]()) / 1e9)
    170
    """
    counted = count(config, recompute=recompute)
    return counted.convolutions + counted.products
