"""The fields of a configuration, their defaults, and the section of the paper that states each of them.

Defaults are those of iCT on ImageNet 64x64. The docstrings of the fields are the help texts of the commands.
"""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from ict_ref.config.identity import NOT_IDENTITY, digest, flat, identity, is_identity, nested
from ict_ref.config.validate import LARGEST, SMALLEST_NORMAL, at_least, expect, option, positive, rounded
from ict_ref.utils.json_file import as_fields, checked

COMPILED_FROM = 10_000
"""Updates from which on a run on a GPU is compiled: fewer take less time than the compilation."""


def stored_group(kind: Any, fields: Any, group: str) -> Any:
    """Return a group of options from its JSON; a missing field has its default.

    >>> stored_group(Network, {"multipliers": [1, 2]}, "network").multipliers
    (1, 2)

    Raises:
        TypeError: a field does not exist in this version.
        ValueError: a value has another type or is out of range. The message names its option.
    """
    return kind(**as_fields(kind, fields, lambda name: option(f"{group}.{name}")))


@dataclass(frozen=True, kw_only=True)
class Data:
    """The images to train on, and those to score by."""

    name: Literal["digits", "cifar10", "imagenet64", "folder"] = "digits"
    """Dataset. digits: scikit-learn's 1 797 handwritten digits of 8x8 pixels, a third of them held out for scoring.
    The others are prepared folders. cifar10 and imagenet64 must be the published training sets, or with --data.partial
    other images of their size and classes; folder may have any."""
    path: str = field(default="", metadata=NOT_IDENTITY)
    """Prepared folder, written by python -m ict_ref.prepare. You can move it: a run is tied to its checksum, and takes
    the new path when it is resumed. Trained models are used without it."""
    held_out: str = field(default="", metadata=NOT_IDENTITY)
    """Prepared folder of other images of the same kind, to score by: 1 000 of them, evenly spaced. Without it the run
    is not scored. Scores are distances in pixels, meant for small images."""
    checksum: str = ""
    """Checksum of the prepared folder. The launcher fills it in. A checksum that you give must match the folder."""
    flip: bool = False
    """Mirror each image horizontally with probability 1/2 (CM, Appendix C). Do not use it for digits."""
    labels: bool = True
    """Condition the model on class labels, as iCT does on ImageNet but not on CIFAR-10."""
    partial: bool = field(default=False, metadata=NOT_IDENTITY)
    """Train a preset of the paper on data that are not the published set. Without it, cifar10 and imagenet64 accept
    only the published training set, which is recognised by its number of images per class."""

    def __post_init__(self) -> None:
        for name in ("path", "held_out", "checksum") if self.name == "digits" else ():
            value = getattr(self, name)
            advice = "Choose --data.name cifar10, imagenet64 or folder."
            expect(not value, f"data.{name}", "nothing for --data.name digits", value, advice)


@dataclass(frozen=True, kw_only=True)
class Network:
    """The U-Net F_theta (iCT, Appendix B)."""

    architecture: Literal["adm", "ncsnpp"] = "adm"
    """adm: the network of Dhariwal & Nichol 2021, which iCT uses on ImageNet 64x64. ncsnpp: NCSN++ of Song et al.
    2021, which iCT uses on CIFAR-10 (iCT, Appendix B)."""
    embedding: Literal["positional", "fourier"] = "positional"
    """Embedding of the noise level: positional for ADM, fourier for NCSN++ (iCT, Section 3.1)."""
    fourier_scale: float = 0.02
    """Standard deviation of the fixed Fourier frequencies: 0.02 in iCT (Section 3.1), 16 in CM's public code."""
    width: int = 192
    """Base number of channels. The stem of ADM has this number times the first multiplier. The noise embedding has
    this number of features, twice as many if it is fourier."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Channels of each resolution stage, as multiples of the width. Each stage halves the resolution of the one
    before."""
    blocks: int = 3
    """Residual blocks per resolution stage: on ImageNet 3, and 6 for iCT-deep; on CIFAR-10 4, and 8 for iCT-deep (iCT,
    Appendix B)."""
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    """Resolutions, in pixels, with attention after each block (in NCSN++'s decoder after the last block only). The
    middle always has attention. A resolution that no stage has is ignored."""
    head_channels: int = 64
    """Channels of an attention head: 64 in CM's public ImageNet code. 0: one head of all channels, as in NCSN++."""
    groups: int = 32
    """Groups of each group normalisation. NCSN++ uses fewer where a group would have less than 4 channels."""
    adaptive_norm: bool = False
    """Scale and shift the normalised map by the embedding (AdaGN) instead of adding the embedding before. CM's ADM
    does, iCT's ADM does not (iCT, Appendix B), NCSN++ cannot."""
    dropout: float = 0.2
    """Dropout rate, the fraction of values that are dropped (iCT, Section 3.1)."""
    dropout_max_resolution: int = 16
    """Highest resolution, in pixels, with dropout (iCT, Section 3.1: 16x16)."""
    time_scale: float = 1.0
    """Factor on log(sigma) / 4 before the embedding: 1 in iCT (Section 3.1), 1000 in CM's public code."""

    def __post_init__(self) -> None:
        at_least(1, self, "network", "width", "blocks", "groups")
        at_least(0, self, "network", "head_channels", "dropout_max_resolution")
        expect(self.width % 2 == 0, "network.width", "an even number", self.width)
        multipliers = self.multipliers
        positive = len(multipliers) >= 1 and min(multipliers) >= 1
        expect(positive, "network.multipliers", "integers >= 1", multipliers)
        adm = self.architecture == "adm"
        adaptive = self.adaptive_norm
        expect(adm or not adaptive, "network.adaptive_norm", "False, as NCSN++ has no AdaGN", adaptive)
        self._check_channels()
        expect(0 <= self.dropout < 1, "network.dropout", "0 <= rate < 1", self.dropout)
        scale = self.fourier_scale
        expect(0 < scale <= 1e6, "network.fourier_scale", "0 < scale <= 1e6", scale)
        time_scale = self.time_scale
        expect(abs(time_scale) <= 1e6, "network.time_scale", "a number between -1e6 and 1e6", time_scale)

    def _check_channels(self) -> None:
        adm = self.architecture == "adm"
        widths = {self.width * multiplier for multiplier in self.multipliers}
        for channels in sorted(widths):
            heads = self.head_channels == 0 or channels % self.head_channels == 0
            divisor = f"0 or a divisor of {channels} channels (width * multiplier)"
            expect(heads, "network.head_channels", divisor, self.head_channels)
        # A block of the decoder gets the channels of its own map and those of the encoder's map.
        stem = widths if adm else widths | {self.width}
        for channels in sorted(stem | {a + b for a in stem for b in stem}):
            expect(adm or channels >= 4, "network.width", "4 channels or more", self.width)
            groups = self.groups_of(channels)
            divisor = f"a divisor of {channels} channels, which a block has"
            expect(channels % groups == 0, "network.groups", divisor, groups)

    def groups_of(self, channels: int) -> int:
        """Return the number of groups in which `channels` channels are normalised."""
        return self.groups if self.architecture == "adm" else min(channels // 4, self.groups)


@dataclass(frozen=True, kw_only=True)
class Method:
    """The training objective (iCT, Table 1: the right column is the default, the left one is CT)."""

    objective: Literal["discrete", "continuous", "distillation", "denoising"] = "discrete"
    """discrete: Eq. (5). continuous: its limit for infinitely fine noise levels (CM, Theorem 6; iCT, Figure 1b), at
    the noise levels of the curriculum's grid, without weights and without a teacher. distillation: Eq. (3), with the
    score of --method.denoiser. denoising: a denoiser to distil, by EDM's loss and parameterization (EDM, Table 1); give
    EDM's --method.p-mean -1.2 --method.p-std 1.2. Curriculum, distance and weighting have no effect on it."""
    denoiser: str = ""
    """Denoiser to distil: a TorchScript file called as D(x, sigma), or D(x, sigma, labels) with --data.labels, that
    maps noisy images to clean ones; or a network file written by python -m ict_ref.import_checkpoint."""
    sigma_min: float = 0.002
    """Lowest noise level (iCT, Section 2)."""
    sigma_max: float = 80.0
    """Highest noise level (iCT, Section 2)."""
    rho: float = 7.0
    """Curvature of the grid of noise levels (iCT, Section 2)."""
    sigma_data: float = 0.5
    """Standard deviation of the data that the preconditioning assumes (CM, Appendix C)."""
    mu0: float | None = None
    """EMA decay of the teacher at the start: mu(k) = exp(s0 log(mu0) / N(k)). None: mu(k) = 0, the teacher is the
    student (iCT, Section 3.2). CT: 0.9 on CIFAR-10, 0.95 on ImageNet (iCT, Table 1)."""
    distance: Literal["pseudo_huber", "squared_l2", "lpips"] = "pseudo_huber"
    """Distance d(x, y) of the loss (iCT, Section 3.3). CT: lpips (iCT, Table 1)."""
    huber_c: float | None = None
    """Constant c of the pseudo-Huber distance. None: 0.00054 sqrt(d) for images of d values (iCT, Section 3.3; 0.03 on
    CIFAR-10)."""
    lpips: str = ""
    """TorchScript file of LPIPS, called as lpips(x, y) on images of 224x224 pixels from -1 to 1. Its published weights
    are not part of ict_ref. Images are enlarged bilinearly (CM, Appendix C)."""
    curriculum: Literal["exponential", "sqrt", "constant", "linear", "square", "cosine"] = "exponential"
    """Curriculum, by which the number N(k) of noise levels grows (iCT, Section 3.4). CT: sqrt (iCT, Table 1)."""
    s0: int = 10
    """Initial discretization (iCT, Section 3.4). exponential: training begins with s0 + 1 noise levels; constant: with
    s1 + 1; sqrt, linear, square and cosine: with s0. CT: 2 (iCT, Table 1)."""
    s1: int = 1280
    """Final discretization: training ends with s1 + 1 noise levels (iCT, Section 3.4). CT: 150 on CIFAR-10, 200 on
    ImageNet (iCT, Table 1)."""
    noise_schedule: Literal["lognormal", "uniform"] = "lognormal"
    """Distribution of the sampled intervals between noise levels (iCT, Section 3.5). CT: uniform over the intervals
    (iCT, Table 1)."""
    p_mean: float = -1.1
    """Mean of log sigma under the lognormal noise schedule (iCT, Section 3.5)."""
    p_std: float = 2.0
    """Standard deviation of log sigma under the lognormal noise schedule (iCT, Section 3.5)."""
    weighting: Literal["inverse_gap", "uniform"] = "inverse_gap"
    """Weight of the loss. inverse_gap: lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i) (iCT, Section 3.1). uniform: 1,
    as in CT (iCT, Table 1)."""

    def __post_init__(self) -> None:
        low, high = self.sigma_min, self.sigma_max
        ordered = math.isfinite(high) and 0 < low < high
        between = "0 < sigma_min < sigma_max < infinity (iCT, Section 2)"
        expect(ordered, "method.sigma_min", between, f"sigma_min {low} and sigma_max {high}")
        for name in ("rho", "sigma_data"):
            positive(self, "method", name)
        try:
            math.pow(high, 1 / self.rho)
        except OverflowError:
            power = "a number for which sigma_max^(1/rho) is finite (iCT, Section 2)"
            expect(False, "method.rho", power, self.rho, "The paper's is 7.")
        if self.noise_schedule == "lognormal":
            positive(self, "method", "p_std")
            expect(math.isfinite(self.p_mean), "method.p_mean", "a finite number", self.p_mean)
        first = 1 if self.curriculum in ("exponential", "constant") else 2
        span = f"{first} <= s0 <= s1 for the {self.curriculum} curriculum"
        expect(first <= self.s0 <= self.s1, "method.s0", span, f"s0 {self.s0} and s1 {self.s1}")
        self._check_objective()

    def _check_objective(self) -> None:
        c, mu0 = self.huber_c, self.mu0
        huber = self.distance == "pseudo_huber"
        expect(huber or c is None, "method.huber_c", "None unless --method.distance is pseudo_huber", c)
        if c is not None:
            positive(self, "method", "huber_c")
        denoises = self.objective == "denoising"
        has_teacher = self.objective != "continuous" and not denoises
        expect(has_teacher or mu0 is None, "method.mu0", f"None where --method.objective is {self.objective}", mu0)
        schedule = self.noise_schedule
        is_edm_s = not denoises or schedule == "lognormal"
        expect(is_edm_s, "method.noise_schedule", "lognormal where --method.objective is denoising", schedule)
        decays = mu0 is None or 0 < mu0 < 1
        expect(decays, "method.mu0", "0 < mu0 < 1, or None (iCT, Table 1)", mu0, "The paper's are 0.9 and 0.95.")
        distils = self.objective == "distillation" or not self.denoiser
        advice = "Choose --method.objective distillation."
        expect(distils, "method.denoiser", "nothing unless --method.objective is distillation", self.denoiser, advice)

    @property
    def identity_sigma(self) -> float:
        """Return the noise level at which the model returns its input: sigma_min, and in effect 0 for a denoiser."""
        return sys.float_info.min if self.objective == "denoising" else self.sigma_min


@dataclass(frozen=True, kw_only=True)
class Train:
    """The optimization (iCT, Appendix B)."""

    steps: int = 800_000
    """Number of updates, K. The curriculum spans all of them."""
    batch_size: int = 4096
    """Examples per update, over all processes."""
    learning_rate: float = 1e-4
    """Constant learning rate of RAdam."""
    ema_decay: tuple[float, ...] | float = 0.99997
    """Decay of the EMA weights, from which samples are made. Several decays keep EMA weights for each. Samples are made
    from the first, and from another by the option --ema of the commands. CM's code keeps 0.9999432 0.9999 0.999."""
    ema_sigmas: tuple[float, ...] = ()
    """Relative widths of averages that are kept for post-hoc EMA, such as EDM2's 0.05 0.1. After training, EMA weights
    of any width are reconstructed from them by the option --ema-sigma of the commands (EDM2, Section 3)."""
    init: str = ""
    """Weights to start from instead of random ones, for the student, the EMA weights and the teacher alike: a network
    file of import_checkpoint or export_checkpoint, or a checkpoint of a run, whose EMA weights are taken."""
    seed: int = 0
    """Seed of every random number of the run."""
    noise_shards: int = 1
    """Number of noise shards: equal slices of the batch, each with its own random stream. Processes and microbatches
    (--machine.accumulate) take whole shards, so their number does not change the run; the number of shards does."""
    precision: Literal["float64", "float32", "tf32", "bfloat16", "float16"] = "float32"
    """Precision of convolutions and matrix products, forward and backward. float32: all 24 bits, also on GPUs that have
    TF32. tf32: operands are rounded to 11 bits on such GPUs; elsewhere the same as float32. bfloat16 and float16: the
    network's convolutions and products in 16 bits, those of float16 with a loss scale. In these policies the
    parameters, sums of the residual branches, norms, embedding, head, loss and samples are in float32. float64: all."""
    clip_gradient: float | None = None
    """Maximum norm of the gradient. None: no clipping (iCT, Appendix B mentions none)."""
    skip_nonfinite: int = 0
    """Number of updates that may be skipped because the loss or the gradient is not finite. The next one stops the run.
    Updates that only overflow the loss scale of float16 do not count. Above 0, every step synchronises with the GPU."""

    def __post_init__(self) -> None:
        at_least(1, self, "train", "steps", "batch_size", "noise_shards")
        at_least(0, self, "train", "seed", "skip_nonfinite")
        shards = self.noise_shards
        divisor = f"a divisor of --train.batch-size {self.batch_size}"
        expect(self.batch_size % shards == 0, "train.noise_shards", divisor, shards)
        rate, clip = self.learning_rate, self.clip_gradient
        expect(0 < rate < math.inf, "train.learning_rate", "a positive number", rate)
        self._check_averages()
        expect(clip is None or 0 < clip < math.inf, "train.clip_gradient", "a positive number, or None", clip)

    def _check_averages(self) -> None:
        decays, sigmas = self.ema_decays, self.ema_sigmas
        expect(len(decays) >= 1, "train.ema_decay", "one decay or more", "nothing")
        for decay in decays:
            expect(0 <= decay < 1, "train.ema_decay", "0 <= decay < 1 (iCT, Eq. (4))", decay)
        if len(decays) == 1:  # one decay is a number in every file, as before there could be several
            object.__setattr__(self, "ema_decay", decays[0])
        for sigma in sigmas:
            expect(0 < sigma <= 12**-0.5, "train.ema_sigmas", "0 < sigma_rel <= 0.2886 (EDM2, Section 3)", sigma)
        for name, values in (("ema_decay", decays), ("ema_sigmas", sigmas)):
            expect(len(set(values)) == len(values), f"train.{name}", "different numbers", values)

    @property
    def ema_decays(self) -> tuple[float, ...]:
        """Return all decays of EMA weights; samples are made from the first."""
        return self.ema_decay if isinstance(self.ema_decay, tuple) else (self.ema_decay,)

    @property
    def dtype(self) -> Literal["float32", "float64"]:
        """Return the dtype of parameters, images and noise."""
        return "float64" if self.precision == "float64" else "float32"

    @property
    def low_precision(self) -> Literal["bfloat16", "float16"] | None:
        """Return the 16-bit dtype of the network's convolutions and products; None for the other policies."""
        return self.precision if self.precision in ("bfloat16", "float16") else None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The hardware. You may change any of these options when resuming a run; they change rounding only."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device. auto: a GPU if one is visible, otherwise the CPU. Each process uses one GPU."""
    threads: int = 0
    """CPU threads per process. 0: torch's default. Small networks are fastest with 1."""
    accumulate: int | Literal["auto"] = "auto"
    """Microbatches per process and update. More of them need less memory; they change rounding. auto: the fewest that
    fit, chosen once when the run begins and then kept."""
    recompute: bool | Literal["auto"] = "auto"
    """Recompute each block's activations in the backward pass, which needs less memory and about a fifth more
    arithmetic; it changes no bit. The option --machine.no-recompute forbids it. auto: only where microbatches alone do
    not fit, chosen once when the run begins and then kept."""
    channels_last: bool = False
    """Store images with channels innermost, which suits tensor cores. On a GPU give it with --machine.compile, or
    install Triton: torch's own group normalisation would copy each map to the other layout and back."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the network with torch.compile: minutes at the start, then faster steps on a GPU. The option
    --machine.no-compile forbids it. auto: on a GPU, for runs of 10 000 updates or more."""
    cuda_graphs: bool = False
    """Launch a compiled network's kernels as CUDA graphs (torch's mode reduce-overhead). It pays where few images per
    GPU keep it waiting for the host, and needs more memory."""
    deterministic: bool = False
    """Use only GPU operations that torch calls deterministic, which are slower and need more memory for attention. An
    operation without such a form stops the run: on a GPU the derivative of LPIPS has none. On a CPU it changes no
    bit."""

    def __post_init__(self) -> None:
        threads = self.threads
        expect(0 <= threads <= 1024, "machine.threads", "an integer between 0 and 1024", threads)
        if self.accumulate != "auto":
            at_least(1, self, "machine", "accumulate")
        may = self.compile is not False or not self.cuda_graphs
        expect(may, "machine.cuda_graphs", "a compiled network", "--machine.no-compile", "Leave out one of the two.")

    def compiles(self, device: str, steps: int) -> bool:
        """Return whether a run of `steps` updates compiles its network on this type of device."""
        if self.compile == "auto":
            return device == "cuda" and steps >= COMPILED_FROM
        return self.compile

    @property
    def microbatches(self) -> int:
        """Return the number of microbatches per process; 1 where it is not chosen yet."""
        return 1 if self.accumulate == "auto" else self.accumulate

    @property
    def recomputes(self) -> bool:
        """Return whether activations are recomputed; false where it is not chosen yet."""
        return self.recompute is True


@dataclass(frozen=True, kw_only=True)
class Record:
    """The files that a run writes. You may change any of these options when resuming a run."""

    log_every: int = 50
    """Updates between lines of metrics.jsonl. Only these steps synchronise with the GPU."""
    save_every: int = 1000
    """Updates between checkpoints."""
    keep: int = 3
    """Number of newest checkpoints to keep. If one is damaged, the run resumes from the one before."""
    milestone_every: int = 0
    """Updates between checkpoints that are never deleted. 0: delete all but the newest."""
    milestone_stages: bool = False
    """Never delete the checkpoint at the end of each stage of the curriculum: before the number of intervals reaches
    s0, 2 s0, 4 s0 and so on, and after training. The presets of the paper's runs keep them."""
    ema_snapshots: int = 16
    """Number of checkpoints, evenly spaced over the run, that are never deleted if --train.ema-sigmas are kept."""
    sample_every: int = 0
    """Updates between sheets of samples, each made from the same noise, in the folder samples. 0: write none."""
    tensorboard: bool = False
    """Also write the metrics as TensorBoard events, which needs pip install 'ict_ref[tensorboard]'."""

    def __post_init__(self) -> None:
        at_least(1, self, "record", "log_every", "save_every", "keep", "ema_snapshots")
        at_least(0, self, "record", "milestone_every", "sample_every")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The settings of sampling after training. You may change any of these options when resuming a run."""

    two_step_sigma: float = 0.821
    """Intermediate noise level of two-step sampling (iCT, Appendix B: 0.821 on CIFAR-10)."""
    clip: bool = True
    """Clip to [-1, 1] after each step, as the authors' CM code does. The paper's formula does not."""


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """Acceptance thresholds for one-step samples. A run that misses one exits with status 1; None sets no threshold."""

    accuracy: float | None = None
    """Minimum fraction of samples that a classifier of real images assigns to the requested label."""
    frechet_distance: float | None = None
    """Maximum Frechet distance to the held-out images, in pixel values from -1 to 1."""
    recall: float | None = None
    """Minimum fraction of held-out images that lie within the neighbourhoods of the samples."""

    def __post_init__(self) -> None:
        for name in ("accuracy", "recall"):
            value = getattr(self, name)
            expect(value is None or 0 <= value <= 1, f"acceptance.{name}", "a fraction between 0 and 1", value)
        distance = self.frechet_distance
        finite = distance is None or 0 <= distance < math.inf
        expect(finite, "acceptance.frechet_distance", "a finite number >= 0", distance)


@dataclass(frozen=True, kw_only=True)
class Config:
    """The configuration of a run.

    >>> Config(train=Train(steps=1000, batch_size=64)).train.ema_decay
    0.99997
    >>> Train(batch_size=0)
    Traceback (most recent call last):
    ValueError: --train.batch-size: expected an integer >= 1, got 0

    Raises:
        ValueError: options of two groups do not go together. Each group checks its own options in the same way.
    """

    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    method: Method = field(default_factory=Method)
    train: Train = field(default_factory=Train)
    sample: Sample = field(default_factory=Sample, metadata=NOT_IDENTITY)
    acceptance: Acceptance = field(default_factory=Acceptance, metadata=NOT_IDENTITY)
    machine: Machine = field(default_factory=Machine, metadata=NOT_IDENTITY)
    record: Record = field(default_factory=Record, metadata=NOT_IDENTITY)

    def __post_init__(self) -> None:
        method, train, accuracy = self.method, self.train, self.acceptance.accuracy
        advice = "Give --acceptance.accuracy None."
        labelled = self.data.labels or accuracy is None
        expect(labelled, "acceptance.accuracy", "None for a model without labels", accuracy, advice)
        low, high, sigma = method.sigma_min, method.sigma_max, self.sample.two_step_sigma
        between = f"{low} <= sigma < {high} (--method.sigma-min, --method.sigma-max)"
        expect(low <= sigma < high, "sample.two_step_sigma", between, sigma)
        if method.curriculum == "exponential":
            least = math.ceil(math.log2(method.s1 // method.s0) + 1)
            advice = f"Train for at least {least} steps, or choose s0 and s1 closer together."
            stages = f"at least {least} steps for the exponential curriculum (iCT, Eq. (9))"
            expect(train.steps >= least, "train.steps", stages, train.steps, advice)
        self._check_precision()

    def _check_precision(self) -> None:
        """Reject numbers that the dtype of training rounds to 0 or to infinity."""
        method, dtype = self.method, self.train.dtype
        c = method.huber_c
        for name in ("sigma_min", "sigma_max"):
            sigma = getattr(method, name)
            expect(0 < rounded(sigma, dtype) < math.inf, f"method.{name}", f"0 < sigma < infinity in {dtype}", sigma)
        sigma_data = method.sigma_data
        squared = f"a number that {dtype} can square"
        expect(sigma_data <= math.sqrt(LARGEST[dtype]), "method.sigma_data", squared, sigma_data)
        exact = c is None or c * c >= SMALLEST_NORMAL[dtype]
        expect(exact, "method.huber_c", f"c^2 > 0 in {dtype} (iCT, Eq. (8))", c)

    def to_json(self) -> str:
        """Return the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    @classmethod
    def from_dict(cls, groups: Mapping[str, Any]) -> "Config":
        """Return the configuration that JSON holds; a missing field has its default.

        Raises:
            KeyError, TypeError: a group or a field does not exist in this version.
            ValueError: a value has another type or is out of range. The message names its option.
        """
        known = get_type_hints(cls)
        values: dict[str, Any] = {}
        for group, fields in groups.items():
            kind = known[group]
            if dataclasses.is_dataclass(kind):
                values[group] = stored_group(kind, fields, group)
            else:
                values[group] = checked(fields, kind, option(group))
        return cls(**values)

    def model_options(self) -> dict[str, Any]:
        """Return the options of the model, as JSON stores them: the run's identity, and how samples are made."""
        tree = json.loads(self.to_json())
        kept = {name: value for name, value in flat(tree).items() if is_identity(Config, name)}
        return nested(kept | flat({"sample": tree["sample"]}))

    def identity(self) -> dict[str, Any]:
        """Return the fields, by full name, that are part of the run's identity and differ from their defaults."""
        return identity(Config, dataclasses.asdict(self))

    def digest(self) -> str:
        """Return 8 hexadecimal digits that differ between runs that learn something else."""
        return digest(self.identity())
