"""Everything that can be configured, and the presets.

A preset is a function that returns a whole configuration. What the paper states carries its section in the field's
docstring; a value that departs from the paper says so where it is set.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal


def _needs(holds: bool, invariant: str, name: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} needs {invariant}; got {got}")


PLACES = ("path", "held_out")
"""Fields of `Data` that say where data lie and not what is learned; the checksum says that."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is learned."""

    name: Literal["digits", "cifar10", "imagenet64", "folder"] = "digits"
    """The data set. digits: the 1 797 handwritten digits of 8x8 pixels that come with scikit-learn; every third is
    held out for scoring. The others are prepared folders: cifar10 and imagenet64 must be of their size and classes,
    folder is any other."""
    path: str = ""
    """The prepared folder, made by python -m ict_ref.prepare."""
    held_out: str = ""
    """A prepared folder of other images of the kind, to score by (1 000 of them, evenly taken); without, a run is not
    scored. Scores are distances in pixels, meant for small images."""
    checksum: str = ""
    """Checksum of the prepared folder. The launcher fills it in, so that a run is the same wherever its data lie; one
    that is given must be the folder's."""
    flip: bool = False
    """Mirror each image, left to right, with probability 1/2 (CM, Appendix C). A mirrored digit is none."""
    labels: bool = True
    """Learn each class apart, as iCT does on ImageNet; without, all images as one, as iCT does on CIFAR-10."""

    def __post_init__(self) -> None:
        if self.name == "digits":
            for name in ("path", "held_out", "checksum"):
                given = getattr(self, name)
                _needs(not given, "data.name cifar10, imagenet64 or folder (digits have none)", f"data.{name}", given)


@dataclass(frozen=True, kw_only=True)
class Network:
    """F_theta, an ADM U-Net (iCT, Appendix B)."""

    width: int = 192
    """Channels of the first level, and values of the noise embedding."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Channels of each level as multiples of the width; each level has half the resolution of the one before."""
    blocks: int = 3
    """Residual blocks per level (iCT, Appendix B: 3, and 6 for iCT-deep)."""
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    """Resolutions at which every block that does not resample is followed by attention; the middle always has it.
    Resolutions that no level has do nothing."""
    head_channels: int = 64
    """Channels of one attention head."""
    groups: int = 32
    """Groups of every group normalisation."""
    dropout: float = 0.2
    """Rate at which values are dropped (iCT, Section 3.1)."""
    dropout_max_resolution: int = 16
    """Highest resolution at which values are dropped (iCT, Section 3.1: 16x16)."""
    time_scale: float = 1.0
    """Factor on log(sigma) / 4 before it is embedded: 1 by iCT, Section 3.1; 1000 in CM's public code."""

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "head_channels", "groups"):
            _needs(getattr(self, name) >= 1, "an integer >= 1", f"network.{name}", getattr(self, name))
        _needs(self.width % 2 == 0, "an even number", "network.width", self.width)
        levels = self.multipliers
        _needs(len(levels) >= 1 and min(levels) >= 1, "integers >= 1", "network.multipliers", levels)
        for channels in (self.width * multiplier for multiplier in levels):
            divisor = f"a divisor of {channels} channels (width * multiplier)"
            _needs(channels % self.groups == 0, divisor, "network.groups", self.groups)
            _needs(channels % self.head_channels == 0, divisor, "network.head_channels", self.head_channels)
        _needs(0 <= self.dropout < 1, "0 <= rate < 1", "network.dropout", self.dropout)
        _needs(abs(self.time_scale) <= 1e6, "a number between -1e6 and 1e6", "network.time_scale", self.time_scale)
        limit = self.dropout_max_resolution
        _needs(limit >= 0, "an integer >= 0", "network.dropout_max_resolution", limit)


@dataclass(frozen=True, kw_only=True)
class Method:
    """Improved consistency training (iCT, Table 1, right column)."""

    sigma_min: float = 0.002
    """Lowest noise level (iCT, Section 2)."""
    sigma_max: float = 80.0
    """Highest noise level (iCT, Section 2)."""
    rho: float = 7.0
    """Curvature of the grid of noise levels (iCT, Section 2)."""
    sigma_data: float = 0.5
    """Standard deviation that the preconditioning assumes of the data (CM, Appendix C)."""
    s0: int = 10
    """Number of cells at the start of the curriculum (iCT, Section 3.4)."""
    s1: int = 1280
    """Number of cells at its end (iCT, Section 3.4)."""
    p_mean: float = -1.1
    """Mean of log sigma under the noise schedule (iCT, Section 3.5)."""
    p_std: float = 2.0
    """Standard deviation of log sigma under the noise schedule (iCT, Section 3.5)."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """The optimisation (iCT, Appendix B)."""

    steps: int = 800_000
    """Updates in all, K; the curriculum spans them."""
    batch_size: int = 4096
    """Examples per update."""
    learning_rate: float = 1e-4
    """RAdam's learning rate, constant."""
    ema_decay: float = 0.99997
    """Decay of the average of the student's parameters from which samples are made."""
    seed: int = 0
    """Every random number of the run is a function of this."""
    lanes: int = 1
    """Slices of the batch whose random numbers are drawn apart: what processes may share among them."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of parameters and computation."""
    threads: int = 0
    """CPU threads of one process; 0 leaves the number to torch. Small networks are fastest with 1."""
    save_every: int = 1000
    """Updates between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "lanes", "save_every"):
            _needs(getattr(self, name) >= 1, "an integer >= 1", f"train.{name}", getattr(self, name))
        divisor = f"a divisor of train.batch_size {self.batch_size}"
        _needs(self.batch_size % self.lanes == 0, divisor, "train.lanes", self.lanes)
        _needs(0 < self.learning_rate < math.inf, "a positive number", "train.learning_rate", self.learning_rate)
        _needs(0 <= self.ema_decay < 1, "0 <= decay < 1 (iCT Eq. (4))", "train.ema_decay", self.ema_decay)
        _needs(0 <= self.threads <= 1024, "an integer between 0 and 1024", "train.threads", self.threads)
        _needs(self.seed >= 0, "an integer >= 0", "train.seed", self.seed)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """How images are made of the trained model."""

    two_step_sigma: float = 0.821
    """Intermediate noise level of two-step sampling (iCT, Appendix B: 0.821 on CIFAR-10)."""
    clip: bool = True
    """Clip to [-1, 1] after each step, as the authors' CM code does. The formula does not."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Scores of one-step samples below which a run is called failed; None sets no bar."""

    accuracy: float | None = None
    """Least share of samples in which a classifier of real images sees the requested label."""
    frechet_distance: float | None = None
    """Greatest Frechet distance to the held-out images, in pixels from -1 to 1."""
    recall: float | None = None
    """Least share of held-out images within reach of the samples."""

    def __post_init__(self) -> None:
        for name in ("accuracy", "recall"):
            value = getattr(self, name)
            _needs(value is None or 0 <= value <= 1, "a share between 0 and 1", f"bars.{name}", value)
        distance = self.frechet_distance
        _needs(distance is None or 0 <= distance < math.inf, "a finite number >= 0", "bars.frechet_distance", distance)


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run."""

    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    method: Method = field(default_factory=Method)
    train: Train = field(default_factory=Train)
    sample: Sample = field(default_factory=Sample)
    bars: Bars = field(default_factory=Bars)

    def __post_init__(self) -> None:
        judged = self.data.labels or self.bars.accuracy is None
        _needs(judged, "data.labels, or None", "bars.accuracy", self.bars.accuracy)
        low, high, sigma = self.method.sigma_min, self.method.sigma_max, self.sample.two_step_sigma
        if low < high:  # or else the grid itself is refused
            between = f"{low} <= sigma < {high} (method.sigma_min, method.sigma_max)"
            _needs(low <= sigma < high, between, "sample.two_step_sigma", sigma)

    def to_json(self) -> str:
        """Return the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def digest(self) -> str:
        """Return 8 hexadecimal digits that differ between configurations; where data lie makes no difference."""
        tree = dataclasses.asdict(self)
        tree["data"] = {name: value for name, value in tree["data"].items() if name not in PLACES}
        return hashlib.sha256(json.dumps(tree).encode()).hexdigest()[:8]


def digits() -> Config:
    """Class-conditional iCT on 8x8 handwritten digits: minutes on two CPU cores.

    The method is the paper's. Sizes are not, and what must go with them: a run five hundred times as short has a thirty
    times larger learning rate and a shorter memory in its average, a small network half the dropout. Digits are not
    flipped.
    """
    return Config(
        network=Network(
            width=16, multipliers=(1, 2), blocks=1, attention_resolutions=(4,), head_channels=16, groups=4, dropout=0.1
        ),
        train=Train(steps=1600, batch_size=64, learning_rate=3e-3, ema_decay=0.995, lanes=4, threads=1, save_every=200),
        bars=Bars(accuracy=0.85, frechet_distance=2.5, recall=0.15),
    )


def minimal() -> Config:
    """The digits run made as small as it can be, for tests: seconds, and samples that are not yet digits."""
    return Config(
        network=Network(
            width=8, multipliers=(1, 2), blocks=1, attention_resolutions=(4,), head_channels=8, groups=4, dropout=0.1
        ),
        train=Train(steps=40, batch_size=16, learning_rate=1e-3, ema_decay=0.9, lanes=4, threads=1, save_every=10),
    )


PRESETS: dict[str, Callable[[], Config]] = {"digits": digits, "minimal": minimal}
