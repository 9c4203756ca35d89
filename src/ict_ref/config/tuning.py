"""The options of the objectives that start from trained weights and have no grid of noise levels."""

import math
from dataclasses import dataclass

from ict_ref.config.validate import at_least, expect, positive

MOST_BITS = 50
"""q^a is below 2^50, beyond which r rounds to t in float64 (`ict_ref.formulas.ect_mapping`)."""


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Consistency tuning, --method.objective ect or tcm: pairs t > r of noise levels (ECT, Section 3.3; TCM)."""

    q: float = 2.0
    """Base q of the gap: r = t (1 - n(t) / q^a), with n(t) = 1 + k / (1 + exp(b t)) (ECT, Eq. (18)). ECT: 2 on
    CIFAR-10, 4 on ImageNet, 256 in its short run."""
    k: float = 8.0
    """Constant k of n(t). 0: one ratio r / t for all levels (ECT, Eq. (17))."""
    b: float = 1.0
    """Constant b of n(t)."""
    steps_per_stage: int = 25_000
    """Updates d of a stage. The exponent is a = floor(step / d) + 1: each stage divides the gap t - r by q."""
    first_stage: int = 0
    """Number of the stage in which the run begins, from 0, with a = first_stage + 1. Where r is 0 the target is the
    image itself, so stage 0 is denoising at low levels (for q = 256 at none)."""

    largest_ratio: float = 1.0
    """Largest value of 1 - 1/q^a, from which on stages do not change. 1: none, as in ECT. TCM: 0.999 on CIFAR-10."""
    within_range: bool = False
    """Whether ect samples t within --method.sigma-min and --method.sigma-max only, as TCM's first stage does."""
    sigma_cut: float = 1.0
    """Level t' of tcm from which on the model is trained (TCM, Eq. (5))."""
    boundary_share: float = 0.25
    """Fraction of each noise shard of tcm whose level is the cut, of the boundary loss (TCM, public code)."""
    boundary_weight: float = 0.1
    """Weight w_b of the boundary loss of tcm (TCM, Eq. (6))."""
    t_scale: float = 0.2
    """Scale of log sigma of tcm, which has Student's t distribution from the cut to --method.sigma-max."""
    t_dof: float = 0.01
    """Degrees of freedom of that distribution (TCM, public code)."""

    def __post_init__(self) -> None:
        expect(1 < self.q < math.inf, "tuning.q", "1 < q < infinity (ECT, Eq. (17))", self.q)
        expect(0 <= self.k < math.inf, "tuning.k", "0 <= k < infinity (ECT, Eq. (18))", self.k)
        positive(self, "tuning", "b")
        at_least(1, self, "tuning", "steps_per_stage")
        at_least(0, self, "tuning", "first_stage")
        positive(self, "tuning", "sigma_cut", "boundary_weight", "t_scale", "t_dof")
        ratio = self.largest_ratio
        expect(0 < ratio < 1 - 2**-MOST_BITS or ratio == 1, "tuning.largest_ratio", "0 < ratio < 1, or 1", ratio)
        expect(0 < self.boundary_share < 1, "tuning.boundary_share", "0 < share < 1", self.boundary_share)

    def refuse_equal_levels(self, steps: int) -> None:
        """Reject stages of a run of `steps` updates in which r would round to t.

        Raises:
            ValueError: q^a of the last update is 2^50 or more.
        """
        if self.largest_ratio < 1:
            return
        last = self.first_stage + (steps - 1) // self.steps_per_stage + 1
        fits = last * math.log2(self.q) < MOST_BITS
        advice = "Give a larger --tuning.steps-per-stage."
        expect(fits, "tuning.steps_per_stage", f"stages with q^a < 2^{MOST_BITS}", f"a = {last} at the end", advice)

    def refuse_cut(self, sigma_min: float, sigma_max: float, shard: int) -> None:
        """Reject a cut outside the noise range, and noise shards of `shard` images without one at the cut.

        Raises:
            ValueError: the cut is outside the range, or a shard does not have both kinds of levels.
        """
        inside = sigma_min < self.sigma_cut < sigma_max
        expect(inside, "tuning.sigma_cut", f"{sigma_min} < cut < {sigma_max} (--method.sigma-max)", self.sigma_cut)
        advice = "Give fewer --train.noise-shards."
        fits = 1 <= self.at_cut(shard) < shard
        expect(
            fits,
            "tuning.boundary_share",
            f"noise shards of {self.least_shard} images or more",
            f"shards of {shard}",
            advice,
        )

    @property
    def least_shard(self) -> int:
        """Return the size of the smallest noise shard with an image at the cut and one above it."""
        return math.ceil(1 / self.boundary_share)

    def at_cut(self, shard: int) -> int:
        """Return how many of the `shard` images of a noise shard have the level of the cut."""
        return math.floor(self.boundary_share * shard)
