"""sony/vct: iCT as a baseline of variational coupling."""

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import free_network

with adapt.stub_imports(
    "ot", "lightning", values={"lightning.pytorch.utilities.seed.isolate_rng": torch.random.fork_rng}
):
    ict: Any = import_module("models.ict").ImprovedConsistencyTraining
    kernels: Any = import_module("kernels.variance_exploding")


def published(network: Any = None, total_steps: int = 400_000, **options: Any) -> Any:
    """Return the published model with its configuration conf/model/ict.yaml."""
    ends = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5}
    ends |= {name: options[name] for name in ends if name in options}
    return ict(
        net=network,
        total_training_steps=total_steps,
        kernel=kernels.VarianceExplodingKernel(**ends),
        **{**ends, **options},
    )


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return published(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)._get_sigmas(n, "cpu")


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> Any:
    return published(total_steps=total_steps, start_scales=s0, end_scales=s1)._step_schedule(step)


def lognormal_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Any:
    with adapt.exposed_draws() as draws:
        published(p_mean=p_mean, p_std=p_std)._lognormal_timestep_distribution(1, sigmas)
    return draws.pmfs[0]


def inverse_gap_weights(sigmas: Tensor) -> Any:
    return published()._get_loss_weights(sigmas, torch.arange(len(sigmas) - 1))


# The loss of an example is the sum over its values.
pseudo_huber = adapt.with_constant(lambda x, y: published().pseudo_huber_loss(x, y).flatten(1).sum(1))


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return published(sigma_min=sigma_min, sigma_data=sigma_data).kernel.get_scaling_factors_bc(sigma)[1]


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return published(sigma_min=sigma_min, sigma_data=sigma_data).kernel.get_scaling_factors_bc(sigma)[2]


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return published(sigma_data=sigma_data).kernel.get_scaling_factors_bc(sigma)[0]


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    return published(lambda x, noise, **_: network(x, noise), sigma_min=sigma_min, sigma_data=sigma_data).precond(
        x, sigma, None
    )


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    return published(network, total_steps, coupling="independent").train().loss(x, step)[0]


def model(x: Tensor, sigma: Tensor) -> Any:
    return published(free_network).precond(x, sigma, None)
