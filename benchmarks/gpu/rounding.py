"""The rounding errors of each precision as the device computes it, by `benchmarks.numerics`."""

import dataclasses

from benchmarks.gpu.device import device
from benchmarks.gpu.networks import narrow
from benchmarks.gpu.notes import Notes
from benchmarks.numerics import EVENTS, errors
from ict_ref.config import PRESETS

IMAGES = 4


def measure(notes: Notes, *, tiny: bool) -> None:
    """Note the true difference of f and the error of each precision at each noise level, as multiples of c."""
    for preset, event in [*EVENTS.items()][: 1 if tiny else None]:
        config = PRESETS[preset]()
        if tiny:
            config, event = dataclasses.replace(config, network=narrow(config.network)), (3, 16, 16)
        found = errors(config, event, device(), lambda: None, 1 if tiny else IMAGES)
        for k, sigma in enumerate(found.sigmas):
            of_level = {policy: values[k] / found.c for policy, values in found.errors.items()}
            notes.add("rounding", preset=preset, c=found.c, sigma=sigma, difference=found.true[k] / found.c, **of_level)
