"""huggingface/diffusers: the research script of CT and iCT, whose step is a part of main()."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ict_ref.verify import adapt

FILE = "examples/research_projects/consistency_training/train_cm_ct_unconditional.py"
with adapt.stub_imports("accelerate", "datasets", "diffusers", "huggingface_hub", "torchvision", "wandb"):
    ct: Any = adapt.script(FILE)
options = {
    "noise_precond_type": "cm",
    "input_precond_type": "cm",
    "prediction_type": "sample",
    "class_conditional": False,
}
given = {**vars(ct), "weight_dtype": torch.float32, "teacher_dtype": torch.float32, "current_skip_steps": 1}
loop = adapt.cut(FILE, 1235, 1311, result="loss", given=given, sha256="ad1b5301e6af")


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return ct.get_karras_sigmas(n, sigma_min, sigma_max, rho)


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> Any:
    return ct.get_discretization_steps(step, total_steps, s0, s1)


def lognormal_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Any:
    # The weights that torch.multinomial divides by their sum.
    weights = ct.get_discretized_lognormal_weights(sigmas, p_mean, p_std)
    return weights / weights.sum()


def inverse_gap_weights(sigmas: Tensor) -> Any:
    return ct.get_loss_weighting_schedule(sigmas)


def c_skip(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return ct.scalings_for_boundary_conditions(sigma, sigma_data)[0]


def c_out(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return ct.scalings_for_boundary_conditions(sigma, sigma_data)[1]


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return ct.get_input_preconditioning(sigma, sigma_data)


def c_noise(sigma: Tensor) -> Any:
    return ct.get_noise_preconditioning(sigma)


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    levels = sigma_grid(exponential_curriculum(step, total_steps=total_steps))

    def unet(x: Tensor, noise: Tensor, class_labels: Any = None) -> Any:
        return SimpleNamespace(sample=network(x, noise))

    accelerator = SimpleNamespace(accumulate=lambda _: torch.enable_grad())
    return loop(
        batch={"images": x},
        args=SimpleNamespace(**options, huber_c=0.00054 * x[0].numel() ** 0.5),
        current_timesteps=levels,
        timestep_weights=ct.get_discretized_lognormal_weights(levels),
        timestep_loss_weights=ct.get_loss_weighting_schedule(levels),
        accelerator=accelerator,
        unet=unet,
        teacher_unet=unet,
    )
