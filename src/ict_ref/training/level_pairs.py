"""Pairs t > r of noise levels for objectives without a grid: the stage of a step, r, and the weight of a pair."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ict_ref.config import Config, Method
from ict_ref.formulas import ect_exponent, ect_mapping, gap_weights, snr_weights

PAIR_WEIGHTS: dict[str, Callable[[Tensor, Tensor, Method], Tensor]] = {
    "inverse_gap": lambda t, r, _: gap_weights(t, r),
    "snr": lambda t, _, method: snr_weights(t, sigma_data=method.sigma_data),
    "uniform": lambda t, _, __: torch.ones_like(t),
}


def has_stages(config: Config) -> bool:
    """Return whether the run has stages, each with smaller gaps t - r, instead of a curriculum of grids."""
    return config.method.has_pairs


def stage_of(step: int, config: Config) -> int:
    """Return the stage of the update after `step` others, from 0."""
    tuning = config.tuning
    return tuning.first_stage + ect_exponent(step, steps_per_stage=tuning.steps_per_stage) - 1


def lower_sigmas(
    sigma: Float64[Tensor, " batch"] | None, step: int, config: Config
) -> Float64[Tensor, " batch"] | None:
    """Return r of each level t in the update after `step` others; None if the objective does not have pairs.

    Source: ECT, Eq. (18), and TCM's public code for the largest ratio, 1 - 1/q^a.

    >>> from dataclasses import replace
    >>> from ict_ref.config import minimal
    >>> config = replace(minimal(), method=Method(objective="ect"))
    >>> lower_sigmas(torch.tensor([80.0, 1.0], dtype=torch.float64), 0, config)
    tensor([40.,  0.], dtype=torch.float64)
    """
    if sigma is None or not has_stages(config):
        return None
    tuning, exponent = config.tuning, stage_of(step, config) + 1
    q = tuning.q
    if tuning.largest_ratio < 1 and exponent * math.log(q) > -math.log1p(-tuning.largest_ratio):
        q, exponent = 1 / (1 - tuning.largest_ratio), 1
    return ect_mapping(sigma, exponent=exponent, q=q, k=tuning.k, b=tuning.b)


def pair_weights(t: Float[Tensor, " batch"], r: Float[Tensor, " batch"], method: Method) -> Float[Tensor, " batch"]:
    """Return the configured weight of each pair of levels."""
    return PAIR_WEIGHTS[method.weighting](t, r, method)
