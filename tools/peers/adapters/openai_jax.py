"""openai/consistency_models_cifar10: the authors' CT in JAX."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from ict_ref.verify import adapt

packages = ("flax", "haiku", "optax", "tensorflow", "tensorflow_datasets", "tensorflow_gan", "tensorflow_hub", "absl")
with adapt.stub_imports(
    *packages, "ml_collections", "orbax", "lpips", "flaxmodels", "einops", "wandb", "blobfile", "clu"
):
    losses: Any = import_module("jcm.losses")
    wrappers: Any = import_module("jcm.models.utils")
    sde_lib: Any = import_module("jcm.sde_lib")


def boundary_parameterization(
    network: Any, x: Any, sigma: Any, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    sde = sde_lib.KVESDE(t_min=sigma_min, t_max=80.0, N=18, rho=7.0, data_std=sigma_data)
    with patch.object(wrappers, "get_model_fn", lambda *_, **__: lambda x, t, rng: (network(x, t), None)):
        return wrappers.get_distiller_fn(sde, None, None, None)(x, sigma)


def curriculum(step: int, total_steps: int, s0: int, s1: int, mu0: float) -> Any:
    training = SimpleNamespace(loss="ct", target_ema_mode="adaptive", scale_mode="progressive", start_ema=mu0)
    vars(training).update(start_scales=s0, end_scales=s1, n_iters=total_steps)
    return losses.get_ema_scales_fn(SimpleNamespace(training=training))(step)


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> Any:
    return curriculum(step, total_steps, s0, s1, 0.9)[1]


def teacher_ema_decay(n: int, *, s0: int, mu0: float) -> Any:
    # The last step of a curriculum that ends with n levels.
    return curriculum(1, 1, s0, n - 1, mu0)[0]
