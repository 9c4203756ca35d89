"""The probability flow ODE, Eq. (1), and the steps that solve it from one noise level to the next."""

from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example

ScoreFunction: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]
]


def probability_flow_drift(
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
    score: ScoreFunction,
) -> Float[Tensor, " batch *event"]:
    """Return dx/dsigma = -sigma score(x, sigma), the score being grad_x log p_sigma(x).

    Source: iCT, Section 2, Eq. (1).

    For a denoiser D it is (x - D(x, sigma)) / sigma, because the score is (D - x) / sigma^2.

    Raises: ValueError if sigma is not one positive, finite value per example.
    """
    _domain.levels(sigma, "iCT Eq. (1)")
    _domain.one_per_example("iCT Eq. (1)", x=x, sigma=sigma)
    return -per_example(sigma, x) * score(x, sigma)


def euler_step(
    x_hi: Float[Tensor, " batch *event"],
    sigma_hi: Float[Tensor, " batch"],
    sigma_lo: Float[Tensor, " batch"],
    score_value: Float[Tensor, " batch *event"],
) -> Float[Tensor, " batch *event"]:
    """Return x_{i+1} - (sigma_i - sigma_{i+1}) sigma_{i+1} score_value, one step of Euler's method down Eq. (1).

    Source: iCT, Section 2, below Eq. (3).

    `score_value` is the score at (x_hi, sigma_hi). The paper has one symbol for this point and for x + sigma_i z of
    consistency training. They agree for a single data point, and otherwise on average only.

    Raises: ValueError if shapes differ, or unless 0 < sigma_lo <= sigma_hi < infinity.
    """
    _check_pair(x_hi, sigma_hi, sigma_lo, "iCT Eq. (3)")
    _domain.same_shape("iCT Eq. (3)", x_hi=x_hi, score_value=score_value)
    return x_hi - per_example((sigma_lo - sigma_hi) * sigma_hi, x_hi) * score_value


def heun_step(
    x_hi: Float[Tensor, " batch *event"],
    sigma_hi: Float[Tensor, " batch"],
    sigma_lo: Float[Tensor, " batch"],
    score: ScoreFunction,
) -> Float[Tensor, " batch *event"]:
    """Return x_{i+1} + (sigma_i - sigma_{i+1}) (d + d') / 2, d and d' the drifts here and at the end of Euler's step.

    Source: EDM, Algorithm 1; CM, Section 6.1.

    The step evaluates the score twice and has an error of third order in the step.

    Raises: ValueError if sigma_lo or sigma_hi is not one value per example, or unless 0 < sigma_lo <= sigma_hi <
    infinity.
    """
    _check_pair(x_hi, sigma_hi, sigma_lo, "EDM Algorithm 1")
    step = per_example(sigma_lo - sigma_hi, x_hi)
    d = probability_flow_drift(x_hi, sigma_hi, score)
    d_end = probability_flow_drift(x_hi + step * d, sigma_lo, score)
    return x_hi + step * (d + d_end) / 2


def _check_pair(
    x_hi: Float[Tensor, " batch *event"],
    sigma_hi: Float[Tensor, " batch"],
    sigma_lo: Float[Tensor, " batch"],
    source: str,
) -> None:
    _domain.one_per_example(source, x_hi=x_hi, sigma_hi=sigma_hi, sigma_lo=sigma_lo)
    _domain.levels(sigma_lo, source, "sigma_lo")
    _domain.levels(sigma_hi, source, "sigma_hi")
    if _domain.looks_at(sigma_lo, sigma_hi) and not bool((sigma_lo <= sigma_hi).all()):
        _domain.refuse(f"sigma_lo <= sigma_hi ({source})", "sigma_lo > sigma_hi", "step from more noise to less")
