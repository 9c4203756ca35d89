"""The trained model and its noise, as the formulas take them."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ict_ref.formulas.objective import ConsistencyFunction
from ict_ref.randomness import stream
from ict_ref.trained import Trained


def function_of(
    trained: Trained, labels: Int64[Tensor, " some"] | None, after: Callable[[], object]
) -> ConsistencyFunction:
    """Return f(x, sigma) for these labels, cut to [-1, 1] where the run's samples are; it calls `after` each time."""

    def f(x: Float[Tensor, " some *event"], sigma: Float[Tensor, " some"]) -> Float[Tensor, " some *event"]:
        value: Tensor = trained.model(x, sigma, labels)
        after()
        return value.clamp(-1, 1) if trained.sample.clip else value

    return f


def noise(seed: int, chosen: range, event: tuple[int, ...], level: int = 0) -> Float[Tensor, " some *event"]:
    """Return a level's noise for these images: of image k that of sample k, as `ict_ref.sample` draws it."""
    draws = [stream(seed, "sample", step=k, lane=level).standard_normal(event, dtype=np.float32) for k in chosen]
    return torch.from_numpy(np.stack(draws))
