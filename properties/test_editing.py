"""Laws of editing: what is given is kept, what is made does not depend on what was hidden."""

import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import example, given
from torch import Tensor

from ict_ref.formulas import (
    Operator,
    colorization_mask,
    colorization_operator,
    denoise,
    edit,
    inpainting_operator,
    multistep_sample,
    slerp,
    stroke_edit,
    super_resolution_mask,
    super_resolution_operator,
)
from properties.law_of import law_of
from properties.strategies import levels_of, rotation, seeds, tensor_lists

sigma_min = 0.002
descending = st.lists(st.floats(sigma_min, 79.0), max_size=3, unique=True).map(
    lambda inner: torch.tensor([80.0, *sorted(inner, reverse=True)], dtype=torch.float64)
)
alphas = st.floats(0.0, 1.0)


def network(x: Tensor, sigma: Tensor) -> Tensor:
    """Return something that is not linear and mixes all values of an example."""
    level = sigma.reshape(-1, *(1 for _ in x.shape[1:]))
    return torch.tanh(x / (1 + level)) + 0.1 * torch.sin(x.reshape(len(x), -1).sum(1)).reshape_as(level)


@st.composite
def images(draw: st.DrawFn, channels: int | None = None, multiple: int = 1) -> Tensor:
    """A few images whose sides are multiples of a number."""
    shape = [draw(st.integers(1, 3)), channels or draw(st.integers(1, 3))]
    shape += [multiple * draw(st.integers(1, 3)) for _ in range(2)]
    return torch.randn(shape, generator=torch.Generator().manual_seed(draw(seeds)), dtype=torch.float64)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[Tensor, Operator, Tensor]:
    """An image, an operator for it and a mask: the paper's three, the inpainting mask at random."""
    kind = draw(st.sampled_from(["inpaint", "colorize", "enlarge"]))
    if kind == "colorize":
        return draw(images(channels=3)), colorization_operator(), colorization_mask()
    if kind == "enlarge":
        patch = draw(st.integers(1, 4))
        y = draw(images(multiple=patch))
        return y, super_resolution_operator(patch), super_resolution_mask(y.shape[1], patch)
    y = draw(images())
    holes = torch.rand(y.shape, generator=torch.Generator().manual_seed(draw(seeds))) < draw(alphas)
    return y, inpainting_operator(), holes


def noises_for(levels: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    """Return a unit normal for each level."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(levels), *y.shape, generator=generator, dtype=torch.float64)


@law_of("edit")
@given(tasks(), descending)
def test_edit_keeps_what_is_given(task: tuple[Tensor, Operator, Tensor], levels: Tensor) -> None:
    """(A x)(1 - Omega) = (A y)(1 - Omega)."""
    y, operator, mask = task
    x = edit(network, y, operator, mask, noises_for(levels, y), levels)
    kept = ~mask.expand_as(operator.forward(y))
    torch.testing.assert_close(operator.forward(x)[kept], operator.forward(y)[kept], rtol=1e-12, atol=1e-13)


@law_of("edit")
@given(images(), descending, seeds)
def test_edit_keeps_known_pixels_to_the_last_bit(y: Tensor, levels: Tensor, seed: int) -> None:
    """A = I: x = y outside the holes, exactly, in float32 too."""
    holes = torch.rand(y.shape, generator=torch.Generator().manual_seed(seed)) < 0.5
    for dtype in (torch.float64, torch.float32):
        given_image = y.to(dtype)
        noises = noises_for(levels, y).to(dtype)
        x = edit(network, given_image, inpainting_operator(), holes, noises, levels)
        assert torch.equal(x[~holes], given_image[~holes])


@law_of("edit")
@given(tasks(), descending)
def test_edit_does_not_depend_on_hidden_values(task: tuple[Tensor, Operator, Tensor], levels: Tensor) -> None:
    """y -> y + A^-1[(anything) Omega] changes nothing but by rounding."""
    y, operator, mask = task
    given_part = operator.forward(y)
    other = operator.inverse(torch.where(mask, given_part + 7.0, given_part))
    noises = noises_for(levels, y)
    one, two = (edit(network, image, operator, mask, noises, levels) for image in (y, other))
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


@law_of("edit")
@given(images(), descending)
def test_edit_lets_holes_hold_nan(y: Tensor, levels: Tensor) -> None:
    """The values of y under the mask have no effect, not even a NaN."""
    holes = torch.zeros_like(y, dtype=torch.bool)
    holes[..., 0] = True
    broken = torch.where(holes, torch.nan, y)
    noises = noises_for(levels, y)
    expected = edit(network, y, inpainting_operator(), holes, noises, levels)
    assert torch.equal(edit(network, broken, inpainting_operator(), holes, noises, levels), expected)


@law_of("edit")
@given(images(), descending)
def test_edit_of_nothing_given_is_sampling_and_of_everything_is_y(y: Tensor, levels: Tensor) -> None:
    """Omega = 1 everywhere is multistep_sample; Omega = 0 everywhere is y."""
    noises = noises_for(levels, y)
    everything = torch.tensor(True)
    sampled = edit(network, y, inpainting_operator(), everything, noises, levels)
    assert torch.equal(sampled, multistep_sample(network, noises, levels))
    assert torch.equal(edit(network, y, inpainting_operator(), ~everything, noises, levels), y)


@law_of("edit")
@given(tasks(), seeds)
def test_edit_does_not_depend_on_the_other_columns_of_q(task: tuple[Tensor, Operator, Tensor], seed: int) -> None:
    """Only the span of what is given counts: any rotation of the hidden coordinates gives the same picture."""
    y, operator, mask = task
    hidden = mask.expand_as(operator.forward(y)).reshape(len(y), -1)[0].nonzero()[:, 0]
    turn = rotation(len(hidden), seed) if len(hidden) else torch.empty(0, 0, dtype=torch.float64)

    def turned(coordinates: Tensor, matrix: Tensor) -> Tensor:
        flat = coordinates.reshape(len(coordinates), -1).clone()
        flat[:, hidden] = flat[:, hidden] @ matrix
        return flat.reshape(coordinates.shape)

    other = Operator(lambda x: turned(operator.forward(x), turn), lambda c: operator.inverse(turned(c, turn.mT)))
    # The same coordinates have to be hidden in every example for one matrix to turn them.
    same = mask.expand_as(operator.forward(y))[:1]
    levels = torch.tensor([80.0, 1.0], dtype=torch.float64)
    noises = noises_for(levels, y)
    one, two = (edit(network, y, each, same, noises, levels) for each in (operator, other))
    torch.testing.assert_close(one, two, rtol=1e-8, atol=1e-8)


every_operator = st.sampled_from([inpainting_operator, colorization_operator, super_resolution_operator])
Maker = Callable[..., Operator]


def made(maker: Maker, patch: int) -> Operator:
    """Return the operator, of this patch if it has patches."""
    return maker(patch) if maker is super_resolution_operator else maker()


@law_of("inpainting_operator", "colorization_operator", "super_resolution_operator")
@given(every_operator, st.integers(1, 4), st.data())
def test_operators_are_undone_by_their_inverses(maker: Maker, patch: int, data: st.DataObject) -> None:
    """A^-1 A x = x and A A^-1 c = c."""
    operator, x = made(maker, patch), data.draw(images(channels=3, multiple=patch))
    c = operator.forward(x)
    torch.testing.assert_close(operator.inverse(c), x, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(operator.forward(operator.inverse(c)), c, rtol=1e-13, atol=1e-13)


@law_of("inpainting_operator", "colorization_operator", "super_resolution_operator")
@given(every_operator, st.integers(1, 4), st.data())
def test_operators_are_orthogonal(maker: Maker, patch: int, data: st.DataObject) -> None:
    """(A x) . (A x') = x . x', so that unit normal noise stays unit normal noise."""
    operator, x = made(maker, patch), data.draw(images(channels=3, multiple=patch))
    other = x.flip(0, 2, 3) * 0.7 + 0.1
    expected = (x * other).sum()
    got = (operator.forward(x) * operator.forward(other)).sum()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12 * x.numel())


@law_of("inpainting_operator", "colorization_operator", "super_resolution_operator")
@given(every_operator, st.integers(1, 4), st.data(), st.floats(-3, 3))
def test_operators_are_linear_and_treat_examples_alike(maker: Maker, patch: int, data: st.DataObject, a: float) -> None:
    """A(x + a x') = A x + a A x', and examples do not affect each other."""
    operator, x = made(maker, patch), data.draw(images(channels=3, multiple=patch))
    other = x.flip(2, 3) + 1
    torch.testing.assert_close(
        operator.forward(x + a * other), operator.forward(x) + a * operator.forward(other), rtol=1e-11, atol=1e-12
    )
    alone = torch.cat([operator.forward(x[j : j + 1]) for j in range(len(x))])
    torch.testing.assert_close(operator.forward(x), alone)


@law_of("colorization_mask")
@given(images(channels=3))
def test_colorization_mask_keeps_the_luma(x: Tensor) -> None:
    """The coordinate that is kept is .2989 R + .5870 G + .1140 B over the weights' norm; a grey image has no other."""
    luma = (0.2989 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]) / math.sqrt(0.2989**2 + 0.587**2 + 0.114**2)
    kept = ~colorization_mask()
    assert kept.flatten().tolist() == [True, False, False]
    coordinates = colorization_operator().forward(x)
    torch.testing.assert_close(coordinates[kept.expand_as(x)], luma.flatten(), rtol=1e-12, atol=1e-13)


@law_of("colorization_mask")
@given(images(channels=3), st.floats(-2.0, 2.0))
def test_colorization_mask_hides_all_of_a_change_that_leaves_the_luma(x: Tensor, a: float) -> None:
    """Along (.5870, -.2989, 0) and (0, .1140, -.5870) the luma does not change, and only hidden coordinates do."""
    operator, hidden = colorization_operator(), colorization_mask()
    for direction in ((0.587, -0.2989, 0.0), (0.0, 0.114, -0.587)):
        change = a * torch.tensor(direction, dtype=torch.float64).reshape(1, 3, 1, 1)
        moved = operator.forward(x + change) - operator.forward(x)
        assert float(moved[~hidden.expand_as(x)].abs().max()) < 1e-12


@law_of("colorization_mask")
@given(images(channels=3), seeds, descending)
def test_colorization_mask_lets_edit_make_colours_of_the_same_luma(y: Tensor, seed: int, levels: Tensor) -> None:
    """Two samples of different noise have other colours and the same luma, that of y."""
    weights = torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64).reshape(1, 3, 1, 1)
    one, two = (
        edit(network, y, colorization_operator(), colorization_mask(), noises_for(levels, y, seed + j), levels)
        for j in range(2)
    )
    torch.testing.assert_close((weights * one).sum(1), (weights * y).sum(1), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close((weights * two).sum(1), (weights * y).sum(1), rtol=1e-11, atol=1e-12)
    assert not torch.allclose(one, two)


@law_of("super_resolution_mask")
@given(st.integers(1, 4), st.data())
def test_super_resolution_mask_keeps_the_mean_of_each_patch(patch: int, data: st.DataObject) -> None:
    """The coordinates that are kept are patch times the means of patches, as average pooling gives them."""
    x = data.draw(images(multiple=patch))
    kept = ~super_resolution_mask(x.shape[1], patch)
    coordinates = super_resolution_operator(patch).forward(x)
    means = torch.nn.functional.avg_pool2d(x, patch)
    torch.testing.assert_close(coordinates[:, kept.flatten()], patch * means, rtol=1e-12, atol=1e-13)


@law_of("super_resolution_mask")
@given(st.integers(1, 4), st.integers(1, 5))
def test_super_resolution_mask_hides_all_but_one_in_p_squared(patch: int, channels: int) -> None:
    """One coordinate in p^2 is kept, the first of each channel; a patch of one pixel hides nothing."""
    mask = super_resolution_mask(channels, patch)
    assert mask.shape == (1, channels * patch**2, 1, 1)
    assert (~mask).flatten().nonzero()[:, 0].tolist() == [channel * patch**2 for channel in range(channels)]


@law_of("super_resolution_mask")
@given(st.integers(1, 4), st.data(), descending)
def test_super_resolution_mask_lets_edit_make_a_picture_of_the_same_small_one(
    patch: int, data: st.DataObject, levels: Tensor
) -> None:
    """Averaged over its patches, the edited picture is the small one again."""
    y = data.draw(images(multiple=patch))
    operator, mask = super_resolution_operator(patch), super_resolution_mask(y.shape[1], patch)
    x = edit(network, y, operator, mask, noises_for(levels, y), levels)
    small = torch.nn.functional.avg_pool2d
    torch.testing.assert_close(small(x, patch), small(y, patch), rtol=1e-11, atol=1e-12)


@law_of("stroke_edit")
@given(tensor_lists(2), descending)
def test_stroke_edit_from_0_is_multistep_sampling(pair: list[Tensor], levels: Tensor) -> None:
    """y = 0 leaves noise alone."""
    noises = noises_for(levels, pair[0])
    edited = stroke_edit(network, torch.zeros_like(pair[0]), noises, levels)
    assert torch.equal(edited, multistep_sample(network, noises, levels))


@law_of("stroke_edit")
@given(tensor_lists(2))
def test_stroke_edit_begins_with_the_noisy_guide(pair: list[Tensor]) -> None:
    """One level and the identity: y + sigma_1 z_1, evaluated at sigma_1."""
    y, z = pair
    level = torch.tensor([5.38], dtype=torch.float64)
    torch.testing.assert_close(stroke_edit(lambda x, _: x, y, z[None], level), y + 5.38 * z)
    asked = stroke_edit(lambda x, sigma: sigma.reshape(-1, *(1 for _ in x.shape[1:])).expand_as(x), y, z[None], level)
    assert torch.equal(asked, torch.full_like(y, 5.38))


@law_of("stroke_edit")
@given(tensor_lists(2), descending)
def test_stroke_edit_continues_as_if_its_first_sample_were_given(pair: list[Tensor], levels: Tensor) -> None:
    """Levels after the first add sqrt(sigma^2 - sigma_min^2) z: with the identity, noises sum up."""
    y = pair[0]
    noises = noises_for(levels, y)
    expected = y + 80 * noises[0]
    for sigma, z in zip(levels[1:].tolist(), noises[1:], strict=True):
        expected = expected + math.sqrt(sigma**2 - sigma_min**2) * z
    torch.testing.assert_close(stroke_edit(lambda x, _: x, y, noises, levels), expected)


@law_of("slerp")
@given(tensor_lists(2), alphas)
@example([torch.ones(1, 2, dtype=torch.float64)] * 2, 0.25)
def test_slerp_ends_at_its_ends(pair: list[Tensor], alpha: float) -> None:
    """slerp(z1, z2, 0) = z1, slerp(z1, z2, 1) = z2, and of two equal ones everything between is the same."""
    z1, z2 = (tensor.reshape(len(tensor), -1) + 0.1 for tensor in pair)
    z1, z2 = (torch.cat([z, torch.ones(len(z), 2).double() * k], 1) for k, z in enumerate((z1, z2), 1))
    of = torch.ones(len(z1), dtype=torch.float64)
    torch.testing.assert_close(slerp(z1, z2, 0 * of), z1)
    torch.testing.assert_close(slerp(z1, z2, of), z2)
    torch.testing.assert_close(slerp(z1, z1, alpha * of), z1)


@law_of("slerp")
@given(st.integers(2, 6), alphas, alphas, seeds)
def test_slerp_goes_along_the_circle_at_a_steady_pace(dimension: int, alpha: float, beta: float, seed: int) -> None:
    """Unit vectors stay unit vectors, and the angle between slerp(alpha) and slerp(beta) is |alpha - beta| psi."""
    z1, z2 = (q[None] for q in rotation(dimension, seed)[:2])
    z2 = 0.8 * z1 + 0.6 * z2
    one, two = (slerp(z1, z2, torch.tensor([part], dtype=torch.float64)) for part in (alpha, beta))
    assert float(one.norm()) == pytest.approx(1, rel=1e-12)
    angle = 2 * math.atan2(float((one - two).norm()), float((one + two).norm()))
    assert angle == pytest.approx(abs(alpha - beta) * math.acos(0.8), abs=1e-11)


@law_of("slerp")
@given(tensor_lists(2), alphas)
def test_slerp_is_symmetric_and_treats_each_example_alone(pair: list[Tensor], alpha: float) -> None:
    """slerp(z1, z2, alpha) = slerp(z2, z1, 1 - alpha), one angle per example, whatever its shape."""
    z1, z2 = (tensor + sign * float(tensor.abs().max() + 1) for sign, tensor in zip((1, 2), pair, strict=True))
    share = torch.full((len(z1),), alpha, dtype=torch.float64)
    together = slerp(z1, z2, share)
    torch.testing.assert_close(together, slerp(z2, z1, 1 - share), rtol=1e-11, atol=1e-12)
    alone = torch.cat([slerp(z1[j : j + 1], z2[j : j + 1], share[:1]) for j in range(len(z1))])
    torch.testing.assert_close(together, alone)
    flat = slerp(z1.reshape(len(z1), -1), z2.reshape(len(z2), -1), share)
    torch.testing.assert_close(together, flat.reshape_as(together))


@law_of("slerp")
@given(tensor_lists(2))
def test_slerp_refuses_vectors_without_a_way_between_them(pair: list[Tensor]) -> None:
    """The vectors must not be 0 or opposite."""
    z = pair[0] + float(pair[0].abs().max() + 1)
    half = torch.full((len(z),), 0.5, dtype=torch.float64)
    with pytest.raises(ValueError, match="z1"):
        slerp(0 * z, z, half)
    with pytest.raises(ValueError, match="z2"):
        slerp(z, 0 * z, half)
    with pytest.raises(ValueError, match="opposite"):
        slerp(z, -z, half)
    with pytest.raises(ValueError, match="alpha"):
        slerp(z, z, half * math.nan)


@law_of("denoise")
@given(tensor_lists(1), st.data())
def test_denoise_is_f_at_the_level_of_the_image(x: list[Tensor], data: st.DataObject) -> None:
    """denoise(f, x, sigma) = f(x, sigma)."""
    sigma = data.draw(levels_of(len(x[0])))
    assert torch.equal(denoise(network, x[0], sigma), network(x[0], sigma))


@law_of("denoise")
@given(tensor_lists(1))
def test_denoise_at_sigma_min_changes_nothing(x: list[Tensor]) -> None:
    """f(x, sigma_min) = x for a function that keeps the boundary condition."""
    level = torch.full((len(x[0]),), sigma_min, dtype=torch.float64)

    def f(y: Tensor, sigma: Tensor) -> Tensor:
        return y * (sigma_min / sigma).reshape(-1, *(1 for _ in y.shape[1:]))

    assert torch.equal(denoise(f, x[0], level), x[0])


@law_of("denoise")
@given(tensor_lists(1), st.sampled_from([0.0, -1.0, math.nan, math.inf]))
def test_denoise_refuses_levels_outside_its_domain(x: list[Tensor], bad: float) -> None:
    """Needs 0 < sigma < infinity."""
    with pytest.raises(ValueError, match="0 < sigma < infinity"):
        denoise(network, x[0], torch.full((len(x[0]),), bad, dtype=torch.float64))


@law_of("edit", "stroke_edit", "colorization_operator", "super_resolution_operator", "super_resolution_mask")
@given(images(channels=2), st.sampled_from([0, -3]))
def test_editing_refuses_what_is_outside_its_domain(y: Tensor, bad: int) -> None:
    """patch, channels >= 1; three colours; sides that are multiples of the patch; a mask of the right shape; levels."""
    levels = torch.tensor([80.0], dtype=torch.float64)
    noises, everything = noises_for(levels, y), torch.tensor(True)
    with pytest.raises(ValueError, match="patch >= 1"):
        super_resolution_operator(bad)
    with pytest.raises(ValueError, match="patch >= 1"):
        super_resolution_mask(3, bad)
    with pytest.raises(ValueError, match="channels >= 1"):
        super_resolution_mask(bad, 2)
    height, width = y.shape[2:]
    with pytest.raises(ValueError, match=r"^expected images ") as caught:
        colorization_operator().forward(y)
    got = f"got {[len(y), 2, height, width]}"
    assert str(caught.value) == f"expected images [batch, 3, height, width] (CM Appendix D), {got}. Give colour images."
    with pytest.raises(ValueError, match=r"^expected images ") as caught:
        super_resolution_operator(7).forward(y)
    expected = "expected images [batch, channels, height, width], sides multiples of patch = 7 (CM Appendix D)"
    assert str(caught.value) == f"{expected}, {got}. Cut the images or change patch."
    with pytest.raises(ValueError, match="mask"):
        edit(network, y, inpainting_operator(), torch.ones(1, 3, 1, 1, dtype=torch.bool), noises, levels)
    with pytest.raises(ValueError, match="sigma"):
        edit(network, y, inpainting_operator(), everything, noises, 0 * levels)
    with pytest.raises(ValueError, match="at least one level"):
        stroke_edit(network, y, noises[:0], levels[:0])
