"""Networks of the authors' public modules, by the rule that made the weights of the fixtures.

fixtures/*.npz hold numbers only: what those modules returned in float64, each file saying which module at which commit.
"""

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published import read
from ict_ref.networks.published.common import ImportOptions

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = ("ncsnpp_small", "adm_small", "adm_small_adagn")
FULL = ("ncsnpp_full_b4", "adm_full_b3")


@cache
def fixture(name: str) -> dict[str, Any]:
    """Return a fixture's arrays by name."""
    with np.load(FIXTURES / f"{name}.npz") as file:
        return dict(file)


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Return the parameter that the fixtures' rule gives the authors' key."""
    values = np.random.default_rng([0, zlib.crc32(key.encode())]).standard_normal(shape)
    if "freqs" in key:
        values *= 0.02
    elif "label_emb" not in key:
        if len(shape) > 1:
            values /= np.sqrt(np.prod(shape[1:]))
        else:
            values = 1 + 0.1 * values if key.endswith("weight") else 0.1 * values
    return torch.from_numpy(values)


def state_of(name: str) -> dict[str, Tensor]:
    """Return the state dict of a fixture's module."""
    arrays = fixture(name)
    shapes = (tuple(json.loads(shape)) for shape in arrays["shapes"].tolist())
    return {key: weight(key, shape) for key, shape in zip(arrays["keys"].tolist(), shapes, strict=True)}


def import_options_of(name: str) -> ImportOptions:
    """Return the settings of a fixture's module that its state dict does not contain."""
    arrays = fixture(name)
    size = arrays["x"].shape[-1]
    if "dropout_rates" not in arrays:
        return ImportOptions(size=size)
    limit, rate = int(arrays["dropout_limit"]), float(arrays["dropout_rates"].max())
    return ImportOptions(size=size, head_channels=16, dropout=rate, dropout_max_resolution=limit)


def imported(name: str) -> NetworkCheckpoint:
    """Return a fixture's network."""
    return read(state_of(name), import_options_of(name))


def given(name: str, array: str) -> Tensor | None:
    """Return an array of a fixture, or None if it has none."""
    found = fixture(name).get(array)
    return None if found is None else torch.from_numpy(found)


def relative(ours: Tensor, theirs: np.ndarray) -> float:
    """Return the largest difference, relative to the largest value."""
    return float(np.abs(ours.detach().numpy() - theirs).max() / np.abs(theirs).max())
