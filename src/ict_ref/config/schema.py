"""The fields of a configuration, their defaults, and the section of the paper that states each of them.

Defaults are those of iCT on ImageNet 64x64. The docstrings of the fields are the help texts of the commands.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from ict_ref.config.identity import NOT_IDENTITY, digest, flat, identity, is_identity, nested
from ict_ref.config.method import Method
from ict_ref.config.network import Network
from ict_ref.config.scm import Scm
from ict_ref.config.tuning import Tuning
from ict_ref.config.validate import at_least, expect, option
from ict_ref.utils.command_line import LARGEST_SEED
from ict_ref.utils.json_file import as_fields, checked

MOST_IMAGES = 2**24
"""Largest number of images of an update."""
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
class Train:
    """The optimization (iCT, Appendix B)."""

    steps: int = 800_000
    """Number of updates, K. The curriculum spans all of them."""
    batch_size: int = 4096
    """Examples per update, over all processes."""
    learning_rate: float = 1e-4
    """Constant learning rate of RAdam."""
    beta2: float = 0.999
    """Decay of RAdam's second moments: 0.999 in CM's code, 0.99 in sCM (Appendix G)."""
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
        at_least(1, self, "train", "steps", "noise_shards")
        at_least(1, self, "train", "batch_size", most=MOST_IMAGES)
        at_least(0, self, "train", "skip_nonfinite")
        at_least(0, self, "train", "seed", most=LARGEST_SEED)
        shards = self.noise_shards
        divisor = f"a divisor of --train.batch-size {self.batch_size}"
        expect(self.batch_size % shards == 0, "train.noise_shards", divisor, shards)
        rate, clip = self.learning_rate, self.clip_gradient
        expect(0 < rate < math.inf, "train.learning_rate", "a positive number", rate)
        expect(0 <= self.beta2 < 1, "train.beta2", "0 <= beta2 < 1", self.beta2)
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
    trust: tuple[str, ...] = ()
    """SHA-256 of files of --method.lpips and --method.denoiser whose operations are not checked. A TorchScript file is
    a program: trust only files whose origin you know."""

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
    """Also write metrics, sheets of samples and options as TensorBoard events, which needs the package tensorboard."""
    wandb: Literal["off", "folder", "server"] = "off"
    """Also log them to Weights & Biases, which needs the package wandb. folder: in the run folder, without a network.
    server: at the server of your account."""
    mlflow: Literal["off", "folder", "server"] = "off"
    """Also log them to MLflow, which needs the package mlflow. folder: in the run folder, without a network. server: at
    the place that the environment variable MLFLOW_TRACKING_URI names."""

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
    tuning: Tuning = field(default_factory=Tuning)
    scm: Scm = field(default_factory=Scm)
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
        if method.has_pairs:
            self.tuning.refuse_equal_levels(train.steps)
        if method.objective == "tcm":
            self.tuning.refuse_cut(low, high, train.batch_size // train.noise_shards)
            cut, advice = self.tuning.sigma_cut, "Below the cut the model is not trained."
            expect(sigma >= cut, "sample.two_step_sigma", f"sigma >= {cut} (--tuning.sigma-cut)", sigma, advice)
        if method.objective == "scm":
            self.scm.refuse_times(method.p_mean, method.p_std, method.sigma_data, train.dtype)
        method.refuse_rounding(train.dtype)

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
