"""One randomness: every random number of a run is a pure function of (seed, what it is for, step, lane).

A lane is a fixed slice of the global batch. Nothing depends on the number of processes, on how the batch is cut or on
what was drawn before, so a resumed run needs no generator state and 1, 2 or 4 processes see the same numbers. Philox
makes this literal: the seed is its key, and (purpose, step, lane) is where on its period of 2^256 a stream begins.
The numbers are made on the CPU, so they are also the same on every device; of dropout masks, the keys are.
"""

from typing import Literal

import numpy as np

Purpose = Literal[
    "parameters", "order", "noise level", "noise", "dropout", "sample", "yardstick", "flip", "data", "edit"
]

# A purpose's number is part of the definition of every run: append, never reorder.
_NUMBER: dict[Purpose, int] = {
    "parameters": 0,
    "order": 1,
    "noise level": 2,
    "noise": 3,
    "dropout": 4,
    "sample": 5,
    "yardstick": 6,
    "flip": 7,
    "data": 8,
    "edit": 9,
}


def stream(seed: int, purpose: Purpose, step: int = 0, lane: int = 0) -> np.random.Generator:
    """Return the generator of the random numbers for this purpose, step and lane.

    Streams are disjoint: each has 2^64 blocks of its own. Needs 0 <= seed < 2^128 and 0 <= step, lane < 2^64.
    """
    if seed < 0 or step < 0 or lane < 0:
        raise ValueError(f"needs seed, step and lane >= 0; got {seed}, {step}, {lane}; count from 0")
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, lane, step, _NUMBER[purpose]]))
