"""The grid of the noise levels that a step uses, found from the levels alone."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from ict_ref.verify.audit.step.settings import Settings

# Levels in float32 are at most this far from their place in the grid, which runs from 0 to 1.
PLACE = 5e-6
RHOS = (1.0, 2.0, 3.0, 5.0, 6.0, 8.0, 9.0, 10.0)


def places(sigma: Tensor, settings: Settings) -> Tensor:
    """Return the place of each level, from 0 at sigma_min to 1 at sigma_max, in which a grid is evenly spaced."""
    low, high = (level ** (1 / settings.rho) for level in (settings.sigma_min, settings.sigma_max))
    place: Tensor = (sigma.clamp_min(0) ** (1 / settings.rho) - low) / (high - low)
    return place


def find_n(high: Tensor, low: Tensor, settings: Settings, hint: int | None = None) -> int | None:
    """Return the smallest number of levels of a grid that has all these levels; None if they are not in a grid.

    The levels are mostly neighbours, so a number that divides the grid finely is not mistaken for it. `hint` is a
    number that is tried first.
    """
    at = torch.cat([places(high, settings), places(low, settings)]).nan_to_num(-1)
    if bool((at < -PLACE).any() | (at > 1 + PLACE).any()):
        return None
    if hint is not None and _has_neighbours(at, hint):
        return hint
    counts = torch.arange(2, settings.most_levels + 1)
    fits = _fits(at, counts).nonzero()
    return int(counts[fits[0]]) if len(fits) else None


def _has_neighbours(at: Tensor, n: int) -> bool:
    """Return whether all levels are in the grid of n levels, where those of each example are neighbours."""
    upper, lower = at.chunk(2)
    apart = ((upper - lower) * (n - 1)).round()
    return bool((apart == 1).all()) and bool(_fits(at, torch.tensor([n])))


def _fits(at: Tensor, counts: Tensor) -> Tensor:
    """Return for each number of levels whether all places are those of levels."""
    scaled = at[:, None] * (counts - 1)
    return ((scaled - scaled.round()).abs() <= PLACE * (counts - 1) + 1e-9).all(0)


def find_settings(steps: list[tuple[Tensor, Tensor]], settings: Settings) -> Settings | None:
    """Return the settings of a grid with another rho, sigma_min or sigma_max that has the levels of all these steps.

    The smallest and the largest of all levels are taken for sigma_min and sigma_max.
    """
    least = min(float(low.min()) for _, low in steps)
    most = max(float(high.max()) for high, _ in steps)
    for one in _variants(least, most, settings):
        found = [find_n(high, low, one) for high, low in steps]
        # A grid so fine that chance levels could be in it does not count.
        if all(n is not None and n < settings.most_levels for n in found):
            return one
    return None


def _variants(least: float, most: float, settings: Settings) -> Iterator[Settings]:
    for rho in (settings.rho, *RHOS):
        for low in (settings.sigma_min, least):
            for high in (settings.sigma_max, most):
                if 0 < low < high:
                    yield replace(settings, sigma_min=low, sigma_max=high, rho=rho)
