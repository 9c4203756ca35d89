"""Every field of a configuration, what it means and who says so.

Defaults are those of iCT on ImageNet 64x64. What the paper states carries its section in the field's docstring.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from ict_ref.config.identity import NOT_IDENTITY, digest, identity


def _needs(holds: bool, invariant: str, name: str, got: object) -> None:
    if not holds:
        raise ValueError(f"{name} needs {invariant}; got {got}")


def as_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON holds of a dataclass as its fields: lists are tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _sums(channels: set[int]) -> set[int]:
    """Return these numbers and the sums of any two: a decoder's blocks see their map beside the encoder's."""
    return channels | {a + b for a in channels for b in channels}


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is learned."""

    name: Literal["digits", "cifar10", "imagenet64", "folder"] = "digits"
    """The data set. digits: the 1 797 handwritten digits of 8x8 pixels that come with scikit-learn; every third is
    held out for scoring. The others are prepared folders: cifar10 and imagenet64 must be of their size and classes,
    folder is any other."""
    path: str = field(default="", metadata=NOT_IDENTITY)
    """The prepared folder, made by python -m ict_ref.prepare."""
    held_out: str = field(default="", metadata=NOT_IDENTITY)
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
    """F_theta, the U-Net that is made a consistency model (iCT, Appendix B)."""

    architecture: Literal["adm", "ncsnpp"] = "adm"
    """adm: Dhariwal & Nichol 2021, which iCT trains on ImageNet 64x64. ncsnpp: NCSN++ of Song et al. 2021, which it
    trains on CIFAR-10 (iCT, Appendix B)."""
    embedding: Literal["positional", "fourier"] = "positional"
    """How the noise level is embedded (iCT, Section 3.1): positional for ADM, fourier for NCSN++."""
    fourier_scale: float = 0.02
    """Standard deviation of the fixed Fourier frequencies: 0.02 by iCT, Section 3.1; 16 in CM's public code."""
    width: int = 192
    """Channels of the stem, by ADM times the first multiplier; values of the noise embedding, twice as many if it is
    fourier."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Channels of each level as multiples of the width; each level has half the resolution of the one before."""
    blocks: int = 3
    """Residual blocks per level (iCT, Appendix B: on ImageNet 3, and 6 for iCT-deep; on CIFAR-10 4, and 8)."""
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    """Resolutions at which every block that does not resample is followed by attention, in NCSN++'s decoder only the
    last one; the middle always has it. Resolutions that no level has do nothing."""
    head_channels: int = 64
    """Channels of one attention head (64: CM, public ImageNet code); 0: one head of all channels, as NCSN++ has."""
    groups: int = 32
    """Groups of every group normalisation; in NCSN++ of at least 4 channels each."""
    adaptive_norm: bool = False
    """Let the embedding scale and shift the normalised map (AdaGN), where it is otherwise added before. CM's ADM has
    it, iCT's has not (iCT, Appendix B), NCSN++ cannot."""
    dropout: float = 0.2
    """Rate at which values are dropped (iCT, Section 3.1)."""
    dropout_max_resolution: int = 16
    """Highest resolution at which values are dropped (iCT, Section 3.1: 16x16)."""
    time_scale: float = 1.0
    """Factor on log(sigma) / 4 before it is embedded: 1 by iCT, Section 3.1; 1000 in CM's public code."""

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "groups"):
            _needs(getattr(self, name) >= 1, "an integer >= 1", f"network.{name}", getattr(self, name))
        _needs(self.head_channels >= 0, "an integer >= 0", "network.head_channels", self.head_channels)
        _needs(self.width % 2 == 0, "an even number", "network.width", self.width)
        levels = self.multipliers
        _needs(len(levels) >= 1 and min(levels) >= 1, "integers >= 1", "network.multipliers", levels)
        adm = self.architecture == "adm"
        _needs(adm or not self.adaptive_norm, "False: NCSN++ has no AdaGN", "network.adaptive_norm", self.adaptive_norm)
        widths = {self.width * multiplier for multiplier in levels}
        for channels in sorted(widths):
            divisor = f"0 or a divisor of {channels} channels (width * multiplier)"
            heads = self.head_channels == 0 or channels % self.head_channels == 0
            _needs(heads, divisor, "network.head_channels", self.head_channels)
        stem = set() if adm else {self.width}
        for channels in sorted(_sums(widths | stem)):
            _needs(adm or channels >= 4, "4 channels or more", "network.width", self.width)
            divisor = f"a divisor of {channels} channels, which a block has"
            divides = channels % self.groups_of(channels) == 0
            _needs(divides, divisor, "network.groups", self.groups_of(channels))
        _needs(0 <= self.dropout < 1, "0 <= rate < 1", "network.dropout", self.dropout)
        _needs(0 < self.fourier_scale <= 1e6, "0 < scale <= 1e6", "network.fourier_scale", self.fourier_scale)
        _needs(abs(self.time_scale) <= 1e6, "a number between -1e6 and 1e6", "network.time_scale", self.time_scale)
        limit = self.dropout_max_resolution
        _needs(limit >= 0, "an integer >= 0", "network.dropout_max_resolution", limit)

    def groups_of(self, channels: int) -> int:
        """Return the groups in which this many channels are normalised."""
        return self.groups if self.architecture == "adm" else min(channels // 4, self.groups)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What is minimised (iCT, Table 1: the right column is the default, the left one CT's)."""

    objective: Literal["discrete", "continuous", "distillation"] = "discrete"
    """discrete: Eq. (5). continuous: its limit with ever finer levels (CM, Theorem 6; iCT, Figure 1b), at the levels of
    the curriculum's grid; it needs no weighting and no teacher. distillation: Eq. (3), by method.denoiser's score."""
    denoiser: str = ""
    """What is distilled: a TorchScript file of D(x, sigma), or D(x, sigma, labels) with data.labels, which takes noisy
    images and returns clean ones; or a network that python -m ict_ref.import_checkpoint wrote."""
    sigma_min: float = 0.002
    """Lowest noise level (iCT, Section 2)."""
    sigma_max: float = 80.0
    """Highest noise level (iCT, Section 2)."""
    rho: float = 7.0
    """Curvature of the grid of noise levels (iCT, Section 2)."""
    sigma_data: float = 0.5
    """Standard deviation that the preconditioning assumes of the data (CM, Appendix C)."""
    mu0: float | None = None
    """EMA decay rate of the teacher where N(k) = s0, mu(k) = exp(s0 log(mu0) / N(k)); None: mu(k) = 0, the teacher is
    the student (iCT, Section 3.2). CT: 0.9 on CIFAR-10, 0.95 on ImageNet (iCT, Table 1)."""
    distance: Literal["pseudo_huber", "squared_l2", "lpips"] = "pseudo_huber"
    """Metric d of the loss (iCT, Section 3.3). CT: lpips (iCT, Table 1)."""
    huber_c: float | None = None
    """Constant c of the pseudo-Huber metric; None: 0.00054 sqrt(d), d the number of values in an image (iCT,
    Section 3.3; 0.03 on CIFAR-10)."""
    lpips: str = ""
    """TorchScript file of LPIPS, a module called as lpips(x, y) on images of 224x224 from -1 to 1; it has weights that
    others publish and is not part of ict_ref (CM, Appendix C: images are enlarged bilinearly)."""
    curriculum: Literal["exponential", "sqrt", "constant", "linear", "square", "cosine"] = "exponential"
    """How N(k) grows (iCT, Section 3.4). CT: sqrt (iCT, Table 1)."""
    s0: int = 10
    """Number of cells at the start of the curriculum (iCT, Section 3.4). CT: 2 (iCT, Table 1)."""
    s1: int = 1280
    """Number of cells at its end (iCT, Section 3.4). CT: 150 on CIFAR-10, 200 on ImageNet (iCT, Table 1)."""
    noise_schedule: Literal["lognormal", "uniform"] = "lognormal"
    """How a step's noise levels are drawn (iCT, Section 3.5). CT: uniform over the cells (iCT, Table 1)."""
    p_mean: float = -1.1
    """Mean of log sigma under the lognormal noise schedule (iCT, Section 3.5)."""
    p_std: float = 2.0
    """Standard deviation of log sigma under the lognormal noise schedule (iCT, Section 3.5)."""
    weighting: Literal["inverse_gap", "uniform"] = "inverse_gap"
    """lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i) (iCT, Section 3.1). CT: uniform, 1 (iCT, Table 1)."""

    def __post_init__(self) -> None:
        huber = self.distance == "pseudo_huber"
        _needs(huber or self.huber_c is None, "None where method.distance is another", "method.huber_c", self.huber_c)
        has_teacher = self.objective != "continuous"
        _needs(has_teacher or self.mu0 is None, "None where method.objective is continuous", "method.mu0", self.mu0)
        distils = self.objective == "distillation"
        got = self.denoiser or "none"
        _needs(distils or not self.denoiser, "method.objective distillation", "method.denoiser", got)


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
    """Slices of the batch whose random numbers are drawn apart: what processes, and the parts of machine.accumulate,
    share among them."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of parameters and computation."""
    autocast: Literal["none", "bfloat16"] = "none"
    """Precision to which the network's convolutions and matrix products are cast. Parameters, averages, noise levels,
    noisy images and the loss stay in train.dtype, and so do the embedding of the noise level and all samples."""
    clip_gradient: float | None = None
    """Greatest norm of the gradient; None: it is never clipped (iCT, Appendix B mentions no clipping)."""
    skip_nonfinite: int = 0
    """Updates in all that may be left out because loss or gradient is not finite, as may happen under autocast; the
    next one stops the run. Above 0 the device is waited for at every step."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "lanes"):
            _needs(getattr(self, name) >= 1, "an integer >= 1", f"train.{name}", getattr(self, name))
        divisor = f"a divisor of train.batch_size {self.batch_size}"
        _needs(self.batch_size % self.lanes == 0, divisor, "train.lanes", self.lanes)
        _needs(0 < self.learning_rate < math.inf, "a positive number", "train.learning_rate", self.learning_rate)
        _needs(0 <= self.ema_decay < 1, "0 <= decay < 1 (iCT Eq. (4))", "train.ema_decay", self.ema_decay)
        _needs(self.seed >= 0, "an integer >= 0", "train.seed", self.seed)
        single = self.dtype == "float32" or self.autocast == "none"
        _needs(single, "none where train.dtype is float64", "train.autocast", self.autocast)
        clip = self.clip_gradient
        _needs(clip is None or 0 < clip < math.inf, "a positive number, or None", "train.clip_gradient", clip)
        _needs(self.skip_nonfinite >= 0, "an integer >= 0", "train.skip_nonfinite", self.skip_nonfinite)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """How it is computed. Nothing here changes what is learned, but for rounding: a run may go on with other values."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: a GPU if one is visible, else the CPU. Several GPUs are one process each."""
    threads: int = 0
    """CPU threads of one process; 0 leaves the number to torch. Small networks are fastest with 1."""
    accumulate: int = 1
    """Parts in which each process goes through its share of the batch, one after the other, to need less memory."""
    recompute: bool = False
    """Compute each block's activations again in the backward pass: less memory, a third more time."""
    channels_last: bool = False
    """Lay out images with channels innermost, as tensor cores like it."""
    compile: bool = False
    """Compile the network by torch.compile: minutes at the start, for faster steps on a GPU."""

    def __post_init__(self) -> None:
        _needs(0 <= self.threads <= 1024, "an integer between 0 and 1024", "machine.threads", self.threads)
        _needs(self.accumulate >= 1, "an integer >= 1", "machine.accumulate", self.accumulate)


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a run leaves behind on its way. Nothing here changes what is learned: a run may go on with other values."""

    log_every: int = 50
    """Updates between lines of metrics.jsonl. A GPU is waited for at these steps only."""
    save_every: int = 1000
    """Updates between checkpoints."""
    keep: int = 3
    """How many of the newest checkpoints are kept. If one is found damaged, the run goes on from the one before."""
    milestone_every: int = 0
    """Updates between checkpoints that are kept for good; 0: none are."""
    sample_every: int = 0
    """Updates between pictures of samples, each from the same noise, in the folder samples; 0: none are made."""
    tensorboard: bool = False
    """Write the metrics as TensorBoard events too; needs pip install 'ict_ref[tensorboard]'."""

    def __post_init__(self) -> None:
        for name in ("log_every", "save_every", "keep"):
            _needs(getattr(self, name) >= 1, "an integer >= 1", f"record.{name}", getattr(self, name))
        for name in ("milestone_every", "sample_every"):
            _needs(getattr(self, name) >= 0, "an integer >= 0", f"record.{name}", getattr(self, name))


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
    sample: Sample = field(default_factory=Sample, metadata=NOT_IDENTITY)
    bars: Bars = field(default_factory=Bars, metadata=NOT_IDENTITY)
    machine: Machine = field(default_factory=Machine, metadata=NOT_IDENTITY)
    record: Record = field(default_factory=Record, metadata=NOT_IDENTITY)

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

    @classmethod
    def from_dict(cls, groups: Mapping[str, Mapping[str, Any]]) -> "Config":
        """Return the configuration that JSON holds; what it lacks has its default."""
        known = get_type_hints(cls)
        return cls(**{group: known[group](**as_fields(fields)) for group, fields in groups.items()})

    def identity(self) -> dict[str, Any]:
        """Return the fields that are part of the run's identity and differ from their defaults, by full name."""
        return identity(Config, dataclasses.asdict(self))

    def digest(self) -> str:
        """Return 8 hexadecimal digits that differ between runs that learn something else."""
        return digest(self.identity())
