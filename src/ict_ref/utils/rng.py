"""Random streams: each random number of a run is a pure function of (seed, purpose, step, noise shard).

A noise shard is a fixed slice of the global batch. The numbers do not depend on the number of processes, on the
microbatches or on earlier numbers. A resumed run therefore needs no generator state.

The generator is Philox. Its key is the seed, and (purpose, step, shard) is the position in its period of 2^256 at which
a stream begins. The CPU generates all numbers, so they are the same for every device; for dropout masks it generates
the keys.
"""

from typing import Literal

import numpy as np

Purpose = Literal[
    "parameters",
    "order",
    "noise level",
    "noise",
    "dropout",
    "sample",
    "baseline",
    "flip",
    "data",
    "edit",
    "label",
    "weighting network",
]

# The numbers of the purposes define every run: append new ones, never reorder them.
_NUMBER: dict[Purpose, int] = {
    "parameters": 0,
    "order": 1,
    "noise level": 2,
    "noise": 3,
    "dropout": 4,
    "sample": 5,
    "baseline": 6,
    "flip": 7,
    "data": 8,
    "edit": 9,
    "label": 10,
    "weighting network": 11,
}


def stream(seed: int, purpose: Purpose, step: int = 0, shard: int = 0) -> np.random.Generator:
    """Return the generator of the random numbers for this purpose, step and noise shard.

    Streams are disjoint: each has 2^64 blocks of its own.

    >>> round(stream(0, "noise", step=3, shard=1).standard_normal(), 6)
    -0.82799

    Raises:
        ValueError: not 0 <= seed < 2^128, or not 0 <= step, shard < 2^64.
    """
    if seed < 0 or step < 0 or shard < 0:
        raise ValueError(f"seed, step, shard: expected integers >= 0, got {seed}, {step}, {shard}. Count from 0.")
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, shard, step, _NUMBER[purpose]]))
