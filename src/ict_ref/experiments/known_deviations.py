"""Known deviations of public implementations, each as one replaced part of a training step.

A deviation that is an option of `ict_ref.config` is a changed configuration, any other a small function.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ict_ref.config import Config
from ict_ref.experiments.cost_table import RIGHT_NAME
from ict_ref.experiments.step_parts import StepParts
from ict_ref.formulas import (
    c_in,
    c_noise,
    c_out,
    c_skip,
    inverse_gap_weights,
    lognormal_pmf,
    pseudo_huber,
    pseudo_huber_constant,
    sigma_grid,
)
from ict_ref.training.discretization import Discretization, discretization, number_of_levels
from ict_ref.training.ema import update_ema
from ict_ref.training.loss import Examples, Function
from ict_ref.training.sampled_noise import SampledNoise
from ict_ref.training.trainer import Trainer

Levels = Float[Tensor, " batch"]
Losses = Float[Tensor, " batch"]
OnLevels = Callable[..., Levels]


@dataclass(frozen=True)
class KnownDeviation:
    """A deviation: its id, its description and the parts of its training step."""

    name: str
    what: str
    parts: StepParts
    of_verify: tuple[str, ...] = ()
    """Ids under which `ict_ref.verify` reports it."""


RIGHT = KnownDeviation(RIGHT_NAME, "the reference, without a deviation", StepParts())


def configured(group: str, **changed: Any) -> StepParts:
    """Return the parts of a run with changed options of one group of the configuration."""

    def configure(config: Config) -> Config:
        return replace(config, **{group: replace(getattr(config, group), **changed)})

    return StepParts(configure=configure)


# Distances


def times_constant(factor: float) -> StepParts:
    """Return the parts of a run whose constant c of pseudo-Huber is `factor` times too large."""

    def configure(config: Config) -> Config:
        c = factor * pseudo_huber_constant(VALUES)
        return replace(config, method=replace(config.method, huber_c=c))

    return StepParts(configure=configure)


def elementwise(x: Examples, y: Examples) -> Losses:
    """Return the mean of the pseudo-Huber distances of single values, with the constant of the whole image."""
    flat, c = (x - y).flatten(1), pseudo_huber_constant(VALUES)
    return (flat.square() + c**2).sqrt().sub(c).mean(1)


def over_root(x: Examples, y: Examples) -> Losses:
    """Return the pseudo-Huber distance divided by sqrt(d)."""
    return pseudo_huber(x, y, c=pseudo_huber_constant(VALUES)) / math.sqrt(VALUES)


def unsquared(x: Examples, y: Examples) -> Losses:
    """Return the l2 norm, which is pseudo-Huber with c = 0."""
    return (x - y).flatten(1).square().sum(1).sqrt()


VALUES = 64
"""Number of values of a digit."""


def distance(of: Callable[[Examples, Examples], Losses]) -> StepParts:
    """Return the parts of a run with another distance."""
    return StepParts(distance=lambda *_: of)


# Parameterization


def parameterization(
    *, skip: OnLevels = c_skip, out: OnLevels = c_out, scale: OnLevels = c_in, noise: OnLevels = c_noise,
    end: Callable[[Examples], Examples] = lambda f: f,
) -> StepParts:  # fmt: skip
    """Return the parts of a run with other coefficients of f, or with another last operation on f."""

    def parameterized(
        network: Function, x: Examples, sigma: Levels, *, sigma_min: float, sigma_data: float
    ) -> Examples:
        def column(values: Levels) -> Float[Tensor, " batch 1 1 1"]:
            return values.reshape(-1, 1, 1, 1)

        given = {"sigma_min": sigma_min, "sigma_data": sigma_data}
        free_form = network(column(scale(sigma, sigma_data=sigma_data)) * x, noise(sigma))
        return end(column(skip(sigma, **given)) * x + column(out(sigma, **given)) * free_form)

    return StepParts(parameterization=parameterized)


def edm_skip(sigma: Levels, *, sigma_data: float, **_: float) -> Levels:
    """Return c_skip without sigma_min."""
    return sigma_data**2 / (sigma**2 + sigma_data**2)


def edm_out(sigma: Levels, *, sigma_data: float, **_: float) -> Levels:
    """Return c_out without sigma_min."""
    return sigma_data * sigma / (sigma**2 + sigma_data**2).sqrt()


def diffusers_out(sigma: Levels, *, sigma_data: float, **_: float) -> Levels:
    """Return c_out without sigma_min and without the factor sigma_data."""
    return sigma / (sigma**2 + sigma_data**2).sqrt()


def squared_in(sigma: Levels, *, sigma_data: float) -> Levels:
    """Return c_in without its root."""
    return 1 / (sigma**2 + sigma_data**2)


# Pairs of noisy images, with the signature of `consistency_training_loss`


@dataclass(frozen=True)
class Pair:
    """The arguments of `consistency_training_loss`, and the noisy images and noise levels of both functions."""

    student: Function
    teacher: Function
    x: Float[Tensor, " batch *event"]
    z: Float[Tensor, " batch *event"]
    index: Int64[Tensor, " batch"]
    sigmas: Float64[Tensor, " n"]
    distance: Callable[[Examples, Examples], Losses]
    weights: Float64[Tensor, " n-1"]

    @property
    def low(self) -> Levels:
        """Return sigma_i."""
        return self.sigmas[self.index].to(self.x)

    @property
    def high(self) -> Levels:
        """Return sigma_{i+1}."""
        return self.sigmas[self.index + 1].to(self.x)

    def noisy(self, sigma: Levels) -> Examples:
        """Return x + sigma z."""
        return self.x + sigma.reshape(-1, 1, 1, 1) * self.z

    def losses(self, student: Examples, teacher: Examples) -> Losses:
        """Return the weighted distances of two outputs."""
        return self.weights[self.index].to(self.x) * self.distance(student, teacher)


def pair(of: Callable[[Pair], tuple[Examples, Examples]]) -> StepParts:
    """Return the parts of a run that compares the two outputs that `of` returns."""

    def loss(*arguments: Any, **named: Any) -> Losses:
        given = Pair(*arguments, **named)
        return given.losses(*of(given))

    return StepParts(loss=loss)


def right_pair(of: Pair) -> tuple[Examples, Examples]:
    """Return the outputs of student and teacher that Eq. (5) compares."""
    return of.student(of.noisy(of.high), of.high), without_gradient(of.teacher, of.noisy(of.low), of.low)


@torch.no_grad()
def without_gradient(f: Function, x: Examples, sigma: Levels) -> Examples:
    """Return f(x, sigma) without gradient."""
    return f(x, sigma)


def gradient_through_teacher(of: Pair) -> tuple[Examples, Examples]:
    """Return the outputs without stopping the gradient of the teacher's."""
    return of.student(of.noisy(of.high), of.high), of.teacher(of.noisy(of.low), of.low)


def swapped_levels(of: Pair) -> tuple[Examples, Examples]:
    """Return the outputs of a student at sigma_i and a teacher at sigma_{i+1}."""
    return of.student(of.noisy(of.low), of.low), without_gradient(of.teacher, of.noisy(of.high), of.high)


def teacher_at_higher_level(of: Pair) -> tuple[Examples, Examples]:
    """Return the outputs where the teacher gets x_i with the level sigma_{i+1}."""
    return of.student(of.noisy(of.high), of.high), without_gradient(of.teacher, of.noisy(of.low), of.high)


def same_noise(of: Pair) -> tuple[Examples, Examples]:
    """Return the outputs where the student gets x_i with the level sigma_{i+1}."""
    return of.student(of.noisy(of.low), of.high), without_gradient(of.teacher, of.noisy(of.low), of.low)


def noise_not_shared(of: Pair) -> tuple[Examples, Examples]:
    """Return the outputs where the teacher's noise is that of the next example of the batch."""
    own = replace(of, z=of.z.roll(1, 0))
    return of.student(of.noisy(of.high), of.high), without_gradient(of.teacher, own.noisy(of.low), of.low)


def multiplicative_noise(of: Pair) -> tuple[Examples, Examples]:
    """Return the outputs where noisy images are x sigma z."""
    return right_pair(replace(of, x=torch.zeros_like(of.x), z=of.x * of.z))


def own_masks(noise: SampledNoise) -> SampledNoise:
    """Return the random numbers with dropout masks of the next example of the batch."""
    return replace(noise, masks=tuple(mask.roll(1, 0) for mask in noise.masks))


# Noise levels


def levels(change: Callable[[Discretization], Discretization]) -> StepParts:
    """Return the parts of a run with changed probabilities or weights of the intervals."""
    return StepParts(levels=lambda step, config: change(discretization(step, config)))


def next_weights(found: Discretization) -> Discretization:
    """Return the noise levels where each interval has the weight of the next one, and the last has its own."""
    return replace(found, weights=torch.cat([found.weights[1:], found.weights[-1:]]))


def one_level_fewer(step: int, config: Config) -> Discretization:
    """Return the noise levels for N(k) without its + 1."""
    method = config.method
    sigmas = sigma_grid(
        number_of_levels(step, config) - 1, sigma_min=method.sigma_min, sigma_max=method.sigma_max, rho=method.rho
    )
    return Discretization(
        sigmas, lognormal_pmf(sigmas, p_mean=method.p_mean, p_std=method.p_std), inverse_gap_weights(sigmas)
    )


def counted_in_images(step: int, config: Config) -> Discretization:
    """Return the noise levels of a curriculum that counts images, not updates."""
    return discretization(min(step * config.train.batch_size, config.train.steps), config)


# EMA weights


def ema_then_optimizer(trainer: Trainer) -> None:
    """Update the EMA weights, then the student."""
    update_ema(trainer.ema, trainer.student, decay=trainer.config.train.ema_decays[0])
    trainer.optimizer.step()


def swapped_ema(trainer: Trainer) -> None:
    """Update the student, then average it with the EMA weights, which do not change."""
    trainer.optimizer.step()
    update_ema(trainer.student, trainer.ema, decay=trainer.config.train.ema_decays[0])


DEVIATIONS: tuple[KnownDeviation, ...] = (
    KnownDeviation(
        "Elementwise", "pseudo-Huber per value, averaged", distance(elementwise), ("Elementwise",)
    ),
    KnownDeviation("HuberOverRoot", "pseudo-Huber divided by sqrt(d)", distance(over_root)),
    KnownDeviation("Constant10", "c ten times too large", times_constant(10.0)),
    KnownDeviation("Constant50", "c fifty times too large", times_constant(50.0)),
    KnownDeviation(
        "RawSigma", "the network gets sigma, not log(sigma) / 4", parameterization(noise=lambda sigma: sigma),
        ("RawSigmaNoise", "RawSigmaEmbedded"),
    ),
    KnownDeviation(
        "ScaledNoise", "1000 log(sigma) / 4", parameterization(noise=lambda sigma: 1000 * c_noise(sigma)),
        ("ScaledNoise",),
    ),
    KnownDeviation(
        "NoInputScaling", "the network gets x, not c_in x",
        parameterization(scale=lambda sigma, **_: torch.ones_like(sigma)), ("NoInputScaling",),
    ),
    KnownDeviation("EdmSkip", "c_skip without sigma_min", parameterization(skip=edm_skip), ("EdmSkip",)),
    KnownDeviation("UnsharedDropout", "the teacher has dropout masks of its own", StepParts(teacher_noise=own_masks)),
    KnownDeviation("TeacherEma", "EMA weights as teacher, CT's mu0 = 0.9", configured("method", mu0=0.9)),
    KnownDeviation("TeacherGradient", "the gradient passes through the teacher", pair(gradient_through_teacher)),
    KnownDeviation("UniformPmf", "uniform p(i)", configured("method", noise_schedule="uniform")),
    KnownDeviation(
        "SoftmaxPmf", "softmax of p(i)", levels(lambda found: replace(found, pmf=found.pmf.softmax(0)))
    ),
    KnownDeviation(
        "NextWeights", "the weight is that of the next interval", levels(next_weights), ("UpperLevelWeights",)
    ),
    KnownDeviation("OneLevelFewer", "N without its + 1", StepParts(levels=one_level_fewer)),
    KnownDeviation("NoiseNotShared", "the teacher has noise of its own", pair(noise_not_shared)),
    KnownDeviation(
        "UnitRange", "images in [0, 1]", StepParts(encode=lambda x: (x + 1) / 2, decode=lambda x: 2 * x - 1)
    ),
    KnownDeviation("EmaFirst", "EMA update before the optimizer's", StepParts(update=ema_then_optimizer)),
    KnownDeviation("SwappedEma", "EMA update with swapped arguments", StepParts(update=swapped_ema), ("SwappedEma",)),
    KnownDeviation("MeanSign", "P_mean = +1.1", configured("method", p_mean=1.1), ("MeanSign",)),
    KnownDeviation(
        "MirroredPmf", "p(i) counted from sigma_max down", levels(lambda found: replace(found, pmf=found.pmf.flip(0))),
        ("MirroredPmf", "MirroredIndex", "CellsFromTheTop"),
    ),
    KnownDeviation("UniformWeights", "weight 1", configured("method", weighting="uniform")),
    KnownDeviation(
        "CurriculumOfImages", "the curriculum counts images, not updates", StepParts(levels=counted_in_images)
    ),
    KnownDeviation(
        "CurriculumStays", "N stays at s0 + 1", StepParts(levels=lambda _, config: discretization(0, config))
    ),
    KnownDeviation(
        "EdmCoefficients", "c_skip and c_out without sigma_min", parameterization(skip=edm_skip, out=edm_out),
        ("EdmCoefficients",),
    ),
    KnownDeviation(
        "DiffusersScalings", "c_skip and c_out without sigma_min, c_out without sigma_data",
        parameterization(skip=edm_skip, out=diffusers_out), ("DiffusersScalings",),
    ),
    KnownDeviation("SquaredCIn", "c_in without its root", parameterization(scale=squared_in), ("SquaredCIn",)),
    KnownDeviation(
        "ClampedOutput", "f cut to [-1, 1] in the loss", parameterization(end=lambda f: f.clamp(-1, 1)),
        ("ClampedOutput",),
    ),
    KnownDeviation("UnsquaredNorm", "l2 norm, pseudo-Huber with c = 0", distance(unsquared)),
    KnownDeviation("SwappedLevels", "the student is at sigma_i", pair(swapped_levels), ("SwappedLevels",)),
    KnownDeviation(
        "TeacherAtHigherLevel", "the teacher gets x_i with sigma_{i+1}", pair(teacher_at_higher_level),
        ("TeacherAtHigherLevel",),
    ),
    KnownDeviation("SameNoise", "the student gets x_i with sigma_{i+1}", pair(same_noise), ("SameNoise",)),
    KnownDeviation("MultiplicativeNoise", "x sigma z", pair(multiplicative_noise), ("MultiplicativeNoise",)),
)  # fmt: skip
