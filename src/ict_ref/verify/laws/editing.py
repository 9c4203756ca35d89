"""Laws of editing: what was given is kept, and the coordinates of an image give it back."""

import math
from typing import Any

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.laws.law import Function, close, equal, law, needs, norm

OPERATORS = ("inpainting_operator", "colorization_operator", "super_resolution_operator")


def operator(f: Function, m: int = 1) -> Any:
    """Return the operator, for patches of 2 x 2 or 3 x 3."""
    return f(patch=2 + m % 2) if f.name == "super_resolution_operator" else f()


def picture(seed: int) -> Tensor:
    """Return two images of 3 channels, wider than high, that patches of 2 and of 3 tile."""
    return torch.randn(2, 3, 6, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@law(*OPERATORS)
def gives_the_image_back(f: Function, seed: int, m: int) -> None:
    """A^-1 A x = x, for images wider than high too."""
    x, a = picture(seed), operator(f, m)
    close(a.inverse(a.forward(x)), x, rtol=1e-9, atol=1e-12)


@law(*OPERATORS)
def gives_every_coordinate_back(f: Function, seed: int, m: int) -> None:
    """A A^-1 c = c: no coordinate is dropped."""
    a = operator(f, m)
    c = a.forward(picture(seed))
    other = torch.randn(c.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    close(a.forward(a.inverse(other)), other, rtol=1e-9, atol=1e-12)


@law(*OPERATORS)
def keeps_lengths(f: Function, seed: int, m: int) -> None:
    """||A x|| = ||x||: its columns are orthonormal, so that noise stays noise of the same level."""
    x = picture(seed)
    close(norm(operator(f, m).forward(x)), norm(x), rtol=1e-9, what="a length of")


@law("colorization_operator")
def has_luminance_first(f: Function, seed: int) -> None:
    """The first coordinate is proportional to .2989 red + .5870 green + .1140 blue."""
    x = picture(seed)
    weights = torch.tensor([0.2989, 0.5870, 0.1140], dtype=torch.float64)
    luminance = torch.einsum("bchw,c->bhw", x, weights / weights.norm())
    close(f().forward(x)[:, 0], luminance, rtol=1e-9, atol=1e-12, what="the first coordinate is")


@law("super_resolution_operator")
def has_the_mean_of_each_patch_first(f: Function, seed: int) -> None:
    """The first coordinate of a patch is p times its mean."""
    x = picture(seed)
    means = torch.nn.functional.avg_pool2d(x, 2)
    got = f(patch=2).forward(x)[:, :: 2**2]
    close(got, 2 * means, rtol=1e-9, atol=1e-12, what="the first coordinates are")


@law("edit")
def keeps_what_was_given_and_sees_each_example_alone(f: Function, x: Tensor, y: Tensor, levels: Tensor) -> None:
    """The image is unchanged where the mask is not set, and a batch is edited image by image, each with its mask."""
    noises = torch.stack([y + k for k in range(len(levels))])
    mask = torch.arange(x.numel()).reshape(x.shape) % 3 > 0  # another one for each example
    every = {"f": lambda at, _: at / 2, "operator": formulas.inpainting_operator(), "sigmas": levels}
    got = f(reference=x, mask=mask, noises=noises, **every)
    close(got[~mask], x[~mask], rtol=1e-12, atol=1e-12, what="what was given comes back as")
    alone = [
        f(reference=x[j : j + 1], mask=mask[j : j + 1], noises=noises[:, j : j + 1], **every) for j in range(len(x))
    ]
    close(got, torch.cat(alone), rtol=1e-12, atol=1e-12)


@law("stroke_edit")
def begins_at_the_image_that_was_given(f: Function, x: Tensor, levels: Tensor) -> None:
    """Without noise and with f(x, sigma) = x it is the image itself, however large its values are."""
    noises = torch.zeros(len(levels), *x.shape, dtype=torch.float64)
    equal(f(f=lambda at, _: at, reference=x, noises=noises, sigmas=levels), x)


@law("denoise")
def is_one_call_of_f(f: Function, x: Tensor, sigma: Tensor) -> None:
    """f(x, sigma), called once with one level per example."""
    asked: list[Tensor] = []

    def function(at: Tensor, level: Tensor) -> Tensor:
        asked.append(level)
        return at + 1

    equal(f(f=function, x=x, sigma=sigma), x + 1)
    needs(len(asked) == 1 and torch.equal(asked[0], sigma), "f is not called once at sigma")


@law("super_resolution_mask", "colorization_mask")
def keeps_the_first_coordinate_alone(f: Function, m: int) -> None:
    """The first coordinate of every patch, and of every pixel's colour, is given; the others are generated."""
    mask = f() if f.name == "colorization_mask" else f(channels=m, patch=2)
    expected = [False, True, True] if f.name == "colorization_mask" else [False, True, True, True] * m
    equal(mask.flatten(), torch.tensor(expected), "the mask is")
    needs(math.prod(mask.shape) == mask.shape[1], f"a mask of shape {list(mask.shape)}")
