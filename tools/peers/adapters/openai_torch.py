"""openai/consistency_models: the authors' CT in PyTorch."""

from importlib import import_module
from typing import Any

from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import free_network

with adapt.stub_imports("piq", "torchvision", "mpi4py", "blobfile", "flash_attn"):
    diffusion: Any = import_module("cm.karras_diffusion")
    util: Any = import_module("cm.script_util")


def denoiser(**options: Any) -> Any:
    return diffusion.KarrasDenoiser(distillation=True, **{"loss_norm": "l2", **options})


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return denoiser(sigma_min=sigma_min, sigma_data=sigma_data).get_scalings_for_boundary_condition(sigma)[0]


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return denoiser(sigma_min=sigma_min, sigma_data=sigma_data).get_scalings_for_boundary_condition(sigma)[1]


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return denoiser(sigma_data=sigma_data).get_scalings_for_boundary_condition(sigma)[2]


def c_noise(sigma: Tensor) -> Any:
    return denoiser().denoise(lambda x, t: t, sigma, sigma)[0]


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    return denoiser(sigma_min=sigma_min, sigma_data=sigma_data).denoise(network, x, sigma)[1]


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> Any:
    return util.create_ema_and_scales_fn("adaptive", 0.95, "progressive", s0, s1, total_steps, None)(step)[1]


def teacher_ema_decay(n: int, *, s0: int, mu0: float) -> Any:
    # The last step of a curriculum that ends with n levels.
    return util.create_ema_and_scales_fn("adaptive", mu0, "progressive", s0, n - 1, 1, None)(1)[0]


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    # launch.sh trains CT with the weight "uniform"; the published distance is LPIPS, which needs a network.
    n = sqrt_curriculum(step, total_steps=total_steps)
    settings = denoiser(weight_schedule="uniform")
    return settings.consistency_losses(network, x, n, target_model=network)["loss"].mean()


def model(x: Tensor, sigma: Tensor) -> Any:
    return denoiser().denoise(free_network, x, sigma)[1]
