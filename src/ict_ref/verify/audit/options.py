"""Options of the audits; AUDITS has the options of each kind."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from ict_ref.utils.command_line import expect
from ict_ref.utils.option_parser import Several, metavar
from ict_ref.verify.report.options import ReportOptions, Text, expect_seed, refuse_device

if TYPE_CHECKING:
    from ict_ref.verify.audit.step.settings import Settings

FEWEST = 10_000
"""Fewest values in a batch of samples, so that moments and correlations mean something."""


@dataclass(frozen=True, kw_only=True)
class AuditOptions(ReportOptions):
    """Options of every audit."""

    kind: ClassVar[str]
    """What is audited; the names of the results begin with it."""

    target: Annotated[Text, tyro.conf.arg(metavar="TARGET")]
    """What to audit, as package.module:name or path/to/file.py:name."""
    seed: Annotated[int, metavar("N")] = 0
    """Seed of the noise and of the images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class StepOptions(AuditOptions):
    """Check a training step from outside, by the calls that it makes.

    TARGET is a callable step(network, x, *, step, total_steps) -> loss. The audit passes a network that records its
    calls, and checks the step from the record. The step needs none of the formulas. It may call the network once on
    both points or in microbatches, copy it for the teacher, flip images, and do the backward pass itself. The loss may
    be a mean or one value per example, alone, in a tuple or a dict, or an attribute `loss`.

    With --method gridless the levels may be continuous, as in ECT and TCM: the report describes them.
    """

    kind = "step"

    method: Literal["ict", "ct", "gridless"] = "ict"
    """Method of the step: iCT, CT (both columns of Table 1), or one with continuous noise levels."""
    shape: Annotated[str, metavar("C,H,W")] = "3,4,4"
    """Shape of an example, with commas."""
    batch: Annotated[int, metavar("B")] = 64
    """Number of examples of a step."""
    sigma_data: Annotated[float, metavar("S")] = 0.5
    """Standard deviation of the data in c_skip, c_out and c_in."""
    sigma_min: Annotated[float | None, metavar("S")] = None
    """Smallest noise level; by default 0.002, for a gridless step 0, as in ECT."""
    sigma_max: Annotated[float, metavar("S")] = 80.0
    """Largest noise level."""
    rho: Annotated[float, metavar("R")] = 7.0
    """Exponent of the noise levels."""
    s0: Annotated[int | None, metavar("N")] = None
    """Start of the curriculum; by default 10, for CT 2."""
    s1: Annotated[int | None, metavar("N")] = None
    """End of the curriculum; by default 1280, for CT 150."""
    p_mean: Annotated[float, metavar("P")] = -1.1
    """P_mean of p(i)."""
    p_std: Annotated[float, metavar("P")] = 2.0
    """P_std of p(i)."""
    total_steps: Annotated[int, metavar("K")] = 8007
    """Number K of training steps that the step is given."""
    device: str = "cpu"
    """Device of the images and of the network, such as cuda."""

    def __post_init__(self) -> None:
        super().__post_init__()
        axes = self.shape.split(",")
        expect(all(axis.isdecimal() and int(axis) for axis in axes), "--shape", "integers > 0 with commas", self.shape)
        expect(self.batch >= 16, "--batch", "an integer >= 16", self.batch, "The checks compare examples.")
        expect(0 < self.sigma_data < math.inf, "--sigma-data", "a number > 0", self.sigma_data)
        smallest, largest = self.settings.sigma_min, self.sigma_max
        least = smallest >= 0 if self.method == "gridless" else smallest > 0
        expect(least and smallest < largest < math.inf, "--sigma-min and --sigma-max", "0 < sigma_min < sigma_max",
               f"{smallest} and {largest}")  # fmt: skip
        expect(0 < self.rho < math.inf, "--rho", "a number > 0", self.rho)
        expect(math.isfinite(self.p_mean), "--p-mean", "a number", self.p_mean)
        expect(0 < self.p_std < math.inf, "--p-std", "a number > 0", self.p_std)
        expect(self.total_steps > 0, "--total-steps", "an integer > 0", self.total_steps)
        _expect_curriculum(self.settings)
        refuse_device(self.device)

    @property
    def settings(self) -> "Settings":
        """Return the settings of the audit."""
        from ict_ref.verify.audit.step.settings import Settings

        names = (
            "method", "batch", "sigma_data", "sigma_max", "rho", "s0", "s1", "p_mean", "p_std",
            "total_steps", "device", "seed",
        )  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        smallest = (0.0 if self.method == "gridless" else 0.002) if self.sigma_min is None else self.sigma_min
        return Settings(shape=tuple(map(int, self.shape.split(","))), sigma_min=smallest, **values)


def _expect_curriculum(settings: "Settings") -> None:
    s0, s1 = settings.ends
    expect(2 <= s0 <= s1 <= 2**16, "--s0 and --s1", "2 <= s0 <= s1 <= 65536", f"{s0} and {s1}")
    try:
        settings.number_of_levels(0)
    except ValueError as error:
        raise ValueError(f"--total-steps: {error}") from None


@dataclass(frozen=True, kw_only=True)
class ImageOptions(AuditOptions):
    """Options of the audits that give images and noise levels to the target."""

    shape: Annotated[str, metavar("C,H,W")] = "3,32,32"
    """Shape of one image or vector; by default 3,32,32."""
    sigma_min: Annotated[float, metavar("S")] = 0.002
    """Smallest noise level, at which f(x, sigma) = x; by default 0.002."""
    sigma_max: Annotated[float, metavar("S")] = 80.0
    """Largest noise level; by default 80."""

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = self.shape.split(",")
        is_shape = all(number.strip().isdecimal() and int(number) > 0 for number in numbers)
        expect(is_shape, "--shape", "positive integers such as 3,32,32", self.shape)
        levels = f"{self.sigma_min:g} and {self.sigma_max:g}"
        holds = self.sigma_min > 0 and 25 * self.sigma_min < self.sigma_max < float("inf")
        expect(holds, "--sigma-min", "a level > 0 and far below --sigma-max", levels)

    @property
    def event(self) -> tuple[int, ...]:
        """Return the shape of one image."""
        return tuple(map(int, self.shape.split(",")))


@dataclass(frozen=True, kw_only=True)
class ModelOptions(ImageOptions):
    """Check a consistency model f(x, sigma) as it is, without an adapter.

    TARGET is a function, a method or a torch module that is called as f(x, sigma), with x of shape [B, *shape], or a
    builder. A builder is a class, or a function that needs no arguments. It returns f, or an object with f as its
    attribute `model`. With --checkpoint a builder is called with the path of the file; this audit does not read
    checkpoints.
    """

    kind = "model"

    labels: Annotated[int, metavar("N")] = 0
    """Number of classes; 0 is a model without labels."""
    checkpoint: Annotated[Path | None, metavar("FILE")] = None
    """File or folder with which TARGET, a builder, is called."""
    device: str = "cpu"
    """Device of the images, such as cuda; a module is moved to it."""
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"
    """Type of the images; levels are float32, or float64 with float64 images."""
    sigma_data: Annotated[float, metavar("S")] = 0.5
    """Standard deviation of the data; by default 0.5."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_device(self.device)
        expect(self.labels >= 0 and self.labels != 1, "--labels", "0, or 2 classes and more", self.labels)
        expect(0 < self.sigma_data < float("inf"), "--sigma-data", "a number > 0", self.sigma_data)
        exists = self.checkpoint is None or self.checkpoint.exists()
        expect(exists, "--checkpoint", "a file or a folder", self.checkpoint)


@dataclass(frozen=True, kw_only=True)
class SamplerOptions(ImageOptions):
    """Check a sampler that draws its own noise.

    TARGET is a callable sample(f, shape) -> x. The audit passes an f(x, sigma) that returns known images and records
    its arguments. A sampler with a parameter `sigmas` also gets descending noise levels.
    """

    kind = "sampler"

    batch: Annotated[int, metavar("N")] = 64
    """Number of images; by default 64."""
    sigmas: Annotated[Several[float], metavar("S ...")] = ()
    """Descending levels to pass as `sigmas`; by default sigma_max, the geometric mean, 1.5 sigma_min."""

    def __post_init__(self) -> None:
        super().__post_init__()
        count = self.batch * math.prod(self.event)
        expect(
            self.batch >= 2 and count >= FEWEST, "--batch", f"2 images and {FEWEST:,} values or more", f"{self.batch:,}"
        )
        descending = all(high > low for high, low in zip(self.sigmas, self.sigmas[1:], strict=False))
        holds = descending and all(self.sigma_min <= sigma < float("inf") for sigma in self.sigmas)
        levels = " ".join(f"{sigma:g}" for sigma in self.sigmas)
        expect(holds, "--sigmas", "descending levels of --sigma-min or more", levels)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(AuditOptions):
    """Check a training loop from outside: EMA, curriculum, optimizer, learning rate, resume and number of updates.

    TARGET is a callable make(network, *, total_steps) that returns an object with

      train_step(x) or update(x)  make one update on a batch of images
      online                      the trained network, or a mapping of its tensors; by default `network`
      ema                         the EMA weights: a module, a mapping, a list of parameters, or a function of these
      save(path), load(path)      optional: write the state to a file, and read it into a new loop
      run(batches)                optional: make exactly total_steps updates on batches from an endless iterator

    or a tuple (train_step, online, ema). `network` is a torch.nn.Module that is called as F(c_in x, c_noise). It
    returns gradients that the audit chooses, so the loss is not checked: audit step does that.
    """

    kind = "training"

    optimizer: Literal["RAdam", "Adam", "SGD", "Lion"] = "RAdam"
    """Expected optimizer."""
    lr: Annotated[float, metavar("R")] = 1e-4
    """Expected learning rate, constant over the run."""
    weight_decay: Annotated[float, metavar("D")] = 0.0
    """Expected weight decay."""
    clip: Annotated[float | None, metavar("C")] = None
    """Expected norm to which gradients are clipped; by default they are not."""
    ema_decay: Annotated[float, metavar("R")] = 0.99993
    """Expected decay of the EMA: 0.99993 on CIFAR-10, 0.99997 on ImageNet 64x64."""
    curriculum: Literal["exponential", "sqrt", "constant", "linear", "square", "cosine"] = "exponential"
    """Expected curriculum: iCT's is exponential, CT's is sqrt."""
    s0: Annotated[int, metavar("N")] = 10
    """Number of intervals with which the curriculum begins."""
    s1: Annotated[int, metavar("N")] = 1280
    """Number of intervals with which it ends."""
    sigma_min: Annotated[float, metavar("S")] = 0.002
    """Smallest noise level."""
    sigma_max: Annotated[float, metavar("S")] = 80.0
    """Largest noise level."""
    rho: Annotated[float, metavar("R")] = 7.0
    """Exponent of the noise levels."""
    shape: Annotated[str, metavar("C,H,W")] = "3,4,4"
    """Shape of an image."""
    batch: Annotated[int, metavar("B")] = 16
    """Number of images of an update."""
    processes: Annotated[int, metavar("N")] = 1
    """Number of processes, with the variables of torchrun, in which N(k) is compared."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr", "rho"):
            expect(0 < getattr(self, name) < math.inf, f"--{name}", "a positive number", getattr(self, name))
        clips = self.clip is None or 0 < self.clip < math.inf
        expect(clips, "--clip", "a positive number", self.clip)
        expect(0 <= self.weight_decay < math.inf, "--weight-decay", "a number >= 0", self.weight_decay)
        expect(0 < self.ema_decay < 1, "--ema-decay", "0 < decay < 1", self.ema_decay)
        expect(2 <= self.s0 <= self.s1, "--s0", f"an integer from 2 to --s1 ({self.s1})", self.s0)
        expect(self.s1 < self.s0 << 27, "--s1", "at most 2^26 --s0: the audit makes 27 updates", self.s1)
        levels = 0 < self.sigma_min < self.sigma_max < math.inf
        expect(levels, "--sigma-min", f"0 < sigma_min < --sigma-max ({self.sigma_max})", self.sigma_min)
        expect(self.batch >= 2, "--batch", "an integer >= 2", self.batch)
        expect(1 <= self.processes <= 64, "--processes", "an integer from 1 to 64", self.processes)
        sizes = re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4})*", self.shape)
        expect(bool(sizes), "--shape", "positive integers such as 3,32,32", self.shape)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Return the shape of an image."""
        return tuple(map(int, self.shape.split(",")))


@dataclass(frozen=True, kw_only=True)
class DataOptions(AuditOptions):
    """Check training data: range, layout, flips, order, shards and labels.

    TARGET is a dataset with an index, a loader (any iterable whose iteration is an epoch), or a function that returns
    one of these, or one batch. A function is called with those of the arguments epoch, step, rank and world_size that
    it has. A batch is images, (images, labels) or a dict of these.

    An image is recognised when it is seen again, so most checks need only the loader. What cannot be seen is listed.
    --images gives known images to compare with.
    """

    kind = "data"

    images: Annotated[str, metavar("DATA")] = ""
    """Images of the data set: a prepared folder, a .npy file, or digits for those of scikit-learn."""
    labels: Annotated[int, metavar("N")] = 0
    """Number of classes; 0 if it is not known."""
    flip: Literal["none", "half"] | None = None
    """Expected flips: none, or each image with probability 1/2; by default both are right."""
    size: Annotated[int, metavar("N")] = 0
    """Number of images of an epoch of an endless stream; by default that of --images."""
    limit: Annotated[int, metavar("N")] = 50_000
    """Largest number of images of an epoch to read."""
    world_size: Annotated[int, metavar("N")] = 1
    """Number of processes: the function is called for each rank, with the variables of torchrun."""
    shards: Literal["disjoint", "same"] = "disjoint"
    """Expected images of several processes: disjoint, or the same if the loop divides each batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self.labels >= 0 and self.labels != 1, "--labels", "0, or 2 classes and more", self.labels)
        expect(self.size >= 0, "--size", "an integer >= 0", self.size)
        expect(self.limit >= 64, "--limit", "an integer >= 64", self.limit)
        expect(1 <= self.world_size <= 64, "--world-size", "an integer from 1 to 64", self.world_size)


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(AuditOptions):
    """Check the code of a score: FID, KID, or precision and recall.

    TARGET is one of these functions; the form is recognised by the number of arguments, or by --takes.

      score(features_a, features_b)             features [N, D]
      score(images_a, images_b, extractor)      images [N, C, H, W]; the audit gives the extractor
      score(mean_a, cov_a, mean_b, cov_b)       moments, for FID

    It returns a number, or (precision, recall). The set a is generated and b is real.
    """

    kind = "score"

    metric: Literal["fid", "kid", "precision-recall"] = "fid"
    """Score to compare with."""
    takes: Literal["auto", "features", "images", "moments"] = "auto"
    """Form of the arguments."""
    arrays: Literal["torch", "numpy"] = "torch"
    """Array type of features, moments and images."""
    shape: Annotated[str, metavar("C,H,W")] = "3,32,32"
    """Shape of an image."""
    pixels: Literal["uint8", "-1,1", "0,1"] = "uint8"
    """Form of the images: uint8, or floats in this range; floats show clipping and rounding."""
    k: Annotated[int, metavar("K")] = 3
    """Neighbours of precision and recall."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = re.fullmatch(r"[1-9]\d{0,4}(,[1-9]\d{0,4}){2}", self.shape)
        expect(bool(sizes), "--shape", "three positive integers such as 3,32,32", self.shape)
        expect(1 <= self.k <= 20, "--k", "an integer from 1 to 20", self.k)
        moments = self.takes == "moments" and self.metric != "fid"
        expect(not moments, "--takes", f"features or images for --metric {self.metric}", self.takes)


AUDITS: Mapping[str, type[AuditOptions]] = {
    options.kind: options
    for options in (StepOptions, ModelOptions, TrainingOptions, SamplerOptions, DataOptions, ScoreOptions)
}
