"""Zero-shot editing, CM Algorithm 4 and Appendix D.

Oracle: a plain NumPy loop with index formulas for the operators; mpmath and geometry for slerp.
"""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import (
    colorization_mask,
    colorization_operator,
    denoise,
    edit,
    inpainting_operator,
    slerp,
    stroke_edit,
    super_resolution_mask,
    super_resolution_operator,
)

Array = npt.NDArray[Any]
LUMA = (0.2989, 0.5870, 0.1140)
SIGMA_MIN = 0.002
LEVELS = (5.38, 2.24, 0.6, 0.05, 0.002)


def tensor(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float64)


def normal(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def toy(x: Tensor, sigma: Tensor) -> Tensor:
    """Nonlinear, and it mixes pixels and channels, so that a wrong order or level shows."""
    s = sigma.reshape(-1, *[1] * (x.ndim - 1))
    return torch.tanh(x + 0.3 * torch.roll(x, 1, dims=-1) - 0.2 * torch.roll(x, 1, dims=1)) / (1.0 + 0.4 * s) + 0.1 * s


def toy_numpy(x: Array, s: float) -> Array:
    moved = x + 0.3 * np.roll(x, 1, axis=-1) - 0.2 * np.roll(x, 1, axis=1)
    return np.asarray(np.tanh(moved) / (1.0 + 0.4 * s) + 0.1 * s)


# The part of y that Algorithm 4 keeps, as a map of two images: y where it is given, x where it is generated.
Merge = Callable[[Array, Array], Array]


def keep_pixels(mask: Array) -> Merge:
    def merge(y: Array, x: Array) -> Array:
        out = x.copy()
        for at in np.ndindex(*y.shape):
            if not mask[at]:
                out[at] = y[at]
        return out

    return merge


def keep_luma(y: Array, x: Array) -> Array:
    """x with the component along the luma direction of each pixel taken from y."""
    length = sum(w * w for w in LUMA) ** 0.5
    out = x.copy()
    for b, i, j in np.ndindex(y.shape[0], y.shape[2], y.shape[3]):
        wanted = sum((y[b, c, i, j] - x[b, c, i, j]) * LUMA[c] / length for c in range(3))
        for c in range(3):
            out[b, c, i, j] += wanted * LUMA[c] / length
    return out


def keep_patch_means(patch: int) -> Merge:
    def merge(y: Array, x: Array) -> Array:
        out = x.copy()
        for b, c, i, j in np.ndindex(y.shape[0], y.shape[1], y.shape[2] // patch, y.shape[3] // patch):
            inside = (b, c, slice(i * patch, (i + 1) * patch), slice(j * patch, (j + 1) * patch))
            out[inside] = x[inside] - x[inside].mean() + y[inside].mean()
        return out

    return merge


def algorithm_4(y: Array, merge: Merge, noises: Array, sigmas: tuple[float, ...], sigma_min: float) -> Array:
    y = merge(y, np.zeros_like(y))
    x = y
    for k, sigma in enumerate(sigmas):
        size = sigma if k == 0 else (sigma**2 - sigma_min**2) ** 0.5
        x = merge(y, toy_numpy(x + size * noises[k], sigma))
    return x


def random_mask(*shape: int) -> Array:
    return np.random.default_rng(5).uniform(size=shape) < 0.4


# ------------------------------------------------------------------ Algorithm 4


@pytest.mark.parametrize(
    "shape", [(2, 3, 4, 6), (1, 1, 4, 6), (2, 1, 4, 6), (1, 3, 4, 6)], ids=["full", "shared", "example", "channel"]
)
@pytest.mark.parametrize(("sigmas", "sigma_min"), [(LEVELS, SIGMA_MIN), ((5.38,), SIGMA_MIN), ((3.0, 1.0, 0.5), 0.45)])
def test_inpainting_follows_the_numpy_loop_and_keeps_the_known_pixels_exactly(
    shape: tuple[int, ...], sigmas: tuple[float, ...], sigma_min: float
) -> None:
    y, noises, mask = normal(1, 2, 3, 4, 6), normal(2, len(sigmas), 2, 3, 4, 6), random_mask(*shape)
    got = edit(
        toy, tensor(y), inpainting_operator(), torch.as_tensor(mask), tensor(noises), tensor(sigmas),
        sigma_min=sigma_min,
    )  # fmt: skip
    full = np.broadcast_to(mask, y.shape)
    assert got.dtype == torch.float64
    np.testing.assert_allclose(
        got.numpy(), algorithm_4(y, keep_pixels(full), noises, sigmas, sigma_min), rtol=1e-12, atol=1e-12
    )
    assert np.array_equal(got.numpy()[~full], y[~full])


def test_default_sigma_min_is_the_papers() -> None:
    y, noises, mask = normal(1, 1, 3, 4, 6), normal(2, 2, 1, 3, 4, 6), random_mask(1, 3, 4, 6)
    sigmas = (0.01, 0.0021)
    got = edit(toy, tensor(y), inpainting_operator(), torch.as_tensor(mask), tensor(noises), tensor(sigmas))
    np.testing.assert_allclose(got.numpy(), algorithm_4(y, keep_pixels(mask), noises, sigmas, 0.002), rtol=1e-12)
    stroke = stroke_edit(toy, tensor(y), tensor(noises), tensor(sigmas))
    np.testing.assert_allclose(stroke.numpy(), stroke_loop(y, noises, sigmas, 0.002), rtol=1e-12)


def test_colorization_follows_the_numpy_loop_and_keeps_the_gray_image() -> None:
    y, noises = normal(3, 2, 3, 3, 4), normal(4, len(LEVELS), 2, 3, 3, 4)
    got = edit(toy, tensor(y), colorization_operator(), colorization_mask(), tensor(noises), tensor(LEVELS)).numpy()
    np.testing.assert_allclose(got, algorithm_4(y, keep_luma, noises, LEVELS, SIGMA_MIN), rtol=1e-10, atol=1e-11)
    for b, i, j in np.ndindex(2, 3, 4):
        kept, asked = (sum(LUMA[c] * image[b, c, i, j] for c in range(3)) for image in (got, y))
        assert kept == pytest.approx(asked, abs=1e-12)


@pytest.mark.parametrize(
    ("channels", "patch", "height", "width"), [(1, 2, 4, 6), (3, 2, 4, 4), (2, 3, 6, 3), (3, 1, 2, 3)]
)
def test_super_resolution_follows_the_numpy_loop_and_keeps_the_patch_means(
    channels: int, patch: int, height: int, width: int
) -> None:
    y, noises = normal(5, 2, channels, height, width), normal(6, len(LEVELS), 2, channels, height, width)
    got = edit(
        toy, tensor(y), super_resolution_operator(patch), super_resolution_mask(channels, patch), tensor(noises),
        tensor(LEVELS),
    ).numpy()  # fmt: skip
    wanted = algorithm_4(y, keep_patch_means(patch), noises, LEVELS, SIGMA_MIN)
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-11)
    for b, c, i, j in np.ndindex(2, channels, height // patch, width // patch):
        rows, columns = range(i * patch, (i + 1) * patch), range(j * patch, (j + 1) * patch)
        kept, asked = (sum(image[b, c, r, k] for r in rows for k in columns) / patch**2 for image in (got, y))
        assert kept == pytest.approx(asked, abs=1e-12)


def test_what_y_holds_where_the_image_is_to_be_generated_changes_nothing() -> None:
    y, noises, mask = normal(7, 2, 3, 4, 4), normal(8, 3, 2, 3, 4, 4), random_mask(1, 1, 4, 4)
    sigmas = tensor(LEVELS[:3])
    changed = np.where(mask, 17.0 * normal(9, 2, 3, 4, 4), y)
    cases = (
        (changed, inpainting_operator(), torch.as_tensor(mask)),
        (keep_luma(y, normal(10, 2, 3, 4, 4)), colorization_operator(), colorization_mask()),
        (keep_patch_means(2)(y, normal(11, 2, 3, 4, 4)), super_resolution_operator(2), super_resolution_mask(3, 2)),
    )
    for other, operator, omega in cases:
        first, second = (edit(toy, tensor(image), operator, omega, tensor(noises), sigmas) for image in (y, other))
        assert not np.allclose(other, y)
        np.testing.assert_allclose(first.numpy(), second.numpy(), rtol=1e-11, atol=1e-11)


def test_the_network_is_called_once_per_level_with_that_level_for_every_example() -> None:
    y, noises, mask = normal(12, 3, 1, 2, 2), normal(13, len(LEVELS), 3, 1, 2, 2), random_mask(1, 1, 2, 2)
    seen: list[Tensor] = []

    def recording(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma.clone())
        return toy(x, sigma)

    edit(recording, tensor(y), inpainting_operator(), torch.as_tensor(mask), tensor(noises), tensor(LEVELS))
    assert [s.tolist() for s in seen] == [[level] * 3 for level in LEVELS]


@pytest.mark.parametrize("known", [True, False])
def test_a_mask_that_keeps_all_returns_y_and_one_that_keeps_nothing_starts_from_zero(known: bool) -> None:
    y, noises = normal(14, 2, 3, 4, 4), normal(15, 2, 2, 3, 4, 4)
    mask = torch.full((1, 1, 1, 1), not known)
    got = edit(toy, tensor(y), inpainting_operator(), mask, tensor(noises), tensor([5.38, 2.24])).numpy()
    wanted = y if known else stroke_loop(0.0 * y, noises, (5.38, 2.24), SIGMA_MIN)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=0.0 if known else 1e-13)


# ------------------------------------------------------------------ the operators


def test_inpainting_operator_is_the_identity() -> None:
    y = tensor(normal(16, 2, 3, 4, 5))
    operator = inpainting_operator()
    assert torch.equal(operator.forward(y), y)
    assert torch.equal(operator.inverse(y), y)


def test_colorization_operator_is_the_matrix_that_cm_prints_up_to_signs_of_two_columns() -> None:
    printed = np.array([[0.4471, -0.8204, 0.3563], [0.8780, 0.4785, 0.0], [0.1705, -0.3129, -0.9343]])
    unit = tensor(np.eye(3)).reshape(3, 3, 1, 1)
    matrix = colorization_operator().forward(unit).reshape(3, 3).numpy()
    np.testing.assert_allclose(matrix[:, 0], np.array(LUMA) / np.linalg.norm(LUMA), rtol=1e-13)
    np.testing.assert_allclose(matrix[:, 0], printed[:, 0], atol=1.5e-4)
    for k in (1, 2):
        sign = np.sign(matrix[0, k] * printed[0, k])
        np.testing.assert_allclose(sign * matrix[:, k], printed[:, k], atol=1.5e-4)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-14)


def test_colorization_coordinate_zero_is_the_sum_over_channels_with_unit_luma_weights() -> None:
    x = normal(17, 2, 3, 2, 3)
    got = colorization_operator().forward(tensor(x)).numpy()
    assert got.shape == x.shape
    length = sum(w * w for w in LUMA) ** 0.5
    for b, i, j in np.ndindex(2, 2, 3):
        assert got[b, 0, i, j] == pytest.approx(sum(LUMA[c] / length * x[b, c, i, j] for c in range(3)), abs=1e-13)


@pytest.mark.parametrize(("channels", "patch"), [(1, 2), (3, 2), (2, 3), (3, 1), (1, 4)])
def test_super_resolution_coordinates_have_their_places_and_coordinate_zero_is_patch_times_the_mean(
    channels: int, patch: int
) -> None:
    x = normal(18, 2, channels, 2 * patch, 3 * patch)
    operator = super_resolution_operator(patch)
    got = operator.forward(tensor(x)).numpy()
    assert got.shape == (2, channels * patch**2, 2, 3)
    for b, c, i, j in np.ndindex(2, channels, 2, 3):
        inside = [x[b, c, i * patch + m, j * patch + n] for m in range(patch) for n in range(patch)]
        assert got[b, c * patch**2, i, j] == pytest.approx(sum(inside) / patch, abs=1e-12)
        coordinates = got[b, c * patch**2 : (c + 1) * patch**2, i, j]
        assert float(np.sum(coordinates**2)) == pytest.approx(sum(v * v for v in inside), rel=1e-12)
    for c, r, k in np.ndindex(channels, 2 * patch, 3 * patch):
        poked = x.copy()
        poked[0, c, r, k] += 1.0
        changed = np.abs(operator.forward(tensor(poked)).numpy() - got) > 1e-9
        outside = changed.copy()
        outside[0, c * patch**2 : (c + 1) * patch**2, r // patch, k // patch] = False
        assert changed[0, c * patch**2, r // patch, k // patch]
        assert not outside.any()


@pytest.mark.parametrize("name", ["inpainting", "colorization", "super-resolution 2", "super-resolution 3"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_operators_are_orthogonal_linear_and_undone_by_their_inverse(name: str, dtype: torch.dtype) -> None:
    if name == "inpainting":
        operator = inpainting_operator()
    elif name == "colorization":
        operator = colorization_operator()
    else:
        operator = super_resolution_operator(int(name[-1]))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    x, y = (tensor(normal(seed, 2, 3, 6, 12)).to(dtype) for seed in (19, 20))
    ax, ay = operator.forward(x), operator.forward(y)
    assert ax.dtype == dtype
    assert operator.inverse(ax).dtype == dtype
    torch.testing.assert_close(operator.inverse(ax), x, rtol=tolerance, atol=tolerance)
    z = tensor(normal(21, *ax.shape)).to(dtype)
    torch.testing.assert_close(operator.forward(operator.inverse(z)), z, rtol=tolerance, atol=tolerance)
    together = operator.forward(2.0 * x - 3.0 * y)
    torch.testing.assert_close(together, 2.0 * ax - 3.0 * ay, rtol=tolerance, atol=20 * tolerance)
    assert float((ax * ay).sum()) == pytest.approx(float((x * y).sum()), rel=20 * tolerance, abs=50 * tolerance)


def test_masks_mark_all_but_the_known_coordinate_of_each_channel() -> None:
    color = colorization_mask()
    assert color.dtype == torch.bool
    assert color.shape == (1, 3, 1, 1)
    assert color.flatten().tolist() == [False, True, True]
    for channels, patch in ((1, 1), (3, 1), (1, 2), (3, 2), (2, 4)):
        mask = super_resolution_mask(channels, patch)
        assert mask.dtype == torch.bool
        assert mask.shape == (1, channels * patch**2, 1, 1)
        assert mask.flatten().tolist() == [k % patch**2 != 0 for k in range(channels * patch**2)]


# ------------------------------------------------------------------ strokes and denoising


def stroke_loop(y: Array, noises: Array, sigmas: tuple[float, ...], sigma_min: float) -> Array:
    x = toy_numpy(y + sigmas[0] * noises[0], sigmas[0])
    for k in range(1, len(sigmas)):
        x = toy_numpy(x + (sigmas[k] ** 2 - sigma_min**2) ** 0.5 * noises[k], sigmas[k])
    return x


@pytest.mark.parametrize(("sigmas", "sigma_min"), [((5.38, 2.24), SIGMA_MIN), (LEVELS, SIGMA_MIN), ((3.0, 1.0), 0.9)])
def test_stroke_edit_follows_the_numpy_loop(sigmas: tuple[float, ...], sigma_min: float) -> None:
    y, noises = normal(22, 2, 3, 4, 4), normal(23, len(sigmas), 2, 3, 4, 4)
    got = stroke_edit(toy, tensor(y), tensor(noises), tensor(sigmas), sigma_min=sigma_min)
    np.testing.assert_allclose(got.numpy(), stroke_loop(y, noises, sigmas, sigma_min), rtol=1e-12, atol=1e-13)


def test_denoise_calls_the_network_once_on_the_image_as_it_is() -> None:
    x, sigma = tensor(normal(24, 3, 3, 2, 2)), tensor([0.002, 0.4, 80.0])
    seen: list[tuple[Tensor, Tensor]] = []

    def recording(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((x, sigma))
        return toy(x, sigma)

    got = denoise(recording, x, sigma)
    assert len(seen) == 1
    assert torch.equal(seen[0][0], x)
    assert torch.equal(seen[0][1], sigma)
    for b in range(3):
        np.testing.assert_allclose(got[b].numpy(), toy_numpy(x[b : b + 1].numpy(), sigma[b].item())[0], rtol=1e-12)


# ------------------------------------------------------------------ slerp


def slerp_by_mpmath(z1: Array, z2: Array, alpha: float) -> Array:
    with mpmath.workdps(50):
        a, b = ([mpmath.mpf(float(v)) for v in z.ravel()] for z in (z1, z2))
        dot = mpmath.fsum(p * q for p, q in zip(a, b, strict=True))
        lengths = (mpmath.sqrt(mpmath.fsum(p * p for p in v)) for v in (a, b))
        psi = mpmath.acos(dot / mpmath.fprod(lengths))
        first = mpmath.sin((1 - mpmath.mpf(alpha)) * psi) / mpmath.sin(psi)
        second = mpmath.sin(mpmath.mpf(alpha) * psi) / mpmath.sin(psi)
        return np.array([float(first * p + second * q) for p, q in zip(a, b, strict=True)]).reshape(z1.shape)


ALPHAS = (0.0, 0.1, 0.5, 0.77, 1.0)


@pytest.mark.parametrize("shape", [(), (4,), (3, 4, 4)], ids=["no event axes", "vector", "image"])
def test_slerp_of_random_noise_matches_mpmath_example_by_example(shape: tuple[int, ...]) -> None:
    z1, z2 = normal(25, len(ALPHAS), *shape), 3.0 * normal(26, len(ALPHAS), *shape)
    if shape == ():
        z1, z2 = np.abs(z1), np.abs(z2)
    got = slerp(tensor(z1), tensor(z2), tensor(ALPHAS)).numpy()
    assert got.shape == z1.shape
    for k, alpha in enumerate(ALPHAS):
        wanted = (1.0 - alpha) * z1[k] + alpha * z2[k] if shape == () else slerp_by_mpmath(z1[k], z2[k], alpha)
        np.testing.assert_allclose(got[k], wanted, rtol=1e-12, atol=1e-13)


def at_angle(angle: float) -> tuple[Array, Array]:
    """Two vectors of lengths 2 and 5 in five dimensions at the angle, in float64."""
    basis = np.linalg.qr(normal(27, 5, 2))[0]
    return 2.0 * basis[:, 0], 5.0 * (np.cos(angle) * basis[:, 0] + np.sin(angle) * basis[:, 1])


@pytest.mark.parametrize("angle", [1e-9, 1e-8, 3e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.3])
def test_slerp_at_tiny_angles_matches_mpmath(angle: float) -> None:
    z1, z2 = at_angle(angle)
    count = len(ALPHAS)
    got = slerp(tensor(np.tile(z1, (count, 1))), tensor(np.tile(z2, (count, 1))), tensor(ALPHAS)).numpy()
    for k, alpha in enumerate(ALPHAS):
        np.testing.assert_allclose(got[k], slerp_by_mpmath(z1, z2, alpha), rtol=0, atol=1e-14 * 5.0 * 4)


@pytest.mark.parametrize("gap", [0.3, 1e-1, 1e-2, 1e-3, 1e-4])
def test_slerp_of_nearly_opposite_vectors_matches_mpmath_as_far_as_float64_carries(gap: float) -> None:
    z1, z2 = at_angle(np.pi - gap)
    count = len(ALPHAS)
    got = slerp(tensor(np.tile(z1, (count, 1))), tensor(np.tile(z2, (count, 1))), tensor(ALPHAS)).numpy()
    for k, alpha in enumerate(ALPHAS):
        wanted = slerp_by_mpmath(z1, z2, alpha)
        np.testing.assert_allclose(got[k], wanted, rtol=0, atol=1e-13 / gap * (1.0 + float(np.linalg.norm(wanted))))


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.5, 1.5, 3.0])
def test_slerp_of_unit_vectors_walks_the_great_circle_at_constant_speed(angle: float) -> None:
    basis = np.linalg.qr(normal(28, 12, 2))[0].reshape(3, 4, 2)
    z1, across = basis[..., 0], basis[..., 1]
    alphas = np.linspace(0.0, 1.0, 9)
    z2 = np.cos(angle) * z1 + np.sin(angle) * across
    got = slerp(tensor(np.tile(z1, (9, 1, 1))), tensor(np.tile(z2, (9, 1, 1))), tensor(alphas)).numpy()
    for k, alpha in enumerate(alphas):
        wanted = np.cos(alpha * angle) * z1 + np.sin(alpha * angle) * across
        np.testing.assert_allclose(got[k], wanted, rtol=0, atol=3e-14)


def test_slerp_of_parallel_vectors_is_linear() -> None:
    z1 = normal(29, 4, 2, 3)
    factor, alpha = np.array([1.0, 2.0, 3.0, 1e-6]), np.array([0.3, 0.25, 0.9, 0.5])
    z2 = factor[:, None, None] * z1
    wanted = (1.0 - alpha)[:, None, None] * z1 + alpha[:, None, None] * z2
    np.testing.assert_allclose(slerp(tensor(z1), tensor(z2), tensor(alpha)).numpy(), wanted, rtol=1e-12)


def test_slerp_keeps_the_dtype_of_the_noise() -> None:
    z1, z2 = (tensor(normal(seed, 3, 8)).to(torch.float32) for seed in (30, 31))
    alpha = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float32)
    got = slerp(z1, z2, alpha)
    assert got.dtype == torch.float32
    for k in range(3):
        np.testing.assert_allclose(got[k], slerp_by_mpmath(z1[k].numpy(), z2[k].numpy(), alpha[k].item()), rtol=2e-5)


# ------------------------------------------------------------------ outside the domain


@pytest.mark.parametrize(
    "sigmas", [(2.24, 5.38), (5.38, 0.001), (5.38, float("nan")), (float("nan"), 1.0), (5.38, -1.0), (5.38, 0.0)]
)
def test_levels_that_do_not_descend_above_sigma_min_are_rejected(sigmas: tuple[float, ...]) -> None:
    y, noises = tensor(normal(32, 2, 3, 4, 4)), tensor(normal(33, 2, 2, 3, 4, 4))
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="sigma"):
        edit(toy, y, inpainting_operator(), mask, noises, tensor(sigmas))
    with pytest.raises(ValueError, match="sigma"):
        stroke_edit(toy, y, noises, tensor(sigmas))


def test_noises_that_do_not_fit_the_levels_or_the_examples_are_rejected() -> None:
    y, sigmas = tensor(normal(34, 2, 3, 4, 4)), tensor([5.38, 2.24])
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    for shape in ((3, 2, 3, 4, 4), (1, 2, 3, 4, 4), (2, 3, 3, 4, 4)):
        noises = tensor(normal(35, *shape))
        with pytest.raises((ValueError, TypeCheckError), match="noises"):
            edit(toy, y, inpainting_operator(), mask, noises, sigmas)
        with pytest.raises((ValueError, TypeCheckError), match="noises"):
            stroke_edit(toy, y, noises, sigmas)


@pytest.mark.parametrize("patch", [0, -2])
def test_a_patch_below_one_is_rejected(patch: int) -> None:
    with pytest.raises(ValueError, match="patch"):
        super_resolution_operator(patch)
    with pytest.raises(ValueError, match="patch"):
        super_resolution_mask(3, patch)


def test_a_mask_of_no_channels_is_rejected() -> None:
    with pytest.raises(ValueError, match="channels"):
        super_resolution_mask(0, 2)


@pytest.mark.parametrize("shape", [(1, 3, 4, 5), (1, 3, 5, 4)])
def test_an_image_side_that_the_patch_does_not_divide_is_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="patch"):
        super_resolution_operator(2).forward(tensor(normal(36, *shape)))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_colorization_of_images_without_three_channels_is_rejected(channels: int) -> None:
    with pytest.raises(ValueError, match=r"channels|\b3\b"):
        colorization_operator().forward(tensor(normal(37, 2, channels, 4, 4)))


@pytest.mark.parametrize("factor", [-1.0, -2.0, 0.0])
def test_slerp_of_opposite_or_zero_vectors_is_rejected(factor: float) -> None:
    z1, alpha = tensor(normal(38, 3, 4)), tensor([0.2, 0.5, 0.8])
    z2 = tensor(normal(39, 3, 4))
    z2[1] = factor * z1[1]
    with pytest.raises(ValueError, match=r"z1|z2|psi"):
        slerp(z1, z2, alpha)
    with pytest.raises(ValueError, match=r"z1|z2|psi"):
        slerp(z2, z1, alpha)


@pytest.mark.parametrize("short", ["z1", "z2", "alpha"])
def test_slerp_of_batches_of_different_sizes_is_rejected(short: str) -> None:
    sizes = {name: 2 if name == short else 3 for name in ("z1", "z2", "alpha")}
    z1, z2, alpha = normal(40, sizes["z1"], 4), normal(41, sizes["z2"], 4), np.full(sizes["alpha"], 0.5)
    with pytest.raises((ValueError, TypeCheckError), match=short):
        slerp(tensor(z1), tensor(z2), tensor(alpha))


@pytest.mark.parametrize("level", [float("nan"), 0.0, -1.0])
def test_denoising_at_a_level_that_is_not_positive_is_rejected(level: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        denoise(toy, tensor(normal(42, 2, 3, 2, 2)), tensor([1.0, level]))


def test_denoising_with_one_level_too_many_is_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError), match="sigma"):
        denoise(toy, tensor(normal(43, 2, 3, 2, 2)), tensor([1.0, 2.0, 3.0]))
