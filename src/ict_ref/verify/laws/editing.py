"""Laws of editing: what was given is kept, and the coordinates of an image give it back."""

import math

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, close, equal, given, law, needs, norm
from ict_ref.verify.laws import strategies as some

OPERATORS = ("inpainting_operator", "colorization_operator", "super_resolution_operator")


PATCHES = {"super_resolution_operator": {"patch": some.patches}}


def picture(seed: int) -> Tensor:
    """Return two images of 3 channels, wider than high, that patches of 2 and of 3 tile."""
    return torch.randn(2, 3, 6, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@law(*OPERATORS, passed_on=PATCHES)
@given(seed=some.seeds)
def gives_the_image_back(f: Function, seed: int) -> None:
    """A^-1 A x = x, for images wider than high too."""
    x, a = picture(seed), f()
    close(a.inverse(a.forward(x)), x, rtol=1e-11, atol=1e-12)


@law(*OPERATORS, passed_on=PATCHES)
@given(seed=some.seeds)
def gives_every_coordinate_back(f: Function, seed: int) -> None:
    """A A^-1 c = c: no coordinate is dropped."""
    a = f()
    c = a.forward(picture(seed))
    other = torch.randn(c.shape, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    close(a.forward(a.inverse(other)), other, rtol=1e-11, atol=1e-12)


@law(*OPERATORS, passed_on=PATCHES)
@given(seed=some.seeds)
def keeps_lengths(f: Function, seed: int) -> None:
    """||A x|| = ||x||: its columns are orthonormal, so that noise stays noise of the same level."""
    x = picture(seed)
    close(norm(f().forward(x)), norm(x), rtol=1e-11, what="a length of")


@law("colorization_operator")
@given(seed=some.seeds)
def has_luminance_first(f: Function, seed: int) -> None:
    """The first coordinate is proportional to .2989 red + .5870 green + .1140 blue."""
    x = picture(seed)
    weights = torch.tensor([0.2989, 0.5870, 0.1140], dtype=torch.float64)
    luminance = torch.einsum("bchw,c->bhw", x, weights / weights.norm())
    close(f().forward(x)[:, 0], luminance, rtol=1e-11, atol=1e-12, what="the first coordinate is")


@law("super_resolution_operator")
@given(seed=some.seeds)
def has_the_mean_of_each_patch_first(f: Function, seed: int) -> None:
    """The first coordinate of a patch is p times its mean."""
    x = picture(seed)
    means = torch.nn.functional.avg_pool2d(x, 2)
    got = f(patch=2).forward(x)[:, :: 2**2]
    close(got, 2 * means, rtol=1e-11, atol=1e-12, what="the first coordinates are")


@law("edit", needs=("float32",))
@given(x=some.images, y=some.images, levels=some.descending_levels)
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


@law("stroke_edit", needs=("float32",))
@given(x=some.images, levels=some.descending_levels)
def begins_at_the_image_that_was_given(f: Function, x: Tensor, levels: Tensor) -> None:
    """Without noise and with f(x, sigma) = x it is the image itself, however large its values are."""
    noises = torch.zeros(len(levels), *x.shape, dtype=torch.float64)
    equal(f(f=lambda at, _: at, reference=x, noises=noises, sigmas=levels), x)


@law("denoise")
@given(x=some.images, sigma=some.noise_levels)
def is_one_call_of_f(f: Function, x: Tensor, sigma: Tensor) -> None:
    """f(x, sigma), called once with one level per example."""
    asked: list[Tensor] = []

    def function(at: Tensor, level: Tensor) -> Tensor:
        asked.append(level)
        return at + 1

    equal(f(f=function, x=x, sigma=sigma), x + 1)
    needs(len(asked) == 1 and torch.equal(asked[0], sigma), "f is not called once at sigma")


@law("colorization_mask")
@given()
def keeps_luminance_alone(f: Function) -> None:
    """The first coordinate of each pixel's colour is given; the other two are generated."""
    _first_alone(f(), [False, True, True])


@law("super_resolution_mask")
@given(m=some.small_integers)
def keeps_the_means_alone(f: Function, m: int) -> None:
    """The first coordinate of each patch is given, in each channel; the others are generated."""
    _first_alone(f(channels=m, patch=2), [False, True, True, True] * m)


def _first_alone(mask: Tensor, expected: list[bool]) -> None:
    equal(mask.flatten(), torch.tensor(expected), "the mask is")
    needs(math.prod(mask.shape) == mask.shape[1], f"a mask of shape {list(mask.shape)}")


LAWS: tuple[Laws, ...] = (
    gives_the_image_back,
    gives_every_coordinate_back,
    keeps_lengths,
    has_luminance_first,
    has_the_mean_of_each_patch_first,
    keeps_what_was_given_and_sees_each_example_alone,
    begins_at_the_image_that_was_given,
    is_one_call_of_f,
    keeps_luminance_alone,
    keeps_the_means_alone,
)
