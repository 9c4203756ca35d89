"""smsharma/consistency-models: CT in JAX."""

import math
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from ict_ref.verify import adapt

with adapt.stub_imports("absl", "flax", "einops", "optax", "wandb", "diffusers", "clu", "ml_collections"):
    lib: Any = import_module("models.consistency_utils")
curriculum = adapt.cut("train.py", 107, 108, result=("N", "mu"), given={"math": math}, sha256="7a15bd47ec70")


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return lib.timestep_discretization(rho, sigma_min, n, sigma_max)


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> Any:
    config = SimpleNamespace(consistency=SimpleNamespace(s0=s0, s1=s1, mu0=0.9))
    config.training = SimpleNamespace(n_train_steps=total_steps)
    return curriculum(step=step, config=config)[0]


def boundary_parameterization(
    network: Any, x: Any, sigma: Any, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    # The embedding belongs to the network here: the network gets the level itself.
    lib.timestep_embedding = lambda t, _: t

    def apply(_: Any, x_in: Any, t: Any, __: Any) -> Any:
        return network(x_in.reshape(x.shape), t).reshape(x_in.shape)

    score = SimpleNamespace(apply=apply)
    images = x.reshape(len(x), -1, 1, 1)
    return lib.f_theta(None, score, images, sigma[:, None], None, sigma_data, sigma_min, 0).reshape(x.shape)
