"""Kinyugo/consistency_models, a library of CT and iCT, and LYMDLUT's copy of it in one module."""

from importlib import import_module
from typing import Any
from unittest.mock import patch

from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import free_network

package: Any = import_module("consistency_models")
lib: Any = getattr(package, "consistency_models", package)
pseudo_huber = adapt.with_constant(lambda x, y: lib.pseudo_huber_loss(x, y).flatten(1).mean(1))
inverse_gap_weights = lib.improved_loss_weighting
c_skip, c_out = lib.skip_scaling, lib.output_scaling


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return lib.karras_schedule(n, sigma_min, sigma_max, rho)


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> Any:
    return lib.improved_timesteps_schedule(step, total_steps, s0, s1)


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> Any:
    return lib.timesteps_schedule(step, total_steps, s0, s1)


def teacher_ema_decay(n: int, *, s0: int, mu0: float) -> Any:
    return lib.ema_decay_rate_schedule(n, mu0, s0)


def lognormal_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Any:
    with adapt.exposed_draws() as draws:
        lib.lognormal_timestep_distribution(1, sigmas, p_mean, p_std)
    return draws.pmfs[0]


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    return lib.model_forward_wrapper(network, x, sigma, sigma_data, sigma_min)


def multistep_sample(f: Any, noises: Tensor, sigmas: Tensor, *, sigma_min: float = 0.002) -> Any:
    sampler = lib.ConsistencySamplingAndEditing(sigma_min=sigma_min)
    given = patch.object(lib, "model_forward_wrapper", lambda _, x, sigma, *__: f(x, sigma))
    with adapt.exposed_draws(noises), given:
        return sampler(None, noises[0], sigmas.tolist())


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    output = lib.ImprovedConsistencyTraining()(network, x, step, total_steps)
    return (lib.pseudo_huber_loss(output.predicted, output.target) * output.loss_weights).mean()


def model(x: Tensor, sigma: Tensor) -> Any:
    return lib.model_forward_wrapper(free_network, x, sigma)
