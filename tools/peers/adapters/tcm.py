"""NVlabs/TCM: Truncated Consistency Models, whose first stage is consistency training with continuous levels."""

from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import f_of_images, inputs, wrapped

with adapt.stub_imports("requests", "psutil", "click", "wandb"):
    losses: Any = import_module("training.loss")
    networks: Any = import_module("training.networks")


def boundary_parameterization(network: Any, x: Tensor, sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return f_of_images(networks, "ECMPrecond", network, x, sigma, sigma_data=sigma_data)


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return inputs(wrapped(networks, "ECMPrecond", None, sigma_data=sigma_data), sigma)[0]


def c_noise(sigma: Tensor) -> Any:
    return inputs(wrapped(networks, "ECMPrecond", None), sigma)[1]


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    loss = losses.ECMLoss()
    loss.update_schedule(8 * step // total_steps)
    with patch.multiple(torch.cuda, get_rng_state=torch.get_rng_state, set_rng_state=torch.set_rng_state):
        return loss(wrapped(networks, "ECMPrecond", network).train(), x)[1].mean()
