"""What training minimises, and how parameters are averaged.

Losses are one value per example: the mean over the batch is the caller's, because only the caller knows the whole
batch. Student and teacher are consistency functions (x, sigma) -> x, with one sigma per example.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example
from ict_ref.formulas.ode import ScoreFunction, euler_step

ConsistencyFunction: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]
]
Distance: TypeAlias = Callable[
    [Float[Tensor, " batch *event"], Float[Tensor, " batch *event"]], Float[Tensor, " batch"]
]


def consistency_matching_loss(
    student: ConsistencyFunction,
    teacher: ConsistencyFunction,
    score: ScoreFunction,
    x_hi: Float[Tensor, " batch *event"],
    index: Int64[Tensor, " batch"],
    sigmas: Float64[Tensor, " n"],
    *,
    distance: Distance,
    weights: Float64[Tensor, " n-1"],
) -> Float[Tensor, " batch"]:
    """Return lambda(sigma_i) d(f_theta(x_{i+1}, sigma_{i+1}), f_theta-(x_i, sigma_i)), x_i Euler's from x_{i+1}.

    Source: iCT, Section 2, Eq. (3).

    One value per example. With the score of the noisy data it is consistency matching, which needs what nobody has;
    with a learned score it is consistency distillation. `x_hi` is x_{i+1}, at the larger level of the 0-based cell
    `index`. No gradient passes through the teacher or the score.
    """
    source = "iCT Eq. (3)"
    _domain.one_per_example(source, x_hi=x_hi, index=index)
    _check_cells(index, sigmas, weights, source)
    sigma_lo, sigma_hi = sigmas[index].to(x_hi), sigmas[index + 1].to(x_hi)
    student_value = student(x_hi, sigma_hi)
    with torch.no_grad():
        x_lo = euler_step(x_hi, sigma_hi, sigma_lo, score(x_hi, sigma_hi))
        teacher_value = teacher(x_lo, sigma_lo)
    d = distance(student_value, teacher_value.detach())
    return weights[index].to(d) * d


def consistency_training_loss(
    student: ConsistencyFunction,
    teacher: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    index: Int64[Tensor, " batch"],
    sigmas: Float64[Tensor, " n"],
    *,
    distance: Distance,
    weights: Float64[Tensor, " n-1"],
) -> Float[Tensor, " batch"]:
    """Return lambda(sigma_i) d(f_theta(x + sigma_{i+1} z, sigma_{i+1}), f_theta-(x + sigma_i z, sigma_i)).

    Source: iCT, Section 2, Eq. (5).

    One value per example. `index` is the 0-based cell, i - 1. Both calls get the same x and the same z; the student
    has the larger noise level; no gradient passes through the teacher. Levels and weights are looked up in float64
    and rounded to the dtype of x last.
    """
    source = "iCT Eq. (5)"
    _domain.same_shape(source, x=x, z=z)
    _domain.one_per_example(source, x=x, index=index)
    _check_cells(index, sigmas, weights, source)
    sigma_lo, sigma_hi = sigmas[index].to(x), sigmas[index + 1].to(x)
    student_value = student(x + per_example(sigma_hi, x) * z, sigma_hi)
    with torch.no_grad():
        teacher_value = teacher(x + per_example(sigma_lo, x) * z, sigma_lo)
    d = distance(student_value, teacher_value.detach())
    return weights[index].to(d) * d


def ema_update(
    ema: Float[Tensor, "*shape"],
    value: Float[Tensor, "*shape"],
    *,
    decay: float,
) -> Float[Tensor, "*shape"]:
    """Return decay ema + (1 - decay) value, without gradient.

    Source: iCT, Section 2, Eq. (4).

    `ema` comes first; neither argument is changed. `decay` is mu for the teacher, and for the student's EMA weights at
    inference the EMA decay rate of Appendix B. Needs 0 <= decay < 1.
    """
    if not 0 <= decay < 1:
        _domain.refuse("0 <= decay < 1 (iCT Eq. (4))", f"decay = {decay}", "decay is the weight of the old ema")
    if ema.shape != value.shape:
        _domain.refuse(
            "ema and value of one shape (iCT Eq. (4))",
            f"ema {list(ema.shape)}, value {list(value.shape)}",
            "average each parameter with itself",
        )
    return (decay * ema + (1 - decay) * value).detach()


def _check_cells(
    index: Int64[Tensor, " batch"],
    sigmas: Float64[Tensor, " n"],
    weights: Float64[Tensor, " cells"],
    source: str,
) -> None:
    _domain.ascending(sigmas, source)
    if weights.shape != sigmas[1:].shape:
        _domain.refuse(
            f"weights with one value per cell, {len(sigmas) - 1} ({source})",
            f"weights {list(weights.shape)}",
            "take them from the same grid",
        )
    _domain.all_positive("weights", weights, f"{source}: lambda(sigma) > 0", "give positive, finite weights")
    if _domain.looks_at(index) and not bool(((index >= 0) & (index < len(weights))).all()):
        _domain.refuse(
            f"0 <= index < {len(weights)}, a cell of sigmas ({source})",
            f"index from {int(index.min())} to {int(index.max())}",
            "count cells from 0: the paper's i - 1",
        )
