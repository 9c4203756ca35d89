"""The training loss of each example, for the objectives of a configuration."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ict_ref.config import Config, Method, Scm, Tuning
from ict_ref.formulas import (
    Distance,
    consistency_matching_loss,
    consistency_training_loss,
    consistency_tuning_loss,
    continuous_consistency_training_loss,
    scm_loss,
    tangent_warmup,
    trigflow_interpolant,
    trigflow_time,
    trigflow_velocity,
    truncated,
    truncated_weights,
)
from ict_ref.networks.model import Model, TrigFlowModel
from ict_ref.training.denoising import denoising_loss
from ict_ref.training.discretization import Discretization, discretization
from ict_ref.training.distance import distance_of
from ict_ref.training.distillation import LabelledScore, trigflow_drift
from ict_ref.training.level_pairs import pair_weights
from ict_ref.training.sampled_noise import SampledNoise, refuse_unreachable_levels
from ict_ref.utils.torchscript import trust

Examples: TypeAlias = Float[Tensor, " batch *event"]
Function: TypeAlias = Callable[[Examples, Float[Tensor, " batch"]], Examples]
"""A function of (x, sigma): labels and dropout masks are fixed."""


@dataclass(frozen=True)
class LossInputs:
    """The arguments of an objective."""

    model: Model
    """The student as a function of labels and masks too."""
    student: Function
    teacher: Function
    score: Function | None
    """Score to distil, for distillation only."""
    x: Float[Tensor, " batch *event"]
    """Clean examples."""
    labels: Int64[Tensor, " batch"] | None
    noise: SampledNoise
    levels: Discretization
    distance: Distance
    method: Method
    tuning: Tuning
    scm: Scm
    step: int


def check_objective(config: Config) -> None:
    """Build the noise levels at both ends of the curriculum, and the distance, to reject them before training.

    Raises:
        ValueError: noise levels are equal in float64 or cannot be sampled, the file of --method.lpips cannot be used,
            or --machine.trust is not a SHA-256.
    """
    trust(config.machine.trust, "--machine.trust")
    for step in (0, config.train.steps):
        discretization(step, config)
    refuse_unreachable_levels(config)
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
    tuning: Tuning | None = None,
    scm: Scm | None = None,
    step: int = 0,
) -> Float[Tensor, " batch"]:
    """Return the training loss of each example.

    Student and teacher are called as model(x, sigma, labels, masks), with the same masks. `x` holds clean examples.
    Without `teacher` the student is its own teacher (mu(k) = 0); in TCM it is the frozen function below the cut.
    Distillation needs `score`, from `load_score`. TCM needs the options `tuning`, and sCM the options `scm` and the
    number `step` of updates before this one; by default these are the papers' and 0.

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
        ValueError: the objective is distillation, and `score` is None; it does not have a grid, and `noise` does not
            have its levels; or it is scm, and `model` is not a `TrigFlowModel`.
    """
    student = partial(model, labels=labels, masks=noise.masks)
    inputs = LossInputs(
        model=model,
        student=student,
        teacher=student if teacher is None else partial(teacher, labels=labels, masks=noise.masks),
        score=None if score is None else lambda noisy, sigma: score(noisy, sigma, labels),
        x=x,
        labels=labels,
        noise=noise,
        levels=levels,
        distance=distance_of(method, x[0].numel()),
        method=method,
        tuning=tuning or Tuning(),
        scm=scm or Scm(),
        step=step,
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


def require_levels(noise: SampledNoise) -> Float64[Tensor, " batch"]:
    """Return the noise level of each example of an objective without a grid.

    Raises:
        ValueError: the noise has no levels.
    """
    if noise.sigma is None:
        raise ValueError("noise: expected noise levels, got None. Sample them with sample_sigmas.")
    return noise.sigma


def _denoising(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return EDM's denoising loss; the student is the denoiser.

    Raises:
        ValueError: the noise has no levels.
    """
    x, sigma = inputs.x, require_levels(inputs.noise)
    return denoising_loss(inputs.student, x, inputs.noise.z, sigma.to(x), sigma_data=inputs.method.sigma_data)


def _tuning(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return the consistency tuning loss (ECT, Eq. (12)).

    Raises:
        ValueError: the noise does not have pairs of levels.
    """
    noise, sigma = inputs.noise, require_levels(inputs.noise)
    if noise.sigma_low is None:
        raise ValueError("noise: expected pairs of noise levels, got None. Take them from lower_sigmas.")
    return consistency_tuning_loss(
        inputs.student, inputs.teacher, inputs.x, noise.z, sigma, noise.sigma_low,
        distance=inputs.distance, weights=pair_weights(sigma, noise.sigma_low, inputs.method),
    )  # fmt: skip


def _truncated(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return the losses whose mean is L_C + w_b L_B (TCM, Eq. (6)): those of `_tuning` with the truncated target.

    Raises:
        ValueError: the noise does not have pairs of levels.
    """
    student, frozen, cut = inputs.student, inputs.teacher, inputs.tuning.sigma_cut

    def target(x: Examples, sigma: Float[Tensor, " batch"]) -> Examples:
        return truncated(student, frozen, x, sigma, sigma_cut=cut)

    losses = _tuning(replace(inputs, teacher=target))
    at_cut = require_levels(inputs.noise) == cut
    return truncated_weights(at_cut, boundary_weight=inputs.tuning.boundary_weight).to(losses) * losses


def _continuous_in_trigflow(inputs: LossInputs) -> Float[Tensor, " batch"]:
    """Return the loss of sCM's Algorithm 1: of consistency training, or with a score of distillation.

    Raises:
        ValueError: the noise has no levels, or the model is another one than a `TrigFlowModel`.
    """
    model, noise, scm, sigma_data = inputs.model, inputs.noise, inputs.scm, inputs.method.sigma_data
    if not isinstance(model, TrigFlowModel):
        raise ValueError(f"model: expected a TrigFlowModel, got {type(model).__name__}. Build it with build_model.")
    t = trigflow_time(require_levels(noise), sigma_data=sigma_data).to(inputs.x)
    z = sigma_data * noise.z
    x_t = trigflow_interpolant(inputs.x, z, t)
    if inputs.score is None:
        velocity = trigflow_velocity(inputs.x, z, t)
    else:
        velocity = trigflow_drift(inputs.score, x_t, t, sigma_data=sigma_data)
    return scm_loss(
        model.free_form(inputs.labels, noise.masks), x_t, t, velocity, model.log_weight(t),
        c=scm.tangent_c, warmup=tangent_warmup(inputs.step, warmup_steps=scm.warmup_steps), sigma_data=sigma_data,
    )  # fmt: skip


OBJECTIVES: dict[str, Callable[[LossInputs], Float[Tensor, " batch"]]] = {
    "discrete": _discrete,
    "continuous": _continuous,
    "distillation": _distillation,
    "denoising": _denoising,
    "ect": _tuning,
    "tcm": _truncated,
    "scm": _continuous_in_trigflow,
}
