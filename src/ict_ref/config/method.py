"""The fields of a training objective, and the section of the paper that states each of them."""

import math
import sys
from dataclasses import dataclass
from typing import Literal

from ict_ref.config.validate import LARGEST, SMALLEST_NORMAL, expect, positive, rounded

MOST_LEVELS = 2**20
"""Largest number of noise levels; iCT's largest is 1281."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """The training objective (iCT, Table 1: the right column is the default, the left one is CT)."""

    objective: Literal["discrete", "continuous", "distillation", "denoising", "ect", "tcm", "scm"] = "discrete"
    """discrete: Eq. (5). continuous: its limit for infinitely fine noise levels (CM, Theorem 6; iCT, Figure 1b), at
    the noise levels of the curriculum's grid, without weights and without a teacher. distillation: Eq. (3), with the
    score of --method.denoiser. denoising: a denoiser to distil, by EDM's loss and parameterization (EDM, Table 1); give
    EDM's --method.p-mean -1.2 --method.p-std 1.2. Curriculum, distance and weighting have no effect on it. ect: easy
    consistency tuning of a denoiser, the weights of --train.init, by pairs of noise levels (ECT; options --tuning).
    Curriculum and --method.sigma-min have no effect on it. tcm: the second stage of truncated consistency models, at
    the levels from --tuning.sigma-cut on; the weights of --train.init stay the function below (TCM). scm: consistency
    training in continuous time and TrigFlow's variables, from the weights of a denoiser with --method.trigflow; give
    sCM's --method.p-mean -1.0 --method.p-std 1.4 (sCM; options --scm). Curriculum, distance, weighting and
    --method.sigma-min have no effect on it. With --method.denoiser it distils."""
    trigflow: bool = False
    """Train the denoiser of --method.objective denoising in TrigFlow's variables: its network gets the angle t = atan(
    sigma / sigma_data) in place of log(sigma) / 4 (sCM, Eq. (5)). scm has them always."""
    denoiser: str = ""
    """Denoiser to distil, for distillation and scm: a TorchScript file called as D(x, sigma), or D(x, sigma, labels)
    with --data.labels, that maps noisy images to clean ones; or a network file written by python -m
    ict_ref.import_checkpoint. TorchScript is a program: see --machine.trust."""
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
    distance: Literal["pseudo_huber", "squared_l2", "lpips", "l2"] = "pseudo_huber"
    """Distance d(x, y) of the loss (iCT, Section 3.3). CT: lpips (iCT, Table 1). ECT on CIFAR-10: l2, the norm."""
    huber_c: float | None = None
    """Constant c of the pseudo-Huber distance. None: 0.00054 sqrt(d) for images of d values (iCT, Section 3.3; 0.03 on
    CIFAR-10)."""
    lpips: str = ""
    """File of python -m ict_ref.training.import_lpips, or TorchScript (deprecated in torch), called as lpips(x, y).
    Images from -1 to 1 are enlarged bilinearly to 224x224 pixels (CM, Appendix C). TorchScript is a program: see
    --machine.trust."""
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
    weighting: Literal["inverse_gap", "uniform", "snr"] = "inverse_gap"
    """Weight of the loss. inverse_gap: lambda(sigma_i) = 1 / (sigma_{i+1} - sigma_i) (iCT, Section 3.1), in ECT 1 / (t
    - r). uniform: 1, as in CT (iCT, Table 1). snr: 1 / t^2 + 1 / sigma_data^2, as in ECT on ImageNet, for
    ect and tcm only."""

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
        expect(self.s1 <= MOST_LEVELS, "method.s1", f"at most {MOST_LEVELS} noise levels", self.s1)
        self._check_objective()

    def _check_objective(self) -> None:
        c, mu0 = self.huber_c, self.mu0
        huber = self.distance == "pseudo_huber"
        expect(huber or c is None, "method.huber_c", "None unless --method.distance is pseudo_huber", c)
        if c is not None:
            positive(self, "method", "huber_c")
        objective, schedule = self.objective, self.noise_schedule
        averages = objective in ("discrete", "distillation")
        expect(averages or mu0 is None, "method.mu0", f"None where --method.objective is {objective}", mu0)
        fits = not self.is_gridless or schedule == "lognormal"
        expect(fits, "method.noise_schedule", f"lognormal where --method.objective is {objective}", schedule)
        smooth = objective != "continuous" or self.distance != "l2"
        expect(smooth, "method.distance", "a distance that is differentiable at 0 (CM, Theorem 6)", self.distance)
        fits = self.has_pairs or self.weighting != "snr"
        expect(fits, "method.weighting", f"inverse_gap or uniform where --method.objective is {objective}", "snr")
        decays = mu0 is None or 0 < mu0 < 1
        expect(decays, "method.mu0", "0 < mu0 < 1, or None (iCT, Table 1)", mu0, "The paper's are 0.9 and 0.95.")
        distils = self.objective in ("distillation", "scm") or not self.denoiser
        advice = "Choose --method.objective distillation."
        nothing = "nothing unless --method.objective is distillation or scm"
        expect(distils, "method.denoiser", nothing, self.denoiser, advice)
        fits = not self.trigflow or objective in ("denoising", "scm")
        expect(fits, "method.trigflow", f"False where --method.objective is {objective}", self.trigflow)

    def refuse_rounding(self, dtype: str) -> None:
        """Reject numbers that a dtype rounds to 0 or to infinity.

        Raises:
            ValueError: A number is too small or too large. The message names its option.
        """
        for name in ("sigma_min", "sigma_max"):
            sigma = getattr(self, name)
            expect(0 < rounded(sigma, dtype) < math.inf, f"method.{name}", f"0 < sigma < infinity in {dtype}", sigma)
        for name in ("sigma_max", "sigma_data", "huber_c"):
            value = getattr(self, name)
            squared = f"a number that {dtype} can square without an overflow"
            expect(value is None or value <= math.sqrt(LARGEST[dtype]), f"method.{name}", squared, value)
        large = self.sigma_data >= math.sqrt(SMALLEST_NORMAL[dtype])
        expect(large, "method.sigma_data", f"a number whose square is not 0 in {dtype}", self.sigma_data)
        c = self.huber_c
        exact = c is None or c * c >= SMALLEST_NORMAL[dtype]
        expect(exact, "method.huber_c", f"c^2 > 0 in {dtype} (iCT, Eq. (8))", c)

    @property
    def is_gridless(self) -> bool:
        """Return whether noise levels are continuous and go down to 0: those of a denoiser, of ECT, TCM and sCM."""
        return self.objective in ("denoising", "scm") or self.has_pairs

    @property
    def has_pairs(self) -> bool:
        """Return whether the loss is of pairs of noise levels without a grid, in stages (options --tuning)."""
        return self.objective in ("ect", "tcm")

    @property
    def starts_from_weights(self) -> bool:
        """Return whether the objective turns trained weights, those of --train.init, into a consistency model."""
        return self.has_pairs or self.objective == "scm"

    @property
    def distils(self) -> bool:
        """Return whether a denoiser is distilled, that of --method.denoiser."""
        return self.objective == "distillation" or bool(self.denoiser)

    @property
    def coefficients(self) -> Literal["cm", "edm", "trigflow"]:
        """Return the kind of parameterization in files of networks; a denoiser has cm, except in TrigFlow."""
        if self.trigflow or self.objective == "scm":
            return "trigflow"
        return "edm" if self.has_pairs else "cm"

    @property
    def has_teacher(self) -> bool:
        """Return whether a run keeps another network beside the student: CT's average, or TCM's frozen function."""
        return self.mu0 is not None or self.objective == "tcm"

    @property
    def identity_sigma(self) -> float:
        """Return the noise level at which the model returns its input: sigma_min, in effect 0 without a grid."""
        return sys.float_info.min if self.is_gridless else self.sigma_min
