"""From noise to data with a consistency function, in one step or in several."""

from jaxtyping import Float, Float64
from torch import Tensor

from ict_ref.formulas import _domain
from ict_ref.formulas.objective import ConsistencyFunction


def one_step_sample(
    f: ConsistencyFunction,
    noise: Float[Tensor, " batch *event"],
    *,
    sigma_max: float = 80.0,
) -> Float[Tensor, " batch *event"]:
    """Return x = f(sigma_max z, sigma_max), with `noise` the unit normal z.

    Source: iCT, Section 2; CM, Algorithm 1.

    Nothing is clipped.
    """
    _domain.positive("sigma_max", sigma_max, "iCT Section 2")
    return f(sigma_max * noise, noise.new_full((len(noise),), sigma_max))


def multistep_sample(
    f: ConsistencyFunction,
    noises: Float[Tensor, " levels batch *event"],
    sigmas: Float64[Tensor, " levels"],
    *,
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Return the last x of: x = f(sigma_1 z_1, sigma_1); x = f(x + sqrt(sigma_k^2 - sigma_min^2) z_k, sigma_k), k > 1.

    Source: iCT, Section 2; CM, Algorithm 1.

    Here levels *descend*: `sigmas[0]` is sigma_max, and every level costs one evaluation of f. `noises[k]` is the
    unit normal of level k. The paper's K = 3 is two levels: its last index adds noise of level sigma_min, which is
    exactly none. Nothing is clipped. Needs sigma_max = sigmas[0] > sigmas[1] > ... >= sigma_min.
    """
    if len(sigmas) < 1:
        _domain.refuse("at least one level in sigmas (CM Algorithm 1)", "none", "give sigma_max")
    _domain.same_batch("CM Algorithm 1: one noise per level", noises=noises, sigmas=sigmas)
    _domain.positive("sigma_min", sigma_min, "iCT Section 2")
    _domain.levels(sigmas, "CM Algorithm 1")
    if _domain.looks_at(sigmas) and not (bool((sigmas[1:] < sigmas[:-1]).all()) and float(sigmas[-1]) >= sigma_min):
        _domain.refuse(
            f"sigmas that descend and stay at or above sigma_min = {sigma_min} (CM Algorithm 1)",
            f"sigmas = {sigmas.tolist()}",
            "list the levels from sigma_max downwards",
        )
    x = one_step_sample(f, noises[0], sigma_max=float(sigmas[0]))
    added = (sigmas**2 - sigma_min**2).sqrt()
    for sigma, scale, noise in zip(sigmas[1:], added[1:], noises[1:], strict=True):
        x = f(x + scale.to(x) * noise, sigma.to(x).expand(len(x)))
    return x
