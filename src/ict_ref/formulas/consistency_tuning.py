"""Easy consistency tuning (ECT): the lower level of each pair, its stages, the law of the level, and the loss.

ECT has no grid. A level t is drawn from a continuous law; its partner r < t is a function of t and of the stage. The
lowest level is 0, where f(x, 0) = x. Levels are best kept in float64: in float32 the gap t - r loses its digits.
"""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example
from ict_ref.formulas.distance import l2
from ict_ref.formulas.objective import ConsistencyFunction, Distance


def ect_mapping(
    t: Float[Tensor, "*shape"],
    *,
    exponent: int,
    q: float = 2.0,
    k: float = 8.0,
    b: float = 1.0,
) -> Float[Tensor, "*shape"]:
    """Return r = max(0, t (1 - n/q^a)) with n = 1 + k/(1 + exp(b t)).

    Source: ECT, Section 3.3, Eq. (18), and for k = 0 Eq. (17).

    a is `exponent`, the stage plus 1. The defaults are those for CIFAR-10; ImageNet has q = 4. Where r = 0 the target
    of the loss is x. In the first stage that is so up to t = log 7 = 1.95 for q = 2, and log(5/3) = 0.51 for q = 4.

    Raises: ValueError unless 0 < t < infinity, exponent >= 1, q > 1, k >= 0, b > 0, and q^exponent < 1 / (4 eps),
    beyond which r would round to t.

    >>> ect_mapping(torch.tensor([80.0, 1.0]), exponent=1)
    tensor([40.,  0.])
    """
    source = "ECT Eq. (18)"
    _domain.levels(t, source, "t")
    _domain.at_least("exponent", exponent, 1, source)
    _domain.positive("b", b, source)
    if not (math.isfinite(q) and q > 1):
        _domain.refuse(f"1 < q < infinity ({source})", f"q = {q}", "ECT uses 2 and 4")
    if not (math.isfinite(k) and k >= 0):
        _domain.refuse(f"0 <= k < infinity ({source})", f"k = {k}", "ECT uses 8")
    most = 1 / (4 * torch.finfo(t.dtype).eps)
    if not exponent * math.log(q) < math.log(most):
        _domain.refuse(
            f"q^exponent < 1 / (4 eps) in {t.dtype} ({source})",
            f"q = {q}, exponent = {exponent}",
            "give a smaller exponent, or t in float64",
        )
    n = 1 + k * torch.sigmoid(-b * t)
    return (t * (1 - n / q**exponent)).clamp(min=0)


def ect_exponent(step: int, *, steps_per_stage: int) -> int:
    """Return a = floor(k/d) + 1.

    Source: ECT, public code.

    k is `step`, the number of updates made so far; d is `steps_per_stage`, 25 000 in the authors' scripts. The loop of
    the public code, whose first tick has one update, changes a stage one update later: max(1, ceil(k/d)).

    Raises: ValueError unless step >= 0 and steps_per_stage >= 1.

    >>> [ect_exponent(k, steps_per_stage=25_000) for k in (0, 24_999, 25_000)]
    [1, 1, 2]
    """
    _domain.at_least("step", step, 0, "ECT public code")
    _domain.at_least("steps_per_stage", steps_per_stage, 1, "ECT public code")
    return step // steps_per_stage + 1


def lognormal_level(
    u: Float64[Tensor, " batch"],
    *,
    p_mean: float = -1.1,
    p_std: float = 2.0,
    sigma_min: float = 0.0,
    sigma_max: float = math.inf,
) -> Float64[Tensor, " batch"]:
    """Return m exp(P_std Q(A + u (B - A))) with A = Phi(log(sigma_min/m)/P_std), B = Phi(log(sigma_max/m)/P_std).

    Source: ECT, public code; TCM, public code for the cut at sigma_min and sigma_max.

    m is exp(P_mean), Phi the distribution function of a unit normal, and Q its inverse. For u uniform on (0, 1) log
    sigma is normal, cut off outside the range and rescaled: levels outside are not drawn, instead of moved to an end.
    ECT cuts nothing: 0.83 % of its levels on CIFAR-10 lie outside [0.002, 80]. The defaults are those for CIFAR-10;
    ImageNet has -0.8 and 1.6.

    Raises: ValueError unless 0 < u < 1, p_std > 0, 0 <= sigma_min < sigma_max, and the range carries probability.

    >>> lognormal_level(torch.tensor([0.5]).double()).log()
    tensor([-1.1000], dtype=torch.float64)
    """
    source = "ECT public code"
    _domain.finite("p_mean", p_mean, source)
    _domain.positive("p_std", p_std, source)
    if not 0 <= sigma_min < sigma_max:
        _domain.refuse(
            f"0 <= sigma_min < sigma_max ({source})",
            f"sigma_min = {sigma_min}, sigma_max = {sigma_max}",
            "give levels in this order",
        )
    between_0_and_1(u, source)
    low = (math.log(sigma_min) - p_mean) / p_std if sigma_min > 0 else -math.inf
    high = (math.log(sigma_max) - p_mean) / p_std
    # Above the mean both ends are counted from above: there 1 - Phi keeps the digits that Phi loses.
    sign = -1 if low + high > 0 else 1
    near, far = _normal_cdf(sign * low), _normal_cdf(sign * high)
    if not abs(far - near) > 0:
        _domain.refuse(
            f"levels where the lognormal density is not zero ({source})",
            f"p_mean = {p_mean}, p_std = {p_std} for sigma_min = {sigma_min}, sigma_max = {sigma_max}",
            "move p_mean towards the logarithm of the levels, or widen p_std",
        )
    z: Tensor = sign * torch.special.ndtri(near + u * (far - near))
    return (p_mean + p_std * z).exp()


def gap_weights(t: Float[Tensor, "*shape"], r: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return w = 1/(t - r).

    Source: ECT, public code for CIFAR-10.

    It is `inverse_gap_weights` of a pair of levels. In the last stages it needs levels in float64.

    Raises: ValueError unless t and r have one shape and 0 <= r < t < infinity.
    """
    _in_order(t, r, "ECT public code")
    return 1 / (t - r)


def snr_weights(t: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """Return w = 1/t^2 + 1/sigma_data^2.

    Source: ECT, public code for ImageNet; TCM, public code.

    It is 1 / c_out(t)^2 for sigma_min = 0: EDM's weight of the denoising loss. It falls to 1 / sigma_data^2.

    Raises: ValueError if t or sigma_data is not positive and finite.

    >>> snr_weights(torch.tensor([0.5, 1.0]))
    tensor([8., 5.])
    """
    _domain.levels(t, "ECT public code", "t")
    _domain.positive("sigma_data", sigma_data, "ECT public code")
    # As a tensor the square of a tiny sigma_data gives infinity, as that of a tiny t does.
    return 1 / t**2 + 1 / t.new_full((), sigma_data) ** 2


def adaptive_weights(
    x: Float[Tensor, " batch *event"],
    y: Float[Tensor, " batch *event"],
    *,
    c: float = 0.06,
    p: float = 0.5,
) -> Float[Tensor, " batch"]:
    """Return w = 1/(||x - y||_2^2 + c^2)^p, one value per example, without gradient.

    Source: ECT, Eq. (19).

    The paper's epsilon is c^2 here, as the public code has it. With p = 1/2 the gradient of w times `squared_l2` is
    twice that of `pseudo_huber`.

    Raises: ValueError if x and y do not have one shape, if c is not positive, or unless 0 <= p < infinity.
    """
    _domain.positive("c", c, "ECT Eq. (19)")
    if not (math.isfinite(p) and p >= 0):
        _domain.refuse("0 <= p < infinity (ECT Eq. (19))", f"p = {p}", "the public code uses 1/2")
    _domain.same_shape("ECT Eq. (19)", x=x, y=y)
    # The square root of the sum in brackets: c^2 overflows where its root does not.
    root = torch.hypot(l2(x, y), x.new_full((), c))
    return root.pow(-2 * p).detach()


def consistency_tuning_loss(
    student: ConsistencyFunction,
    teacher: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    r: Float[Tensor, " batch"],
    *,
    distance: Distance,
    weights: Float[Tensor, " batch"],
) -> Float[Tensor, " batch"]:
    """Return w d(f_theta(x + t z, t), f_theta-(x + r z, r)), one value per example.

    Source: ECT, Eq. (12).

    `weights` is w of each example. Both calls get the same x and the same z, and need the same dropout masks. The
    teacher does not receive a gradient. Where r = 0 the target is x itself, and the teacher is not called at level 0,
    at which c_noise is not finite: it is called at t, and its value is not used. Levels and weights are rounded to the
    dtype of x.

    Raises: ValueError if shapes differ, unless 0 <= r < t < infinity, or if a weight is not positive and finite.
    """
    source = "ECT Eq. (12)"
    _domain.same_shape(source, x=x, z=z)
    _domain.one_per_example(source, x=x, t=t, r=r, weights=weights)
    _in_order(t, r, source)
    _domain.all_positive("weights", weights, source, "give one positive weight per example")
    t, r = t.to(x), r.to(x)
    student_value = student(x + per_example(t, x) * z, t)
    with torch.no_grad():
        teacher_value = teacher(x + per_example(r, x) * z, torch.where(r > 0, r, t))
    d = distance(student_value, torch.where(per_example(r, x) > 0, teacher_value.detach(), x))
    return weights.to(d) * d


def _in_order(t: Float[Tensor, "..."], r: Float[Tensor, "..."], source: str) -> None:
    """Reject pairs of levels that do not satisfy 0 <= r < t < infinity."""
    if t.shape != r.shape:
        _domain.refuse(f"t and r of one shape ({source})", f"t {list(t.shape)}, r {list(r.shape)}", "give pairs")
    wrong = ~((r >= 0) & (r < t) & t.isfinite())
    if _domain.looks_at(t, r) and bool(wrong.any()):
        _domain.refuse(
            f"0 <= r < t < infinity ({source})",
            f"t = {float(t[wrong].flatten()[0])}, r = {float(r[wrong].flatten()[0])}",
            "take r from ect_mapping(t)",
        )


def between_0_and_1(u: Float64[Tensor, "..."], source: str) -> None:
    """Reject probabilities outside (0, 1)."""
    if _domain.looks_at(u) and not bool(((u > 0) & (u < 1)).all()):
        worst = u[~((u > 0) & (u < 1))].flatten()[0]
        _domain.refuse(f"0 < u < 1 ({source})", f"u = {float(worst)}", "draw u uniformly from (0, 1)")


def _normal_cdf(z: float) -> float:
    """Return Phi(z)."""
    return math.erfc(-z / math.sqrt(2)) / 2
