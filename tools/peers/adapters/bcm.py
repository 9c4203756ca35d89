"""Mosasaur5526/BCM-iCT-torch: iCT on ImageNet-64, in a fork of openai/consistency_models."""

from typing import Any

import numpy as np
from torch import nn

from ict_ref.verify import adapt
from tools.peers.adapters.openai_torch import (
    boundary_parameterization,
    c_in,
    c_noise,
    c_out,
    c_skip,
    denoiser,
    model,
    util,
)

__all__ = ["boundary_parameterization", "c_in", "c_noise", "c_out", "c_skip", "model"]
levels = adapt.cut("cm/karras_diffusion.py", 180, 182, result="ts", given={"np": np}, sha256="b0365ab621ae")


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> Any:
    return util.create_ema_and_scales_fn("adaptive", 0.95, "progressive", s0, s1, total_steps, None)(step)[1]


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    settings = denoiser(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    return levels(self=settings, num_scales=n, max_n_scales=n)


def step(network: nn.Module, x: Any, *, step: int, total_steps: int) -> Any:
    n = exponential_curriculum(step, total_steps=total_steps)
    settings = denoiser(loss_norm="ict", weight_schedule="ict")
    return settings.consistency_losses(network, x, n, target_model=network)["loss"].mean()
