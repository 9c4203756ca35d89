"""The random numbers of a training step: interval, noise and dropout masks of each example."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ict_ref.config import Config
from ict_ref.formulas import index_from_uniform
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
    """Noise level of each example, only where a denoiser is trained, which does not use the interval."""


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
    """Sample the noise level of each example of these noise shards, on the CPU; None unless a denoiser is trained.

    Source: EDM, Table 1: log sigma is normal with mean P_mean and standard deviation P_std. The result is a pure
    function of (seed, step, shards).
    """
    method, seed = config.method, config.train.seed
    if method.objective != "denoising":
        return None
    size = config.train.batch_size // config.train.noise_shards
    normal = [stream(seed, "noise level", step, shard).standard_normal(size) for shard in shards]
    return torch.from_numpy(np.exp(method.p_mean + method.p_std * np.concatenate(normal)))


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
