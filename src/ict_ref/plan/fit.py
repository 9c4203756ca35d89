"""The microbatches, and whether activations are recomputed, with which an update fits a GPU's memory."""

from collections.abc import Iterator
from dataclasses import dataclass

from ict_ref.config import Config
from ict_ref.distributed.process_group import ProcessGroup
from ict_ref.plan.memory import Memory, memory

USABLE = 0.9
"""Fraction of the free memory that an update may take. The rest is for cuDNN's workspaces, nccl and fragmentation."""


@dataclass(frozen=True)
class Fit:
    """A setting of `machine.accumulate` and `machine.recompute`, and what it takes."""

    accumulate: int
    recompute: bool
    images: int
    """Images of a microbatch in one process."""
    memory: Memory


def fits(
    config: Config,
    *,
    processes: int,
    bytes_free: int,
    accumulate: int | None = None,
    recompute: bool | None = None,
) -> Fit:
    """Return the cheapest setting whose update takes at most 0.9 `bytes_free`.

    Given values of `accumulate` and `recompute` are kept. Otherwise the order is: no recomputation and as few
    microbatches as possible, down to one noise shard each; then recomputation, again with as few as possible.

    Accumulation comes first because it costs less. Each further microbatch repeats only the launches of kernels, and a
    noise shard of the paper's presets (16 or 64 images) keeps a GPU busy. Recomputation repeats most of the student's
    forward pass: 16 to 20 % more operations, by `flop_per_image`.

    `bytes_free` is the memory of one GPU that no other program uses.

    Raises:
        ValueError: no allowed setting fits, or noise shards cannot be divided among the processes.
    """
    shards = config.train.noise_shards
    ProcessGroup(size=processes).microbatches(shards, accumulate or 1)
    last: Fit | None = None
    for recomputes in (False, True) if recompute is None else (recompute,):
        for count in _divisors(shards // processes) if accumulate is None else (accumulate,):
            last = setting(config, processes=processes, accumulate=count, recompute=recomputes)
            if last.memory.total <= USABLE * bytes_free:
                return last
    assert last is not None  # noqa: S101 (both loops have values)
    raise ValueError(_too_large(last, bytes_free, processes, fixed=accumulate is not None or recompute is not None))


def setting(config: Config, *, processes: int, accumulate: int, recompute: bool) -> Fit:
    """Return a given setting and its memory, whether it fits or not."""
    images = -(-config.train.batch_size // (processes * accumulate))
    found = memory(config, accumulate=accumulate, recompute=recompute, processes=processes)
    return Fit(accumulate, recompute, images, found)


def _divisors(number: int) -> Iterator[int]:
    return (count for count in range(1, number + 1) if number % count == 0)


def _too_large(last: Fit, bytes_free: int, processes: int, *, fixed: bool) -> str:
    usable, total = (f"{size / 2**30:.1f} GiB" for size in (USABLE * bytes_free, last.memory.total))
    kind = " with --machine.recompute" if last.recompute else ""
    advice = (
        "Do not give --machine.accumulate and --machine.recompute."
        if fixed
        else "Use more GPUs (for a job --job.nodes) or more --train.noise-shards, or a smaller --network.width."
    )
    return (
        f"--machine.accumulate: expected an update of at most {usable} ({USABLE:.0%} of the free memory), got {total} "
        f"for {last.images} images per microbatch in each of {processes} processes{kind}. {advice}"
    )
