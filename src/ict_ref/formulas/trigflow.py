"""TrigFlow and continuous-time consistency training (sCM): path, parameterization, tangent, loss, sampler.

The noise level is an angle t in [0, pi/2]: x_t = cos(t) x0 + sin(t) z, z ~ N(0, sigma_data^2 I). It is the x_sigma of
the other papers times cos(t), sigma = sigma_data tan(t). f(x, 0) = x, so the lowest level is 0.

z has the standard deviation sigma_data, not 1. The network is F(x/sigma_data, t): its second input is the angle.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example
from ict_ref.formulas.objective import ConsistencyFunction

Network: TypeAlias = Callable[[Float[Tensor, " batch *event"], Float[Tensor, " batch"]], Float[Tensor, " batch *event"]]
HALF_TURN = math.pi / 2


def trigflow_time(sigma: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """Return t = atan(sigma/sigma_data).

    Source: sCM, Eq. (29).

    x_t is cos(t) times the example at level sigma. Near pi/2 cos(t) has few digits in float32: there use sigma_data /
    hypot(sigma_data, sigma).

    Raises: ValueError unless 0 <= sigma < infinity and sigma_data is positive.

    >>> trigflow_time(torch.tensor([0.0, 0.5]))
    tensor([0.0000, 0.7854])
    """
    _domain.positive("sigma_data", sigma_data, "sCM Eq. (29)")
    if _domain.looks_at(sigma) and not bool(((sigma >= 0) & sigma.isfinite()).all()):
        worst = sigma[~((sigma >= 0) & sigma.isfinite())].flatten()[0]
        _domain.refuse("0 <= sigma < infinity (sCM Eq. (29))", f"sigma = {float(worst)}", "give noise levels")
    return torch.atan2(sigma, sigma.new_full((), sigma_data))


def trigflow_level(t: Float[Tensor, "*shape"], *, sigma_data: float = 0.5) -> Float[Tensor, "*shape"]:
    """Return sigma = sigma_data tan(t).

    Source: sCM, Eq. (30).

    Raises: ValueError unless 0 <= t < pi/2 and sigma_data is positive.
    """
    _domain.positive("sigma_data", sigma_data, "sCM Eq. (30)")
    _times("t", t, "sCM Eq. (30)", has_0=True)
    return sigma_data * t.tan()


def trigflow_interpolant(
    x0: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
) -> Float[Tensor, " batch *event"]:
    """Return x = cos(t) x0 + sin(t) z.

    Source: sCM, Section 3.

    z has the standard deviation sigma_data.

    Raises: ValueError if shapes differ, or unless 0 <= t <= pi/2.
    """
    _check_path("sCM Section 3", t, x0=x0, z=z)
    t = per_example(t.to(x0), x0)
    return t.cos() * x0 + t.sin() * z


def trigflow_velocity(
    x0: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
) -> Float[Tensor, " batch *event"]:
    """Return v = cos(t) z - sin(t) x0.

    Source: sCM, Section 3, Eq. (4).

    It is dx/dt of `trigflow_interpolant`, and what sigma_data F learns in TrigFlow's diffusion training.

    Raises: ValueError if shapes differ, or unless 0 <= t <= pi/2.
    """
    _check_path("sCM Eq. (4)", t, x0=x0, z=z)
    t = per_example(t.to(x0), x0)
    return t.cos() * z - t.sin() * x0


def trigflow_step(
    x: Float[Tensor, " batch *event"],
    velocity: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    t_low: Float[Tensor, " batch"],
) -> Float[Tensor, " batch *event"]:
    """Return x' = cos(t - t') x - sin(t - t') v.

    Source: sCM, Eq. (26).

    t' is `t_low`, v is `velocity` at t. It is exact where v is that of one pair (x0, z): a rotation back by t - t'. The
    paper prints x_t for x on the right side.

    Raises: ValueError if shapes differ, or unless 0 <= t' <= t <= pi/2.
    """
    source = "sCM Eq. (26)"
    _check_path(source, t, x=x, velocity=velocity)
    _domain.one_per_example(source, x=x, t_low=t_low)
    _lower(t_low, t, source, is_strict=False)
    gap = per_example((t - t_low).to(x), x)
    return gap.cos() * x - gap.sin() * velocity


def trigflow_parameterization(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    *,
    sigma_data: float = 0.5,
) -> Float[Tensor, " batch *event"]:
    """Return f(x, t) = cos(t) x - sin(t) sigma_data F(x/sigma_data, t), F being `network`.

    Source: sCM, Eq. (5).

    At t = 0 it is x, bit for bit (except that -0 becomes 0), for all finite values of F. F has the opposite sign of
    CM's and EDM's network. It is CM's parameterization of sigma_min = 0 in x_sigma = x / cos(t).

    Raises: ValueError if t is not one value per example, unless 0 <= t <= pi/2, or if sigma_data is not positive.
    """
    source = "sCM Eq. (5)"
    _domain.positive("sigma_data", sigma_data, source)
    _domain.one_per_example(source, x=x, t=t)
    _times("t", t, source, has_0=True, has_end=True)
    t = t.to(x)
    angle = per_example(t, x)
    return angle.cos() * x - angle.sin() * (sigma_data * network(x / sigma_data, t))


def trigflow_tangent(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
    *,
    sigma_data: float = 0.5,
    warmup: float = 1.0,
) -> tuple[Float[Tensor, " batch *event"], Float[Tensor, " batch *event"]]:
    """Return F and g = -cos(t)^2 (sigma_data F - v) - r cos(t) sin(t) (x + sigma_data dF/dt), at (x/sigma_data, t).

    Source: sCM, Eq. (6) times cos(t); Algorithm 1.

    F has a gradient, g has none. r is `warmup`, v is `velocity`, the dx/dt of the path: of training data or of a
    teacher. dF/dt is along this path. For r = 1 g is cos(t) df/dt; for r = 0 it is the negative gradient of TrigFlow's
    diffusion training, up to a factor.

    The network is called in forward mode without gradient, then for its value: it must be the same function both times.
    Section 5.1 prints the derivative along (cos sin v, cos sin sigma_data) without its factor sigma_data.

    Raises: ValueError if shapes differ, unless 0 < t < pi/2 and 0 <= warmup <= 1, or if sigma_data is not positive.
    """
    source = "sCM Eq. (6)"
    _check_path(source, t, x=x, velocity=velocity)
    _check_tangent(t, sigma_data, warmup, source)
    t = t.to(x)
    angle = per_example(t, x)
    cos, sin = angle.cos(), angle.sin()
    rate = sigma_data * (t.cos() * t.sin())
    # Near pi/2 dF/dt is large and its factors are small: the product of them is differentiated.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        scaled: Tensor = torch.func.jvp(network, (x / sigma_data, t), (cos * sin * velocity, rate))[1]
    value = network(x / sigma_data, t)
    diffusion = cos**2 * (sigma_data * value.detach() - velocity)
    return value, (-diffusion - warmup * (cos * sin * x + scaled)).detach()


def trigflow_difference(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    t_low: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
    *,
    sigma_data: float = 0.5,
    warmup: float = 1.0,
) -> Float[Tensor, " batch *event"]:
    """Return -cos(t') (sigma_data F - v) - r sin(t') (x + sigma_data (cos(h) F - F')/sin(h)) with h = t - t'.

    Source: sCM, Eq. (37).

    F is at t and F' at the end of `trigflow_step` to t', which is `t_low`. For r = 1 it is (f(x, t) - f(x', t')) /
    sin(t - t'). cos(t) times it is the tangent of discrete time, Eq. (39): it goes to `trigflow_tangent` for t' to t.

    Raises: ValueError if shapes differ, unless 0 <= t' < t < pi/2, 0 <= warmup <= 1 and sigma_data > 0.
    """
    source = "sCM Eq. (37)"
    _check_path(source, t, x=x, velocity=velocity)
    _check_tangent(t, sigma_data, warmup, source)
    _domain.one_per_example(source, x=x, t_low=t_low)
    _lower(t_low, t, source, is_strict=True)
    gap, angle = per_example((t - t_low).to(x), x), per_example(t_low.to(x), x)
    lower = trigflow_step(x, velocity, t, t_low)
    with torch.no_grad():
        value, value_low = network(x / sigma_data, t.to(x)), network(lower / sigma_data, t_low.to(x))
    change = sigma_data * (gap.cos() * value - value_low) / gap.sin()
    return (-angle.cos() * (sigma_data * value - velocity) - warmup * angle.sin() * (x + change)).detach()


def tangent_warmup(step: int, *, warmup_steps: int = 10_000) -> float:
    """Return r = min(1, k/H).

    Source: sCM, Algorithm 1.

    k is `step`, the number of updates made so far; H is `warmup_steps`.

    Raises: ValueError unless step >= 0 and warmup_steps >= 1.

    >>> tangent_warmup(5000)
    0.5
    """
    _domain.at_least("step", step, 0, "sCM Algorithm 1")
    _domain.at_least("warmup_steps", warmup_steps, 1, "sCM Algorithm 1")
    return min(1.0, step / warmup_steps)


def normalized_tangent(g: Float[Tensor, " batch *event"], *, c: float = 0.1) -> Float[Tensor, " batch *event"]:
    """Return g/(||g||_2 + c), the norm over each whole example.

    Source: sCM, Algorithm 1.

    Its norm is below 1. With the root mean square in place of the norm, as some public code has it, c would be sqrt(d)
    times larger in effect.

    Raises: ValueError if g has no batch axis, or if c is not positive.
    """
    _domain.positive("c", c, "sCM Algorithm 1")
    _domain.same_shape("sCM Algorithm 1", g=g)
    norm = torch.linalg.vector_norm(g.reshape(len(g), -1), dim=1)
    return g / (per_example(norm, g) + c)


def adaptive_weighting(
    squared_norm: Float[Tensor, " batch"], log_weight: Float[Tensor, " batch"], *, dim: int
) -> Float[Tensor, " batch"]:
    """Return exp(w) s/d - w.

    Source: sCM, Eq. (8).

    s is `squared_norm`, the squared error of an example of d values, and w is `log_weight`, minus the log variance that
    the weighting network returns. It is least for w = -log(s/d), where it is 1 + log(s/d).

    Both are outputs of networks: what is not finite among them propagates.

    Raises: ValueError if shapes differ, unless dim >= 1, or if squared_norm is negative.
    """
    source = "sCM Eq. (8)"
    _domain.at_least("dim", dim, 1, source)
    _domain.same_shape(source, squared_norm=squared_norm, log_weight=log_weight)
    if _domain.looks_at(squared_norm) and bool((squared_norm < 0).any()):
        _domain.refuse(
            f"squared_norm >= 0 ({source})", f"squared_norm = {float(squared_norm.min())}", "give a sum of squares"
        )
    return log_weight.exp() * squared_norm / dim - log_weight


def scm_loss(
    network: Network,
    x: Float[Tensor, " batch *event"],
    t: Float[Tensor, " batch"],
    velocity: Float[Tensor, " batch *event"],
    log_weight: Float[Tensor, " batch"],
    *,
    c: float = 0.1,
    warmup: float = 1.0,
    sigma_data: float = 0.5,
) -> Float[Tensor, " batch"]:
    """Return exp(w)/d ||F_theta - F_theta- - g/(||g||_2 + c)||_2^2 - w, g being `trigflow_tangent`.

    Source: sCM, Eq. (8); Algorithm 1.

    Return one value per example. F_theta- is F_theta without gradient, so the first difference is 0 in value, and the
    gradient in F_theta is -2 exp(w)/d times the normalised tangent. w is `log_weight`, which has a gradient.
    It is the output of a network: what is not finite in it propagates.

    Raises: ValueError as in `trigflow_tangent`, `normalized_tangent` and `adaptive_weighting`.
    """
    _domain.one_per_example("sCM Eq. (8)", x=x, log_weight=log_weight)
    value, tangent = trigflow_tangent(network, x, t, velocity, sigma_data=sigma_data, warmup=warmup)
    error = (value - value.detach() - normalized_tangent(tangent, c=c)).reshape(len(x), -1)
    return adaptive_weighting(error.square().sum(1), log_weight, dim=error.shape[1])


def trigflow_time_density(
    t: Float[Tensor, "*shape"],
    *,
    p_mean: float = -1.0,
    p_std: float = 1.4,
    sigma_data: float = 0.5,
) -> Float[Tensor, "*shape"]:
    """Return p(t) = exp(-(log(sigma_data tan(t)) - P_mean)^2/(2 P_std^2))/(sqrt(2 pi) P_std sin(t) cos(t)).

    Source: sCM, Appendix C.2; Algorithm 1.

    log(sigma_data tan t) is normal; draws are `trigflow_time` of `lognormal_level`. Section 4.2 prints exp(sigma_data
    tan t) for it. The defaults are those for CIFAR-10; ImageNet has P_std = 1.6. The law has no cut at sigma = 80.

    Raises: ValueError unless 0 < t < pi/2, p_std and sigma_data are positive, and p_mean is finite.
    """
    source = "sCM Appendix C.2"
    _domain.finite("p_mean", p_mean, source)
    _domain.positive("p_std", p_std, source)
    _domain.positive("sigma_data", sigma_data, source)
    _times("t", t, source)
    z = (math.log(sigma_data) + t.tan().log() - p_mean) / p_std
    # The product of the divisors may underflow to 0, and 0/0 is a NaN.
    return torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi) / p_std / t.sin() / t.cos()


def trigflow_sample(
    f: ConsistencyFunction,
    noises: Float[Tensor, " levels batch *event"],
    times: Float64[Tensor, " levels"],
) -> Float[Tensor, " batch *event"]:
    """Return the last x of: x = f(sin(t_1) z_1, t_1); x = f(cos(t_k) x + sin(t_k) z_k, t_k), k > 1.

    Source: sCM, CM's Algorithm 1 in TrigFlow's variables.

    `times` descends. `noises[k]` has the standard deviation sigma_data. Public code starts from z_1 itself.

    Raises: ValueError unless pi/2 >= times[0] > times[1] > ... > 0 and `noises` has one batch for each of them.
    """
    source = "CM Algorithm 1"
    if noises.ndim < 2 or not 0 < len(noises) == len(times):
        _domain.refuse(
            f"noises [levels, batch, ...], one batch for each of times ({source})",
            f"noises {list(noises.shape)} for {len(times)} times",
            "give one batch of noise for each",
        )
    _times("times", times, source, has_end=True)
    if _domain.looks_at(times) and not bool((times[1:] < times[:-1]).all()):
        _domain.refuse(f"times that descend ({source})", f"times = {times.tolist()}", "list the latest time first")
    x = torch.zeros_like(noises[0])
    for t, z in zip(times.tolist(), noises, strict=True):
        x = f(math.cos(t) * x + math.sin(t) * z, x.new_full((len(x),), t))
    return x


def _times(symbol: str, t: Float[Tensor, "..."], source: str, *, has_0: bool = False, has_end: bool = False) -> None:
    """Reject angles outside the range from 0 to pi/2, whose ends belong to it or do not."""
    is_right = ((t >= 0) if has_0 else (t > 0)) & ((t <= HALF_TURN) if has_end else (t < HALF_TURN))
    if _domain.looks_at(t) and not bool(is_right.all()):
        low, high = "<=" if has_0 else "<", "<=" if has_end else "<"
        _domain.refuse(
            f"0 {low} {symbol} {high} pi/2 ({source})",
            f"{symbol} = {float(t[~is_right].flatten()[0])}",
            "an angle is trigflow_time(sigma)",
        )


def _check_path(source: str, t: Float[Tensor, "..."], **examples: Float[Tensor, "..."]) -> None:
    """Reject examples of different shapes, and angles that are not one in [0, pi/2] for each of them."""
    _domain.same_shape(source, **examples)
    symbol, first = next(iter(examples.items()))
    _domain.one_per_example(source, **{symbol: first, "t": t})
    _times("t", t, source, has_0=True, has_end=True)


def _check_tangent(t: Float[Tensor, "..."], sigma_data: float, warmup: float, source: str) -> None:
    _domain.positive("sigma_data", sigma_data, source)
    _times("t", t, source)
    if not 0 <= warmup <= 1:
        _domain.refuse(f"0 <= warmup <= 1 ({source})", f"warmup = {warmup}", "give tangent_warmup(step)")


def _lower(t_low: Float[Tensor, "..."], t: Float[Tensor, "..."], source: str, *, is_strict: bool) -> None:
    """Reject angles t' that are negative or not below t."""
    is_right = (t_low >= 0) & ((t_low < t) if is_strict else (t_low <= t))
    if _domain.looks_at(t_low, t) and not bool(is_right.all()):
        _domain.refuse(
            f"0 <= t_low {'<' if is_strict else '<='} t ({source})",
            f"t_low = {float(t_low[~is_right].flatten()[0])}, t = {float(t[~is_right].flatten()[0])}",
            "the step goes down",
        )
