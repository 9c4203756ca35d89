"""Sampled noise, intervals and masks of a step, in one call."""

from collections.abc import Iterable, Sequence

import torch

from ict_ref.config import Config
from ict_ref.networks.dropout import DropoutSite
from ict_ref.training.sampled_noise import SampledNoise, sample_intervals_and_noise, sample_masks


def sample_noise(
    step: int,
    shards: Iterable[int],
    config: Config,
    *,
    event: tuple[int, ...],
    sites: Sequence[DropoutSite],
) -> SampledNoise:
    """Return the sampled noise of these shards of the batch, each a pure function of (seed, step, shard)."""
    shards = list(shards)
    return SampledNoise(
        *sample_intervals_and_noise(step, shards, config, event=event),
        sample_masks(step, shards, config, sites, torch.device("cpu")),
    )
