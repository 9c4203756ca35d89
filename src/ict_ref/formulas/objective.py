"""The training losses, and the average of parameters over updates.

Losses are one value per example. The caller takes the mean over the batch, because only the caller has the whole batch.
Student and teacher are consistency functions (x, sigma) -> x, with one sigma per example.
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

    Return one value per example. With the score of the noisy data this is consistency matching, which is rarely
    available; with a learned score it is consistency distillation. `x_hi` is x_{i+1}, at the upper level of the 0-based
    interval `index`. The teacher and the score do not receive a gradient.

    Raises: ValueError if shapes differ, or if index, sigmas or weights are not those of one ascending grid.
    """
    source = "iCT Eq. (3)"
    _domain.one_per_example(source, x_hi=x_hi, index=index)
    _check_intervals(index, sigmas, weights, source)
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

    Return one value per example. `index` is the 0-based interval, i - 1. Both calls get the same x and the same z. The
    student has the larger noise level, and the teacher does not receive a gradient. Noise levels and weights are looked
    up in float64, then rounded to the dtype of x.

    Raises: ValueError if shapes differ, or if index, sigmas or weights are not those of one ascending grid.

    >>> from ict_ref.formulas import inverse_gap_weights, sigma_grid, squared_l2
    >>> sigmas = sigma_grid(3, sigma_min=1.0, sigma_max=3.0, rho=1.0)
    >>> f = lambda x, sigma: x / sigma[:, None]
    >>> x, z, index = torch.ones(2, 1), torch.zeros(2, 1), torch.tensor([0, 1])
    >>> weights = inverse_gap_weights(sigmas)
    >>> consistency_training_loss(f, f, x, z, index, sigmas, distance=squared_l2, weights=weights)
    tensor([0.2500, 0.0278])
    """
    source = "iCT Eq. (5)"
    _domain.same_shape(source, x=x, z=z)
    _domain.one_per_example(source, x=x, index=index)
    _check_intervals(index, sigmas, weights, source)
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

    `ema` comes first. The function does not change its arguments. `decay` is mu for the teacher; for the student's EMA
    weights it is the EMA decay rate of Appendix B.

    Raises: ValueError if the shapes differ, or unless 0 <= decay < 1.

    >>> ema_update(torch.tensor([1.0]), torch.tensor([0.0]), decay=0.75)
    tensor([0.7500])
    """
    if not 0 <= decay < 1:
        _domain.refuse("0 <= decay < 1 (iCT Eq. (4))", f"decay = {decay}", "give the weight of the old EMA weights")
    if ema.shape != value.shape:
        _domain.refuse(
            "ema and value of one shape (iCT Eq. (4))",
            f"ema {list(ema.shape)}, value {list(value.shape)}",
            "average each parameter with itself",
        )
    return (decay * ema + (1 - decay) * value).detach()


def _check_intervals(
    index: Int64[Tensor, " batch"],
    sigmas: Float64[Tensor, " n"],
    weights: Float64[Tensor, " intervals"],
    source: str,
) -> None:
    _domain.ascending(sigmas, source)
    if weights.shape != sigmas[1:].shape:
        _domain.refuse(
            f"weights with one value per interval, {len(sigmas) - 1} ({source})",
            f"weights {list(weights.shape)}",
            "take them from the same grid",
        )
    _domain.all_positive("weights", weights, f"{source}: lambda(sigma) > 0", "give positive, finite weights")
    if _domain.looks_at(index) and not bool(((index >= 0) & (index < len(weights))).all()):
        _domain.refuse(
            f"0 <= index < {len(weights)}, an interval of sigmas ({source})",
            f"index from {int(index.min())} to {int(index.max())}",
            "count intervals from 0: the paper's i - 1",
        )
