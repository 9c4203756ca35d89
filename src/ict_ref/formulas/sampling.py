"""Sampling with a consistency function, in one step or in several, and the search for its noise levels."""

import functools
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas.objective import ConsistencyFunction


def one_step_sample(
    f: ConsistencyFunction,
    z: Float[Tensor, " batch *event"],
    *,
    sigma_max: float = 80.0,
) -> Float[Tensor, " batch *event"]:
    """Return x = f(sigma_max z, sigma_max), z a unit normal.

    Source: iCT, Section 2; CM, Algorithm 1.

    The result is not clipped.

    Raises: ValueError if sigma_max is not positive and finite, or if z has no batch axis.
    """
    _domain.positive("sigma_max", sigma_max, "iCT Section 2")
    _domain.same_shape("iCT Section 2", z=z)
    return f(sigma_max * z, z.new_full((len(z),), sigma_max))


def renoise(
    x: Float[Tensor, " batch *event"],
    z: Float[Tensor, " batch *event"],
    *,
    sigma: float,
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Return x + sqrt(sigma^2 - sigma_min^2) z, the sample x of level sigma_min taken up to level sigma again.

    Source: iCT, Section 2; CM, Algorithm 1.

    It is not x + sigma z: x has noise of level sigma_min already, and variances add.

    Raises: ValueError if shapes differ, or unless 0 < sigma_min <= sigma < infinity.
    """
    _domain.same_shape("CM Algorithm 1", x=x, z=z)
    _domain.positive("sigma_min", sigma_min, "iCT Section 2")
    if not sigma_min <= sigma < math.inf:
        _domain.refuse(
            f"sigma_min <= sigma < infinity (CM Algorithm 1), sigma_min = {sigma_min}",
            f"sigma = {sigma}",
            "give a level of sigma_min or more",
        )
    # The difference of squares is written as a product: it keeps its digits near sigma_min and cannot overflow.
    return x + math.sqrt(sigma - sigma_min) * math.sqrt(sigma + sigma_min) * z


def multistep_sample(
    f: ConsistencyFunction,
    noises: Float[Tensor, " levels batch *event"],
    sigmas: Float64[Tensor, " levels"],
    *,
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Return the last x of: x = f(sigma_1 z_1, sigma_1); x = f(x + sqrt(sigma_k^2 - sigma_min^2) z_k, sigma_k), k > 1.

    Source: iCT, Section 2; CM, Algorithm 1.

    Here noise levels *descend*: `sigmas[0]` is sigma_max, and every level costs one evaluation of f. `noises[k]` is the
    unit normal of level k. The paper's K = 3 is two levels: its last index adds noise of level sigma_min, whose factor
    is exactly 0. The result is not clipped.

    Raises: ValueError unless sigmas[0] > sigmas[1] > ... >= sigma_min > 0 and `noises` has one batch for each of them.

    >>> from ict_ref.formulas import delta_consistency_function
    >>> f = functools.partial(delta_consistency_function, xi=torch.tensor([1.0, 2.0]))
    >>> noises, sigmas = torch.ones(2, 1, 2), torch.tensor([80.0, 0.8], dtype=torch.float64)
    >>> multistep_sample(f, noises, sigmas).round(decimals=2)
    tensor([[1., 2.]])
    """
    _domain.descending(sigmas, sigma_min, "CM Algorithm 1")
    _domain.one_per_level("CM Algorithm 1", noises, sigmas)
    return descend(f, torch.zeros_like(noises[0]), noises, sigmas, sigma_min=sigma_min)


def descend(
    f: ConsistencyFunction,
    start: Float[Tensor, " batch *event"],
    noises: Float[Tensor, " levels batch *event"],
    sigmas: Float64[Tensor, " levels"],
    *,
    sigma_min: float,
    keep: Callable[[Float[Tensor, " batch *event"]], Float[Tensor, " batch *event"]] = lambda x: x,
) -> Float[Tensor, " batch *event"]:
    """Return the last x of: x = keep(f(start + sigma_1 z_1, sigma_1)); x = keep(f(renoise(x, z_k), sigma_k)).

    Sampling and editing share this loop: sampling starts from 0, and only editing uses `keep`.
    """

    def f_at(x: Float[Tensor, " batch *event"], sigma: float) -> Float[Tensor, " batch *event"]:
        return keep(f(x, x.new_full((len(x),), sigma)))

    levels = sigmas.tolist()
    x = f_at(start + levels[0] * noises[0], levels[0])
    for sigma, z in zip(levels[1:], noises[1:], strict=True):
        x = f_at(renoise(x, z, sigma=sigma, sigma_min=sigma_min), sigma)
    return x


def search_intermediate_sigma(
    objective: Callable[[Float64[Tensor, " levels"]], float],
    sigmas: Float64[Tensor, " n"],
    *,
    before: Sequence[float] = (),
    after: Sequence[float] = (),
) -> float:
    """Return the one of `sigmas` that minimises objective(before, sigma, after), by ternary search.

    Source: CM, Section 3 (greedy search of time points); iCT, Appendix B prints the levels it found.

    `sigmas` ascends. `objective` gets descending noise levels, as `multistep_sample` takes them. It must return the
    same number each time, so keep the noise fixed. Candidates are the nodes of `sigmas` strictly between `before` and
    `after`.

    The result is the best node if the objective falls, then rises along the nodes; for any other objective it is a
    guess. The search evaluates each node at most once, and of n nodes about 4 log2(n).

    Raises: ValueError if `sigmas` does not ascend, if `before` or `after` does not descend, if no node lies between
    them, or if the objective is NaN.

    >>> sigmas = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    >>> search_intermediate_sigma(lambda levels: abs(float(levels[1]) - 1.1), sigmas, before=(80.0,))
    1.0
    """
    source = "CM Section 3"
    _domain.ascending(sigmas, source)
    for symbol, given in (("before", before), ("after", after)):
        for level in given:
            _domain.positive(symbol, level, source)
        if any(low >= high for high, low in pairwise(given)):
            _domain.refuse(
                f"{symbol} descending strictly ({source})", f"{symbol} = {given}", "list the largest level first"
            )
    high, low = min(before, default=math.inf), max(after, default=0.0)
    nodes: list[float] = [sigma for sigma in sigmas.tolist() if low < sigma < high]
    if not nodes:
        _domain.refuse(
            f"a node of sigmas between before and after ({source})",
            f"0 nodes between {low} and {high}, in sigmas from {float(sigmas[0])} to {float(sigmas[-1])}",
            "give a finer grid, or levels farther apart",
        )

    @functools.cache
    def value(j: int) -> float:
        got = float(objective(torch.tensor([*before, nodes[j], *after], dtype=torch.float64)))
        if math.isnan(got):
            _domain.refuse(
                f"an objective that is a number ({source})", f"NaN at sigma = {nodes[j]}", "check the samples"
            )
        return got

    left, right = 0, len(nodes) - 1
    while right - left >= 3:
        third = (right - left) // 3
        if value(left + third) < value(right - third):
            right -= third
        else:
            left += third
    return nodes[min(range(left, right + 1), key=value)]
