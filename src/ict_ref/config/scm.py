"""The options of continuous-time consistency training in TrigFlow's variables."""

import math
from dataclasses import dataclass

from ict_ref.config.validate import LARGEST, at_least, expect, positive, rounded

DEVIATIONS = 8
"""Standard deviations of log sigma whose times must be representable: a draw beyond has a probability of 1e-15."""


@dataclass(frozen=True, kw_only=True)
class Scm:
    """Continuous-time consistency training, --method.objective scm: a tangent for each example (sCM, Algorithm 1)."""

    warmup_steps: int = 10_000
    """Updates H of the tangent warm-up r = min(1, step / H). At r = 0 an update is diffusion training (sCM, Section
    4.2)."""
    tangent_c: float = 0.1
    """Constant c of the normalised tangent g / (||g|| + c), the norm over each whole example (sCM, Section 4.2)."""
    adaptive_weighting: bool = True
    """Train the log weight w(t) of an example by a small network of its own, which is kept in the checkpoints (sCM,
    Eq. (8)). --scm.no-adaptive-weighting: w = 0."""

    def __post_init__(self) -> None:
        at_least(1, self, "scm", "warmup_steps")
        positive(self, "scm", "tangent_c")

    def refuse_times(self, p_mean: float, p_std: float, sigma_data: float, dtype: str) -> None:
        """Reject a law of log sigma with times t = atan(sigma / sigma_data) that a dtype rounds to 0 or to pi/2.

        Raises:
            ValueError: a time is outside (0, pi/2).
        """
        low, high = (rounded(_time(p_mean + n * p_std, sigma_data), dtype) for n in (-DEVIATIONS, DEVIATIONS))
        law = "0 < t < pi/2 within 8 standard deviations of log sigma (sCM, Appendix C.2)"
        got = f"p_mean {p_mean} and p_std {p_std}, with times from {low:.3g} to {high:.9g} in {dtype}"
        expect(low > 0 and high < math.pi / 2, "method.p_std", law, got, "sCM's are -1.0 and 1.4.")


def _time(log_sigma: float, sigma_data: float) -> float:
    """Return atan(sigma / sigma_data) of a finite logarithm."""
    largest = math.log(LARGEST["float64"])
    return math.atan2(math.exp(min(max(log_sigma, -largest), largest)), sigma_data)
