"""Sampled noise, intervals and masks of a step, in one call."""

from collections.abc import Iterable, Sequence

import torch

from ict_ref.config import Config
from ict_ref.networks.dropout import DropoutSite
from ict_ref.training.loss import Draws, draw_levels_and_noise, draw_step_masks


def draw(
    step: int,
    lanes: Iterable[int],
    config: Config,
    *,
    event: tuple[int, ...],
    sites: Sequence[DropoutSite],
) -> Draws:
    """Return the draws of these lanes of the batch, each a pure function of (seed, step, lane)."""
    lanes = list(lanes)
    return Draws(
        *draw_levels_and_noise(step, lanes, config, event=event),
        draw_step_masks(step, lanes, config, sites, torch.device("cpu")),
    )
