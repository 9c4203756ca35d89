"""mselmangokmen/consistency-model-unofficial: iCT for images of computed tomography, in the methods of a trainer."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from ict_ref.verify import adapt
from tools.peers.adapters.networks import free_network

with adapt.stub_imports(
    "torchmetrics", "torchvision", "pydicom", "cv2", "einops", "torchinfo", "skimage", "pandas", "tqdm_joblib"
):
    trainer: Any = adapt.script("train_ldct_iCT.py").Trainer


def self_with(**options: Any) -> Any:
    """Return a trainer with its default options, without data and processes."""
    made = trainer.__new__(trainer)
    defaults = {"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "rho": 7.0, "gpu_id": "cpu"}
    counts = {"initial_timesteps": 10, "final_timesteps": 1280, "constant_N": False, "total_training_steps": 400_000}
    vars(made).update(defaults | counts | options)
    return made


pseudo_huber = adapt.with_constant(lambda x, y: self_with().pseudo_huber_loss(x, y).flatten(1).mean(1))


def sigma_grid(n: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Any:
    return self_with(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho).karras_boundaries(n)


def exponential_curriculum(step: int, *, total_steps: int, s0: int = 10, s1: int = 1280) -> Any:
    made = self_with(total_training_steps=total_steps, initial_timesteps=s0, final_timesteps=s1)
    return made.improved_timesteps_schedule(step)


def lognormal_pmf(sigmas: Tensor, *, p_mean: float = -1.1, p_std: float = 2.0) -> Any:
    with adapt.exposed_draws() as draws:
        self_with().lognormal_timestep_distribution(1, sigmas, p_mean, p_std)
    return draws.pmfs[0]


def inverse_gap_weights(sigmas: Tensor) -> Any:
    return self_with().improved_loss_weighting(sigmas)


def c_skip(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return self_with(sigma_min=sigma_min, sigma_data=sigma_data).skip_scaling(sigma)


def c_out(sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5) -> Any:
    return self_with(sigma_min=sigma_min, sigma_data=sigma_data).output_scaling(sigma)


def c_in(sigma: Tensor, *, sigma_data: float = 0.5) -> Any:
    return self_with(sigma_data=sigma_data).in_scaling(sigma)


def boundary_parameterization(
    network: Any, x: Tensor, sigma: Tensor, *, sigma_min: float = 0.002, sigma_data: float = 0.5
) -> Any:
    return self_with(sigma_min=sigma_min, sigma_data=sigma_data).model_forward_wrapper(network, x, sigma)


def step(network: nn.Module, x: Tensor, *, step: int, total_steps: int) -> Any:
    losses: list[Tensor] = []
    made = self_with(model=network, total_training_steps=total_steps, current_training_step=step)
    made.optimizer = SimpleNamespace(zero_grad=lambda: None, step=lambda: None)
    batch = made.loss_fun_improved

    def kept(**inputs: Any) -> Any:
        losses.append(batch(**inputs))
        # The trainer's own backward pass comes later than the audit's.
        return losses[0].detach().requires_grad_()

    made.loss_fun_improved = kept
    made._run_batch(x)
    return losses[0]


def model(x: Tensor, sigma: Tensor) -> Any:
    return self_with().model_forward_wrapper(free_network, x, sigma)
