"""A training run whose parts are arguments, so that an experiment can replace one of them.

With the parts of `StepParts()` it has the weights of `ict_ref.training.trainer.Trainer`, bit for bit.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from ict_ref.config import Config
from ict_ref.data.dataset import to_uint8
from ict_ref.experiments.runs import EVALUATION_SEED, Function
from ict_ref.formulas import (
    boundary_parameterization,
    consistency_training_loss,
    index_from_uniform,
    multistep_sample,
)
from ict_ref.training.discretization import Discretization, discretization, teacher_decay
from ict_ref.training.distance import distance_of
from ict_ref.training.ema import update_ema
from ict_ref.training.loss import Examples as Values
from ict_ref.training.microbatches import Examples, Microbatch
from ict_ref.training.sampled_noise import SampledNoise
from ict_ref.training.trainer import Trainer
from ict_ref.utils.rng import stream

Masks: TypeAlias = tuple[Bool[Tensor, " batch _ _ _"], ...]
Network: TypeAlias = Callable[..., Float[Tensor, " batch *event"]]
"""F, called as network(x, c_noise, labels, masks)."""


def optimizer_then_ema(trainer: Trainer) -> None:
    """Update the student, then the EMA weights."""
    trainer.optimizer.step()
    update_ema(trainer.ema, trainer.student, decay=trainer.config.train.ema_decays[0])


def unchanged(images: Values) -> Values:
    """Return the images."""
    return images


def shared(noise: SampledNoise) -> SampledNoise:
    """Return the student's random numbers for the teacher."""
    return noise


@dataclass(frozen=True)
class StepParts:
    """The parts of a training step and of sampling; the defaults are right."""

    configure: Callable[[Config], Config] = replace
    """Return the configuration of the run, by default a copy."""
    encode: Callable[[Values], Values] = unchanged
    """Return the images to train on, from images in [-1, 1]."""
    decode: Callable[[Values], Values] = unchanged
    """Return samples as images in [-1, 1]."""
    levels: Callable[[int, Config], Discretization] = discretization
    """Return the noise levels of a step, with the probability and weight of each interval."""
    teacher_noise: Callable[[SampledNoise], SampledNoise] = shared
    """Return the random numbers whose dropout masks the teacher uses."""
    parameterization: Callable[..., Values] = boundary_parameterization
    """Return f, with the signature of `boundary_parameterization`."""
    distance: Callable[[Config, int], Callable[[Values, Values], Float[Tensor, " batch"]]] = lambda config, dim: (
        distance_of(config.method, dim)
    )
    """Return the distance between images of `dim` values."""
    loss: Callable[..., Float[Tensor, " batch"]] = consistency_training_loss
    """Return the losses, with the signature of `consistency_training_loss`."""
    update: Callable[[Trainer], None] = optimizer_then_ema
    """Update student and EMA weights by the gradient."""


class PartedRun:
    """A training run of digits by the given parts, on one CPU thread in float32.

    `state` holds networks, optimizer and configuration; its own method `update` is not used. `loss` is that of the last
    update.
    """

    def __init__(self, config: Config, examples: Examples, parts: StepParts) -> None:
        self.parts = parts
        self.state = Trainer(parts.configure(config), examples)
        self.loss = torch.zeros(())

    def update(self) -> None:
        """Make one update.

        Raises:
            FloatingPointError: the loss or the gradient is not finite. No weight has changed.
        """
        state = self.state
        ((microbatch, _),) = state.microbatches.of_step(state.step)
        state.optimizer.zero_grad()
        loss = self.losses(microbatch).mean()
        torch.autograd.backward(loss)
        self.loss = loss.detach()
        norm = torch.nn.utils.get_total_norm(
            [each.grad for each in state.student.parameters() if each.grad is not None]
        )
        if not bool((self.loss + norm).isfinite()):
            raise FloatingPointError(f"the loss is {float(self.loss)}, the norm of its gradient {float(norm)}")
        self.parts.update(state)
        if state.teacher is not None:
            update_ema(state.teacher, state.student, decay=teacher_decay(state.step, state.config))
        state.step += 1

    def losses(self, microbatch: Microbatch) -> Float[Tensor, " batch"]:
        """Return the loss of each example of the next step."""
        parts, state, noise = self.parts, self.state, microbatch.noise
        config, labels = state.config, microbatch.labels
        levels = parts.levels(state.step, config)
        u = torch.from_numpy(stream(config.train.seed, "noise level", state.step).random(len(microbatch.x)))
        teacher = state.student if state.teacher is None else state.teacher
        return parts.loss(
            self.function(state.student.network, labels, noise.masks),
            self.function(teacher.network, labels, parts.teacher_noise(noise).masks),
            parts.encode(microbatch.x),
            noise.z,
            index_from_uniform(u, levels.pmf),
            levels.sigmas,
            distance=parts.distance(config, microbatch.x[0].numel()),
            weights=levels.weights,
        )

    def function(self, network: Network, labels: Int64[Tensor, " batch"] | None, masks: Masks | None) -> Function:
        """Return f(x, sigma) of a network."""
        method = self.state.config.method

        def f(x: Float[Tensor, " batch *event"], sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch *event"]:
            return self.parts.parameterization(
                lambda scaled, noise: network(scaled, noise, labels, masks),
                x,
                sigma,
                sigma_min=method.sigma_min,
                sigma_data=method.sigma_data,
            )

        return f

    @torch.no_grad()
    def samples(self, labels: Int64[Tensor, " n"]) -> UInt8[Tensor, " n channels height width"]:
        """Return one image for each label, made in one step from the EMA weights; the noise is the same for all runs.

        Raises:
            FloatingPointError: a sample is not finite.
        """
        shape, sigma = (1, len(labels), *self.state.event), self.state.config.method.sigma_max
        noise = stream(EVALUATION_SEED, "sample").standard_normal(shape, dtype="float32")
        f = self.function(self.state.ema.network, labels, None)
        levels = torch.tensor([sigma], dtype=torch.float64)
        made = multistep_sample(f, torch.from_numpy(noise), levels, sigma_min=self.state.config.method.sigma_min)
        if not bool(made.isfinite().all()):
            raise FloatingPointError("a sample is not finite")
        return to_uint8(self.parts.decode(made))
