"""The training loss of each example, for the objectives of a configuration."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from ict_ref.config import Config, Method
from ict_ref.formulas import (
    Distance,
    consistency_matching_loss,
    consistency_training_loss,
    continuous_consistency_training_loss,
)
from ict_ref.networks.model import Model
from ict_ref.training.denoising import denoising_loss
from ict_ref.training.discretization import Discretization, discretization
from ict_ref.training.distance import distance_of
from ict_ref.training.distillation import LabelledScore
from ict_ref.training.sampled_noise import SampledNoise

Examples: TypeAlias = Float[Tensor, " batch *event"]
Function: TypeAlias = Callable[[Examples, Float[Tensor, " batch"]], Examples]
"""A function of (x, sigma): labels and dropout masks are fixed."""


@dataclass(frozen=True)
class LossInputs:
    """The arguments of an objective."""

    student: Function
    teacher: Function
    score: Function | None
    """Score to distil, for distillation only."""
    x: Float[Tensor, " batch *event"]
    """Clean examples."""
    noise: SampledNoise
    levels: Discretization
    distance: Distance
    sigma_data: float


def check_objective(config: Config) -> None:
    """Build the noise levels at both ends of the curriculum, and the distance, to reject them before training.

    Raises:
        ValueError: noise levels are equal in float64, or the file of --method.lpips cannot be used.
    """
    for step in (0, config.train.steps):
        discretization(step, config)
    distance_of(config.method, dim=1)


def training_loss(
    model: Model,
    x: Float[Tensor, " batch *event"],
    labels: Int64[Tensor, " batch"] | None,
    noise: SampledNoise,
    levels: Discretization,
    method: Method,
    *,
    teacher: Model | None = None,
    score: LabelledScore | None = None,
) -> Float[Tensor, " batch"]:
    """Return the training loss of each example.

    Student and teacher are called as model(x, sigma, labels, masks), with the same masks. `x` holds clean examples.
    Without `teacher` the student is its own teacher (mu(k) = 0). Distillation needs `score`, from `load_score`.

    >>> from ict_ref.config import minimal
    >>> from ict_ref.networks.model import build_model
    >>> from ict_ref.training.sampled_noise import sample_intervals_and_noise, sample_masks
    >>> config, shards = minimal(), range(4)
    >>> model = build_model(config, event=(1, 8, 8), classes=10)
    >>> x, labels = torch.zeros(16, 1, 8, 8), torch.zeros(16, dtype=torch.int64)
    >>> index, z = sample_intervals_and_noise(0, shards, config, event=(1, 8, 8))
    >>> masks = sample_masks(0, shards, config, model.network.dropout_sites(), torch.device("cpu"))
    >>> levels = discretization(0, config)
    >>> training_loss(model, x, labels, SampledNoise(index, z, masks), levels, config.method).shape
    torch.Size([16])

    Raises:
        ValueError: the objective is distillation, and `score` is None; or it is denoising, and `noise` has no levels.
    """
    student = partial(model, labels=labels, masks=noise.masks)
    inputs = LossInputs(
        student=student,
        teacher=student if teacher is None else partial(teacher, labels=labels, masks=noise.masks),
        score=None if score is None else lambda noisy, sigma: score(noisy, sigma, labels),
        x=x,
        noise=noise,
        levels=levels,
        distance=distance_of(method, x[0].numel()),
        sigma_data=method.sigma_data,
    )
    return OBJECTIVES[method.objective](inputs)


def _discrete(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return the consistency training loss, Eq. (5)."""
    noise, levels = inputs.noise, inputs.levels
    return consistency_training_loss(
        inputs.student, inputs.teacher, inputs.x, noise.z, noise.index, levels.sigmas,
        distance=inputs.distance, weights=levels.weights,
    )  # fmt: skip


def _continuous(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return the loss in continuous time (CM, Theorem 6), at the upper noise level of each sampled interval."""
    sigma = inputs.levels.sigmas[inputs.noise.index + 1].to(inputs.x)
    return continuous_consistency_training_loss(
        inputs.student, inputs.x, inputs.noise.z, sigma,
        weights=torch.ones_like(sigma), distance=inputs.distance,
    )  # fmt: skip


def _distillation(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return the consistency matching loss, Eq. (3), with the given score.

    Raises:
        ValueError: the score is None.
    """
    if inputs.score is None:
        raise ValueError("score: expected the score to distil, got None. Load it with load_score.")
    x, noise, levels = inputs.x, inputs.noise, inputs.levels
    sigma_hi = levels.sigmas[noise.index + 1].to(x)
    x_hi = x + sigma_hi.reshape(-1, *[1] * (x.ndim - 1)) * noise.z
    return consistency_matching_loss(
        inputs.student, inputs.teacher, inputs.score, x_hi, noise.index, levels.sigmas,
        distance=inputs.distance, weights=levels.weights,
    )  # fmt: skip


def _denoising(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return EDM's denoising loss; the student is the denoiser.

    Raises:
        ValueError: the noise has no levels.
    """
    x, sigma = inputs.x, inputs.noise.sigma
    if sigma is None:
        raise ValueError("noise: expected noise levels for a denoiser, got None. Sample them with sample_sigmas.")
    return denoising_loss(inputs.student, x, inputs.noise.z, sigma.to(x), sigma_data=inputs.sigma_data)


OBJECTIVES: dict[str, Callable[[LossInputs], Float[Tensor, " batch"]]] = {
    "discrete": _discrete,
    "continuous": _continuous,
    "distillation": _distillation,
    "denoising": _denoising,
}
