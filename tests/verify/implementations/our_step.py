"""The project's own training step, for `python -m ict_ref.verify audit step`."""

import dataclasses

import torch
from torch import Tensor, nn

from ict_ref.config import digits
from ict_ref.networks.dropout import DropoutSite
from ict_ref.networks.model import ConsistencyModel
from ict_ref.training.discretization import discretization
from ict_ref.training.loss import training_loss
from ict_ref.training.sampled_noise import SampledNoise, sample_intervals_and_noise, sample_masks


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Tensor:
    train = dataclasses.replace(digits().train, steps=total_steps, batch_size=len(x), noise_shards=1)
    config = dataclasses.replace(digits(), train=train)
    channels, height, width = x.shape[1:]
    sites = [DropoutSite(channels, height, width, 0.5)]
    index, z = sample_intervals_and_noise(step, [0], config, event=(channels, height, width))
    noise = SampledNoise(index, z, sample_masks(step, [0], config, sites, torch.device("cpu")))
    model = ConsistencyModel(network, sigma_min=0.002, sigma_data=0.5)  # type: ignore[arg-type] # a spy, not ADM
    return training_loss(model, x.to(torch.float32), None, noise, discretization(step, config), config.method)
