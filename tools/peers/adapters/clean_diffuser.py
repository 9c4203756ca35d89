"""CleanDiffuserTeam/CleanDiffuser: iCT for decision making."""

from copy import copy
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import free_network

with adapt.stub_imports(
    "einops", "gym", "hydra", "omegaconf", "pytorch_lightning", "torchvision", "zarr", "numba", "cv2", "av"
):
    cm: Any = import_module("cleandiffuser.diffusion.consistency_model")


plain: Any = cm.ContinuousConsistencyModel(nn.Linear(1, 1))


def published(**options: Any) -> Any:
    """Return the published model with some of its attributes."""
    made = copy(plain)
    vars(made).update(options)
    return made


def pseudo_huber(x: Tensor, y: Tensor, *, c: float) -> Any:
    return cm.pseudo_huber_loss(x, y, c).flatten(1).mean(1)


def pseudo_huber_constant(dim: int) -> Any:
    return cm.ContinuousConsistencyModel(nn.Linear(1, 1), data_dim=dim).pseudo_huber_constant


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> Any:
    curriculum = cm.CMCurriculumLogger(s0, s1, total_steps)
    curriculum.update_k(step)
    # Nk is the number of intervals.
    return curriculum.Nk + 1


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return published(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho).training_noise_schedule(n - 1)


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return published(sigma_min=sigma_min, sigma_data=sigma_data).c_skip(sigma)


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return published(sigma_min=sigma_min, sigma_data=sigma_data).c_out(sigma)


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return published(sigma_data=sigma_data).c_in(sigma)


def c_noise(sigma: Tensor) -> Any:
    return published().c_noise(sigma)


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    given = {"diffusion": lambda x, noise, _: network(x, noise)}
    return published(sigma_min=sigma_min, sigma_data=sigma_data).f(x, sigma, None, given)


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    curriculum = cm.CMCurriculumLogger(curriculum_cycle=total_steps)
    curriculum.update_k(step)
    # A condition is needed: the published step fails without one.
    networks = {"diffusion": lambda x, noise, _: network(x, noise), "condition": lambda given: given}
    constant = pseudo_huber_constant(x[0].numel())
    trained = published(model=networks, cur_logger=curriculum, pseudo_huber_constant=constant)
    return trained.training_loss(x, torch.zeros(len(x)))[0]


def model(x: Tensor, sigma: Tensor) -> Any:
    return published().f(x, sigma, None, {"diffusion": lambda x, noise, _: free_network(x, noise)})
