"""diffusers' CMStochasticIterativeScheduler behind the names of `ict_ref.formulas`: what `nox -s peers` checks.

Only what the scheduler has: its levels and its scalings. Its sampler draws its own noise, so that there is no `renoise`
or `multistep_sample` to call.
"""

import numpy as np
import torch
from diffusers import CMStochasticIterativeScheduler
from torch import Tensor


def _scheduler(**options: float) -> CMStochasticIterativeScheduler:
    return CMStochasticIterativeScheduler(**options)


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    scheduler = _scheduler(num_train_timesteps=n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    sigmas: Tensor = scheduler.sigmas.flip(0)
    return sigmas


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    scheduler = _scheduler(sigma_min=sigma_min, sigma_data=sigma_data)
    scalings: tuple[Tensor, Tensor] = scheduler.get_scalings_for_boundary_condition(sigma)
    return scalings[0]


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    scheduler = _scheduler(sigma_min=sigma_min, sigma_data=sigma_data)
    scalings: tuple[Tensor, Tensor] = scheduler.get_scalings_for_boundary_condition(sigma)
    return scalings[1]


def c_noise(sigma: Tensor) -> Tensor:
    scheduler = _scheduler()
    # Its timesteps are a thousand times c_noise, for networks that were trained so.
    timesteps = np.asarray(scheduler.sigma_to_t(np.atleast_1d(sigma.numpy())))
    return torch.from_numpy(timesteps).reshape(sigma.shape) / 1000


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Tensor:
    scheduler = _scheduler(sigma_data=sigma_data)
    scaled = []
    for level in sigma.flatten().tolist():
        scheduler.sigmas = torch.tensor([level], dtype=torch.float64)
        scheduler._step_index = 0
        scheduler.is_scale_input_called = False
        scaled.append(scheduler.scale_model_input(torch.ones((), dtype=torch.float64), torch.tensor(0.0)))
    return torch.stack(scaled).reshape(sigma.shape)
