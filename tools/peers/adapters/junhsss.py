"""junhsss/consistency-models: CT as a Lightning module, on PyPI as "consistency"."""

from importlib import import_module
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import free_network

base = {"pytorch_lightning.LightningModule": nn.Module}
packages = ("diffusers", "pytorch_lightning", "torchmetrics", "torchvision", "wandb", "huggingface_hub", "lpips", "piq")
with adapt.stub_imports(*packages, values=base):
    lib: Any = import_module("consistency.consistency").Consistency


def module(step: int = 0, total_steps: int = 1, network: Any = None, **options: Any) -> Any:
    """Return the module with its default options, around a network with the output of diffusers."""
    made = lib.__new__(lib)
    nn.Module.__init__(made)
    defaults = {"data_std": 0.5, "time_min": 0.002, "time_max": 80.0, "bins_min": 2, "bins_max": 150, "bins_rho": 7}
    vars(made).update(defaults | {"initial_ema_decay": 0.9, "loss_fn": nn.MSELoss()} | options)
    made.trainer = SimpleNamespace(global_step=step, estimated_stepping_batches=total_steps)
    made.log = made._loss_tracker = made._bins_tracker = lambda *_, **__: None
    made.model = made.model_ema = lambda x, t: SimpleNamespace(sample=network(x, t))
    return made


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return module(time_min=sigma_min, time_max=sigma_max, bins_rho=rho).timesteps_to_times(torch.arange(n), n)


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> Any:
    return module(step, total_steps, bins_min=s0, bins_max=s1).bins


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    def of_images(given: Tensor, noise: Tensor) -> Any:
        return network(given.reshape(x.shape), noise).reshape(given.shape)

    made = module(network=of_images, time_min=sigma_min, data_std=sigma_data)
    return made._forward(made.model, x.reshape(len(x), -1, 1, 1), sigma, clip=False).reshape(x.shape)


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    return module(step, total_steps, network).training_step(x)


def model(x: Tensor, sigma: Tensor) -> Any:
    return module(network=free_network)(x, sigma)
