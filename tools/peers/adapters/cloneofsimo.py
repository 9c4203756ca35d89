"""cloneofsimo/consistency_models: CT in one short file, whose coefficients are inside the network."""

import math
from importlib import import_module
from typing import Any

from torch import Tensor

from ict_ref.verify import adapt

lib: Any = import_module("consistency_models")
coefficients = adapt.cut("consistency_models/unet.py", 99, 101, result=("c_skip_t", "c_out_t"), sha256="3d34fb9ad67b")
curriculum = adapt.cut("main.py", 77, 77, result="N", given={"math": math}, sha256="05f2318054c4")


class Settings:
    eps = 0.002


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return lib.kerras_boundaries(rho, sigma_min, n, sigma_max)


def sqrt_curriculum(step: int, *, total_steps: int) -> Any:
    # The published script counts epochs in place of steps.
    return curriculum(epoch=step, n_epoch=total_steps)


def c_skip(sigma: Tensor) -> Any:
    return coefficients(self=Settings, t=sigma)[0]


def c_out(sigma: Tensor) -> Any:
    return coefficients(self=Settings, t=sigma)[1]
