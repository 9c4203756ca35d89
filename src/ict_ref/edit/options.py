"""What the command is told, and what of it makes no sense whatever the model is."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

Name = Literal["inpaint", "colorize", "superres", "stroke", "denoise", "interpolate"]
# CM, Appendix D: the levels of stroke-guided generation, and the number of levels of everything else.
STROKE, LEVELS = (5.38, 2.24), 40
DENOISE = 0.5
# An option, and the one task that it is for.
ONLY_FOR = {"mask": "inpaint", "patch": "superres", "noisy": "denoise", "steps": "interpolate"}


@dataclass(frozen=True)
class Options:
    """The command line; None where nothing was said."""

    model: Path
    images: tuple[str, ...]
    task: Name
    out: Path
    sigmas: tuple[float, ...] | None = None
    labels: tuple[int, ...] = ()
    seeds: tuple[int, ...] | None = None
    count: int | None = None
    mask: str | None = None
    patch: int | None = None
    noisy: bool | None = None
    steps: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Raise ValueError for options that contradict each other, or would do nothing."""
        for option, task in ONLY_FOR.items():
            if getattr(self, option) is not None and self.task != task:
                raise ValueError(f"--{option} is for --task {task}; got --task {self.task}")
        for option, least in (("count", 1), ("patch", 2), ("steps", 2)):
            value = getattr(self, option)
            if value is not None and value < least:
                raise ValueError(f"--{option} needs a number from {least} up; got {value}")
        if self.task == "interpolate":
            if self.images:
                raise ValueError(f"--task interpolate makes images of noise, and needs none; got {self.images[0]}")
            if self.sigmas:
                raise ValueError("--task interpolate makes images in one step, from sigma_max; it takes no --sigmas")
        elif not self.images:
            raise ValueError(f"--task {self.task} needs an IMAGE: files, folders, .npz or digits:held-out; got none")
        if len(self.chosen_seeds) != (wanted := 2 if self.task == "interpolate" else 1):
            raise ValueError(f"--seed needs {wanted} for --task {self.task}; got {len(self.chosen_seeds)}")
        for seed in self.chosen_seeds:
            if not 0 <= seed < 2**128:
                raise ValueError(f"--seed needs a number from 0 to 2^128 - 1; got {seed}")
        self._check_levels()

    @property
    def chosen_seeds(self) -> tuple[int, ...]:
        """Return the seeds, or the defaults."""
        return self.seeds or ((0, 1) if self.task == "interpolate" else (0,))

    def _check_levels(self) -> None:
        if self.sigmas is None:
            return
        if not all(0 < sigma < math.inf for sigma in self.sigmas):
            raise ValueError(f"--sigmas needs levels above 0; got {shown(self.sigmas)}")
        if any(low >= high for high, low in pairwise(self.sigmas)):
            raise ValueError(f"--sigmas needs levels that descend; got {shown(self.sigmas)}")
        if self.task == "denoise" and len(self.sigmas) > 1:
            raise ValueError(f"--task denoise needs the one level of the noise; got {shown(self.sigmas)}")


def shown(sigmas: tuple[float, ...]) -> str:
    """Return the levels as one would type them."""
    return " ".join(f"{sigma:g}" for sigma in sigmas)
