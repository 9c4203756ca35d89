"""Edits of given images with a consistency model that was not trained for them.

An operator A is an invertible, here orthogonal, map of the image. A mask marks the coordinates of A x that the model
generates. All others stay those of the given image: A x = A y there, after every step.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torch.nn import functional as F

from ict_ref.formulas import _domain
from ict_ref.formulas._axes import per_example
from ict_ref.formulas.objective import ConsistencyFunction
from ict_ref.formulas.sampling import descend

# The weights of red, green and blue in the luma. CM, Appendix D.
LUMA = (0.2989, 0.5870, 0.1140)


@dataclass(frozen=True)
class Operator:
    """An invertible linear map A of images: `forward` is A, `inverse` its inverse."""

    forward: Callable[[Float[Tensor, " batch *event"]], Float[Tensor, " batch *coordinates"]]
    inverse: Callable[[Float[Tensor, " batch *coordinates"]], Float[Tensor, " batch *event"]]


def edit(
    f: ConsistencyFunction,
    reference: Float[Tensor, " batch *event"],
    operator: Operator,
    mask: Bool[Tensor, "..."],
    noises: Float[Tensor, " levels batch *event"],
    sigmas: Float64[Tensor, " levels"],
    *,
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Return the last x of: x = A^-1[(A y)(1 - Omega) + (A f(x + sqrt(sigma_k^2 - sigma_min^2) z_k, sigma_k)) Omega].

    Source: CM, Appendix D, Algorithm 4.

    y is `reference`. The first step uses x = A^-1[(A y)(1 - Omega)] and the full sigma_1 z_1. `mask` is Omega, true for
    the coordinates to generate; it broadcasts against A y. The values of y there have no effect. `sigmas` *descend*,
    from a sigma_max at which the noise hides x completely.

    Raises: ValueError if shapes differ, if `mask` is not boolean, or if `sigmas` do not descend to at least sigma_min.
    """
    source = "CM Algorithm 4"
    _check(reference, noises, sigmas, sigma_min, source)
    given = operator.forward(reference)
    _covers(mask, given, source)

    def with_reference(coordinates: Float[Tensor, " batch *coordinates"]) -> Float[Tensor, " batch *event"]:
        return operator.inverse(torch.where(mask, coordinates, given))

    start = with_reference(torch.zeros_like(given))
    return descend(f, start, noises, sigmas, sigma_min=sigma_min, keep=lambda x: with_reference(operator.forward(x)))


def stroke_edit(
    f: ConsistencyFunction,
    reference: Float[Tensor, " batch *event"],
    noises: Float[Tensor, " levels batch *event"],
    sigmas: Float64[Tensor, " levels"],
    *,
    sigma_min: float = 0.002,
) -> Float[Tensor, " batch *event"]:
    """Return the last x of: x = f(y + sigma_1 z_1, sigma_1); x = f(x + sqrt(sigma_k^2 - sigma_min^2) z_k, sigma_k).

    Source: CM, Appendix D (stroke-guided generation, after SDEdit).

    y is `reference`. The result keeps only the part of y that the noise of `sigmas[0]` leaves. CM calls this Algorithm
    4 with A = I and Omega = 1 everywhere. Taken literally, that would erase y before the first step, so this is a
    separate function. CM's noise levels are 5.38 and 2.24. With y = 0 it is `multistep_sample`.

    Raises: ValueError if shapes differ, or if `sigmas` do not descend to at least sigma_min.
    """
    _check(reference, noises, sigmas, sigma_min, "CM Appendix D")
    return descend(f, reference, noises, sigmas, sigma_min=sigma_min)


def inpainting_operator() -> Operator:
    """Return A x = x: the mask marks the pixels to generate.

    Source: CM, Appendix D (inpainting).
    """
    return Operator(lambda x: x, lambda x: x)


def colorization_operator() -> Operator:
    """Return (A x)[k] = sum over colours l of x[l] Q[l, k], Q orthogonal with first column ~ (.2989, .5870, .1140).

    Source: CM, Appendix D (colorization).

    Images are [batch, 3, height, width]: red, green and blue, equal to each other in a gray image. Channel 0 of A x is
    the luma, up to its factor. The other columns of Q do not change any result of `edit`. CM prints the same Q.

    The operator's functions raise ValueError for images of any other shape.
    """
    q = _orthogonal(torch.tensor(LUMA, dtype=torch.float64))

    def mixed(x: Float[Tensor, " batch channels height width"], matrix: Float64[Tensor, "3 3"]) -> Tensor:
        if x.ndim != 4 or x.shape[1] != 3:
            _domain.refuse("images [batch, 3, height, width] (CM Appendix D)", f"{list(x.shape)}", "give colour images")
        return torch.einsum("blhw,lk->bkhw", x, matrix.to(x))

    return Operator(lambda x: mixed(x, q), lambda x: mixed(x, q.mT))


def colorization_mask() -> Bool[Tensor, "1 3 1 1"]:
    """Return Omega[k] = 1 for k = 1, 2: the luma, k = 0, is kept.

    Source: CM, Appendix D (colorization).
    """
    return torch.tensor([False, True, True]).reshape(1, 3, 1, 1)


def super_resolution_operator(patch: int) -> Operator:
    """Return (A x)[k] = sum over pixels m of a patch of x[m] Q[m, k], Q orthogonal with first column (1/p, ..., 1/p).

    Source: CM, Appendix D (super-resolution).

    Images are [batch, channels, height, width], both sides multiples of `patch` = p. The pixels of a patch are counted
    row by row. A x is [batch, channels p^2, height/p, width/p]. The first of the p^2 coordinates of each channel is p
    times the patch's mean. The other columns of Q do not change any result of `edit`. The `reference` of `edit` has
    full size: the small image with each pixel repeated.

    Raises: ValueError if patch < 1. The operator's functions raise it for images of any other shape.
    """
    _domain.at_least("patch", patch, 1, "CM Appendix D")
    q = _orthogonal(torch.ones(patch**2).double())

    def mixed(x: Float[Tensor, " batch patches height width"], matrix: Float64[Tensor, " m m"]) -> Tensor:
        pixels = x.reshape(len(x), -1, patch**2, *x.shape[2:])
        return torch.einsum("bcmhw,mk->bckhw", pixels, matrix.to(x)).flatten(1, 2)

    def forward(x: Float[Tensor, " batch channels height width"]) -> Tensor:
        if x.ndim != 4 or x.shape[2] % patch or x.shape[3] % patch:
            _domain.refuse(
                f"images [batch, channels, height, width], sides multiples of patch = {patch} (CM Appendix D)",
                f"{list(x.shape)}",
                "cut the images or change patch",
            )
        return mixed(F.pixel_unshuffle(x, patch), q)

    return Operator(forward, lambda x: F.pixel_shuffle(mixed(x, q.mT), patch))


def super_resolution_mask(channels: int, patch: int) -> Bool[Tensor, " 1 coordinates 1 1"]:
    """Return Omega[k] = 1 for k = 1, ..., p^2 - 1 of each channel: the patch's mean, k = 0, is kept.

    Source: CM, Appendix D (super-resolution).

    Raises: ValueError if channels < 1 or patch < 1.
    """
    _domain.at_least("channels", channels, 1, "CM Appendix D")
    _domain.at_least("patch", patch, 1, "CM Appendix D")
    return (torch.arange(channels * patch**2) % patch**2 > 0).reshape(1, -1, 1, 1)


def slerp(
    z1: Float[Tensor, " batch *event"],
    z2: Float[Tensor, " batch *event"],
    alpha: Float[Tensor, " batch"],
) -> Float[Tensor, " batch *event"]:
    """Return sin((1 - alpha) psi) / sin(psi) z1 + sin(alpha psi) / sin(psi) z2, psi the angle from z1 to z2.

    Source: CM, Appendix D (interpolation): x = f(sigma_max slerp(z1, z2, alpha), sigma_max).

    Each example has one angle, between the whole flattened examples. Where z1 and z2 are parallel the result is the
    linear limit. An alpha outside [0, 1] continues along the same circle.

    Raises: ValueError if shapes differ, if an example is 0, or if z1 and z2 are opposite, where the shortest path is
    not unique.
    """
    source = "CM Appendix D"
    _domain.same_shape(source, z1=z1, z2=z2)
    _domain.one_per_example(source, z1=z1, alpha=alpha)
    _domain.finite("alpha", alpha, source)
    flat1, flat2 = z1.reshape(len(z1), -1), z2.reshape(len(z2), -1)
    norm1, norm2 = flat1.norm(dim=1), flat2.norm(dim=1)
    _domain.all_positive("||z1||", norm1, source, "give unit normal noise")
    _domain.all_positive("||z2||", norm2, source, "give unit normal noise")
    unit1, unit2 = flat1 / norm1[:, None], flat2 / norm2[:, None]
    # Kahan's formula for the angle: the arc cosine of a product near 1 loses half of its digits.
    chord, cochord = (unit1 - unit2).norm(dim=1), (unit1 + unit2).norm(dim=1)
    _domain.all_positive("the angle between z1 and -z2", cochord, source, "give vectors that are not opposite")
    psi = 2 * torch.atan2(chord, cochord)

    def coefficient(fraction: Float[Tensor, " batch"]) -> Float[Tensor, " batch *ones"]:
        # sin(fraction psi) / sin(psi), and its limit `fraction` where psi is 0; torch.sinc(t) = sin(pi t) / (pi t).
        return per_example(fraction * torch.sinc(fraction * psi / math.pi) / torch.sinc(psi / math.pi), z1)

    return coefficient(1 - alpha) * z1 + coefficient(alpha) * z2


def denoise(
    f: ConsistencyFunction,
    x: Float[Tensor, " batch *event"],
    sigma: Float[Tensor, " batch"],
) -> Float[Tensor, " batch *event"]:
    """Return f(x, sigma), for an image x with noise of level sigma.

    Source: CM, Appendix D (denoising).

    The result is one sample that could have led to x. It is not the mean of all such samples, which a denoiser's D(x,
    sigma) estimates.

    Raises: ValueError if sigma is not one positive, finite value per example.
    """
    _domain.one_per_example("CM Appendix D", x=x, sigma=sigma)
    _domain.levels(sigma, "CM Appendix D")
    return f(x, sigma)


def _check(
    reference: Float[Tensor, " batch *event"],
    noises: Float[Tensor, " levels batch *event"],
    sigmas: Float64[Tensor, " levels"],
    sigma_min: float,
    source: str,
) -> None:
    _domain.descending(sigmas, sigma_min, source)
    _domain.one_per_level(source, noises, sigmas)
    _domain.same_shape(source, **{"reference": reference, "noises[0]": noises[0]})


def _covers(mask: Bool[Tensor, "..."], given: Float[Tensor, " batch *coordinates"], source: str) -> None:
    if mask.dtype != torch.bool:
        _domain.refuse(f"a mask of truth values ({source})", f"a mask of {mask.dtype}", "give Omega > 0")
    try:
        mask.expand(given.shape)
    except RuntimeError:
        _domain.refuse(
            f"a mask that broadcasts to the shape of A reference, {list(given.shape)} ({source})",
            f"mask {list(mask.shape)}",
            "give one truth value per coordinate of A reference",
        )


def _orthogonal(first: Float64[Tensor, " m"]) -> Float64[Tensor, "m m"]:
    """Return an orthogonal matrix whose first column is `first`, normalised; its first number is positive."""
    matrix = torch.eye(len(first), dtype=torch.float64)
    matrix[:, 0] = first
    q: Tensor = torch.linalg.qr(matrix).Q
    return q * q[0, 0].sign()
