"""The exchange of gradients between GPUs, and the efficiency of data parallelism.

A ring all-reduce sends 2 (n - 1) / n times the gradient's bytes through each GPU's link, at the speed of the slowest
link (Patarasu & Yuan 2009). The exchange runs in the backward pass of the last microbatch. That pass is
half of the microbatch's time: forward 1, backward 2, teacher 1. Only the rest of the exchange makes a step longer.
"""

from collections.abc import Callable
from dataclasses import dataclass

LEAST_EFFICIENCY = 0.5
"""Below this efficiency more GPUs do not pay."""
BACKWARD = 0.5
"""Part of a microbatch's time in which the exchange runs beside the backward pass."""


@dataclass(frozen=True)
class Links:
    """The links of one GPU, in bytes per second of one direction."""

    gpus_per_node: int
    within_node: float
    between_nodes: float

    def bandwidth(self, gpus: int) -> float:
        """Return the speed of the slowest link of a ring of GPUs."""
        return self.within_node if gpus <= self.gpus_per_node else min(self.within_node, self.between_nodes)


@dataclass(frozen=True)
class ScaledStep:
    """The time of an update on several GPUs."""

    gpus: int
    microbatches: int
    """Microbatches of each GPU."""
    compute_s: float
    exchange_s: float
    """Time of the all-reduce, whether something else runs beside it or not."""
    step_s: float
    is_allowed: bool
    """Whether the GPUs divide the noise shards evenly."""

    @property
    def efficiency(self) -> float:
        """Return the fraction of the step in which a GPU computes."""
        return self.compute_s / self.step_s

    @property
    def pays(self) -> bool:
        """Return whether the GPUs divide the noise shards, and compute in at least half of the step."""
        return self.is_allowed and self.efficiency >= LEAST_EFFICIENCY


def ring_all_reduce_s(size_bytes: int, gpus: int, bandwidth: float) -> float:
    """Return 2 (n - 1) / n size / bandwidth, the seconds of an all-reduce.

    >>> ring_all_reduce_s(100, gpus=4, bandwidth=50.0)
    3.0
    """
    return 2 * (gpus - 1) / gpus * size_bytes / bandwidth


def scaled_step(
    gpus: int, *, work_s: float, batch_size: int, noise_shards: int, largest_microbatch: int, gradient: int,
    links: Links,
) -> ScaledStep:  # fmt: skip
    """Return the time of an update on `gpus` GPUs.

    `work_s` is the time of the whole batch on one GPU, without an exchange. A GPU's part of the batch is computed in
    microbatches of at most `largest_microbatch` images. `gradient` is the size of the gradients in bytes.
    """
    images = max(1, batch_size / gpus)
    microbatches = -int(-images // largest_microbatch)
    compute = work_s * images / batch_size
    exchange = ring_all_reduce_s(gradient, gpus, links.bandwidth(gpus))
    exposed = max(0.0, exchange - BACKWARD * compute / microbatches)
    return ScaledStep(gpus, microbatches, compute, exchange, compute + exposed, noise_shards % gpus == 0)


def stops_paying(at: Callable[[int], ScaledStep], most: int = 1 << 20) -> ScaledStep | None:
    """Return the step on the smallest power of 2 of GPUs that does not pay, or None if `most` GPUs still do."""
    counts = (1 << power for power in range(1, most.bit_length()))
    return next((step for step in map(at, counts) if not step.pays), None)
