"""The random numbers of a training step: interval, noise and dropout masks of each example."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ict_ref.config import Config
from ict_ref.formulas import index_from_uniform, log_student_t_level, lognormal_level
from ict_ref.networks.dropout import DropoutSite, Masks, draw_shard_masks, mask_keys
from ict_ref.training.discretization import discretization
from ict_ref.utils.dtypes import torch_dtype
from ict_ref.utils.rng import stream


@dataclass(frozen=True)
class SampledNoise:
    """The sampled interval, noise and dropout masks of each example of a microbatch."""

    index: Int64[Tensor, " batch"]
    """Interval of the noise grid, between `sigmas[index]` and `sigmas[index + 1]`."""
    z: Float[Tensor, " batch *event"]
    """Standard normal noise."""
    masks: Masks
    sigma: Float64[Tensor, " batch"] | None = None
    """Noise level t of each example, only for objectives without a grid, which do not use the interval."""
    sigma_low: Float64[Tensor, " batch"] | None = None
    """Lower noise level r of each example, only for objectives with pairs of levels."""


def sample_intervals_and_noise(
    step: int, shards: Iterable[int], config: Config, *, event: tuple[int, ...]
) -> tuple[Int64[Tensor, " batch"], Float[Tensor, " batch *event"]]:
    """Sample the interval and the noise of each example of these noise shards, on the CPU.

    The result is a pure function of (seed, step, shards). `event` is the shape of an example.
    """
    seed, size = config.train.seed, config.train.batch_size // config.train.noise_shards
    shards = list(shards)
    u = np.concatenate([stream(seed, "noise level", step, shard).random(size) for shard in shards])
    z = [stream(seed, "noise", step, shard).standard_normal((size, *event), dtype=np.float32) for shard in shards]
    index = index_from_uniform(torch.from_numpy(u), discretization(step, config).pmf)
    return index, torch.from_numpy(np.concatenate(z)).to(torch_dtype(config.train.dtype))


def sample_sigmas(step: int, shards: Iterable[int], config: Config) -> Float64[Tensor, " batch"] | None:
    """Sample the noise level of each example of these noise shards, on the CPU; None for objectives with a grid.

    Source: EDM, Table 1, and ECT's public code: log sigma is normal with mean P_mean and standard deviation P_std.
    TCM's public code: cut off at sigma_min and sigma_max; in the second stage Student's t from the cut on, and the
    first examples of each shard at the cut. The result is a pure function of (seed, step, shards).
    """
    method, seed = config.method, config.train.seed
    if not method.is_gridless:
        return None
    size, tuning = config.train.batch_size // config.train.noise_shards, config.tuning
    streams = [stream(seed, "noise level", step, shard) for shard in shards]
    if method.objective == "tcm":
        return torch.cat([_from_the_cut(each, size, config) for each in streams])
    if method.objective == "ect" and tuning.within_range:
        u = torch.from_numpy(np.concatenate([_above_0(each, size) for each in streams]))
        bounds = {"sigma_min": method.sigma_min, "sigma_max": method.sigma_max}
        return lognormal_level(u, p_mean=method.p_mean, p_std=method.p_std, **bounds)
    normal = [each.standard_normal(size) for each in streams]
    return torch.from_numpy(np.exp(method.p_mean + method.p_std * np.concatenate(normal)))


def _from_the_cut(generator: np.random.Generator, size: int, config: Config) -> Float64[Tensor, " {size}"]:
    """Return the levels of a shard of TCM's second stage: first those at the cut."""
    tuning = config.tuning
    sigma = _student_t_levels(torch.from_numpy(_above_0(generator, size)), config)
    # Levels that round to the cut would count as its boundary.
    sigma = sigma.clamp(min=math.nextafter(tuning.sigma_cut, math.inf))
    sigma[: tuning.at_cut(size)] = tuning.sigma_cut
    return sigma


def _student_t_levels(u: Float64[Tensor, " batch"], config: Config) -> Float64[Tensor, " batch"]:
    """Return the levels of TCM's law at these quantiles."""
    tuning = config.tuning
    return log_student_t_level(
        u, scale=tuning.t_scale, dof=tuning.t_dof, sigma_min=tuning.sigma_cut, sigma_max=config.method.sigma_max
    )


def refuse_unreachable_levels(config: Config) -> None:
    """Reject a law of TCM that is too narrow to reach the levels from the cut on.

    Raises:
        ValueError: the objective is tcm, and no level can be sampled.
    """
    if config.method.objective != "tcm":
        return
    try:
        _student_t_levels(torch.tensor([0.5], dtype=torch.float64), config)
    except ValueError:
        tuning = config.tuning
        expected = f"a law that reaches levels from {tuning.sigma_cut} to {config.method.sigma_max}"
        got = f"{tuning.t_scale} with --tuning.t-dof {tuning.t_dof}"
        advice = "Give a lower --tuning.sigma-cut, or a wider law."
        raise ValueError(f"--tuning.t-scale: expected {expected}, got {got}. {advice}") from None


def _above_0(generator: np.random.Generator, size: int) -> Float64[np.ndarray, " {size}"]:
    """Return uniform numbers from the open interval (0, 1)."""
    return np.maximum(generator.random(size), 2.0**-54)


def sample_masks(
    step: int, shards: Iterable[int], config: Config, sites: Sequence[DropoutSite], device: torch.device
) -> Masks:
    """Sample the dropout masks of these noise shards, on the device, as a pure function of (seed, step, shards)."""
    size = config.train.batch_size // config.train.noise_shards
    return draw_shard_masks(sites, size, sample_mask_keys(step, shards, config).to(device))


def sample_mask_keys(step: int, shards: Iterable[int], config: Config) -> Int64[Tensor, " shards"]:
    """Sample the keys of these noise shards' dropout masks, on the CPU."""
    streams = (stream(config.train.seed, "dropout", step, shard) for shard in shards)
    return mask_keys(int(each.bit_generator.random_raw()) for each in streams)
