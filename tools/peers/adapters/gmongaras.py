"""gmongaras/Consistency_Models: CT with the network NCSN++."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from ict_ref.verify import adapt
from tools.peers.adapters.networks import free_network

# Their classes need TensorFlow and compiled CUDA code, their methods do not.
given = {"torch": torch}
schedules = adapt.cut("trainer.py", 91, 103, result=("N_sched", "mu_sched"), given=given, sha256="0a2e1cda0bd5")
N_sched, mu_sched = schedules()
names = ("c_skip", "c_out", "n_to_t", "forward")
methods = adapt.cut("Model.py", 34, 70, result=names, given=given, sha256="1b282a1f723e")
published = SimpleNamespace(**dict(zip(names, methods(), strict=True)))


def self_with(**options: float) -> Any:
    """Return the attributes that a method uses, which the published classes keep as tensors."""
    defaults = {"s_0": 2, "s_1": 150, "epsilon": 0.002, "sigma_data": 0.5, "t_rho": 7, "max_T": 80}
    return SimpleNamespace(**{name: torch.tensor(value) for name, value in {**defaults, **options}.items()})


def sqrt_curriculum(step: int, *, total_steps: int, s0: int = 2, s1: int = 150) -> Any:
    return N_sched(self_with(s_0=s0, s_1=s1, K=total_steps), step)


def teacher_ema_decay(n: int, *, s0: int, mu0: float) -> Any:
    made = self_with(s_0=s0, mu_0=mu0)
    made.N_sched = lambda _: n
    return mu_sched(made, 0)


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    made = self_with(epsilon=sigma_min, max_T=sigma_max, t_rho=rho)
    return published.n_to_t(made, torch.arange(1, n + 1), n)


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return published.c_skip(self_with(epsilon=sigma_min, sigma_data=sigma_data), sigma).reshape(sigma.shape)


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return published.c_out(self_with(epsilon=sigma_min, sigma_data=sigma_data), sigma).reshape(sigma.shape)


def f_of(network: Any, **options: float) -> Any:
    made = self_with(**options)
    made.c_skip, made.c_out = (lambda t: published.c_skip(made, t)), (lambda t: published.c_out(made, t))
    made.NCSNpp = network
    return lambda x, sigma: published.forward(made, x, sigma)


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    def of_images(images: Tensor, t: Tensor) -> Any:
        return network(images.reshape(x.shape), t).reshape(images.shape)

    f = f_of(of_images, epsilon=sigma_min, sigma_data=sigma_data)
    return f(x.reshape(len(x), -1, 1, 1), sigma).reshape(x.shape)


def model(x: Tensor, sigma: Tensor) -> Any:
    return f_of(free_network)(x, sigma)
