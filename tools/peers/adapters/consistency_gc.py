"""thibautissenhuth/consistency_GC: iCT as a baseline, whose step is a part of main()."""

from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import f_of_images, inputs, wrapped

with adapt.stub_imports("torchvision", "ortools", "omegaconf"):
    utils: Any = adapt.script("utils.py")
    networks: Any = adapt.script("edm_networks.py")
config = utils.Train_config(sigma_min=0.002, sigma_max=80.0)
pseudo_huber = adapt.with_constant(lambda x, y: utils.loss_image(as_images(x), as_images(y), config))
inverse_gap_weights = utils.improved_loss_weighting
given = {**vars(utils), "torch": torch, "train_cfg": config}
loop = adapt.cut("train_consistency.py", 182, 220, result="loss", given=given, sha256="f049a353fcef")


def as_images(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1, 1, 1)


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return utils.get_sigmas_karras(n, sigma_min, sigma_max, rho)


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> Any:
    return utils.improved_timesteps_schedule(step, total_steps, s0, s1)


def lognormal_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Any:
    with adapt.exposed_draws() as draws:
        utils.lognormal_timestep_distribution(1, sigmas, p_mean, p_std)
    return draws.pmfs[0]


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    return f_of_images(networks, "ConsistencyPrecond", network, x, sigma, sigma_min=sigma_min, sigma_data=sigma_data)


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return inputs(wrapped(networks, "ConsistencyPrecond", None, sigma_data=sigma_data), sigma)[0]


def c_noise(sigma: Tensor) -> Any:
    return inputs(wrapped(networks, "ConsistencyPrecond", None), sigma)[1]


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    config.n_train_steps = total_steps
    f = wrapped(networks, "ConsistencyPrecond", network, sigma_min=0.002).train()
    read, write = (lambda _: torch.get_rng_state()), (lambda state, device: torch.set_rng_state(state))
    with patch.multiple(torch.cuda, get_rng_state=read, set_rng_state=write):
        return loop(batch_real_data=x, unet=f, i_train=step, device="cpu", optimizer=adapt.Stub("optimizer"))


model = wrapped(networks, "ConsistencyPrecond", sigma_min=0.002)
