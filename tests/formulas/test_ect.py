"""The formulas of ECT: mapping, stages, law of the level, weights, distance and loss.

Oracle: mpmath, 50 digits, and integers.
"""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from ict_ref.formulas import (
    adaptive_weights,
    consistency_tuning_loss,
    ect_exponent,
    ect_mapping,
    gap_weights,
    l2,
    lognormal_level,
    snr_weights,
    squared_l2,
)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ones(d: int) -> tuple[Tensor, Tensor]:
    return torch.ones(1, d, dtype=torch.float64), torch.zeros(1, d, dtype=torch.float64)


# (t, a, q) -> r, from a formula book whose numbers have 30 to 40 digits (mpmath).
MAPPED = {
    (80.0, 1, 2.0): 40.0,
    (3.0, 1, 2.0): 0.9308895219,
    (1.0, 3, 2.0): 0.6060585786,
    (0.1, 4, 2.0): 0.06999895937,
    (0.5, 8, 2.0): 0.4921478021,
    (1.0, 1, 4.0): 0.2121171573,
    (0.1, 2, 4.0): 0.06999895937,
}


@pytest.mark.parametrize(("given", "expected"), MAPPED.items())
def test_the_mapping_has_its_golden_values(given: tuple[float, int, float], expected: float) -> None:
    t, exponent, q = given
    assert ect_mapping(f64(t), exponent=exponent, q=q).tolist() == pytest.approx([expected], rel=5e-10)


@pytest.mark.parametrize("exponent", [1, 3, 8, 14])
@pytest.mark.parametrize(("q", "k", "b"), [(2.0, 8.0, 1.0), (4.0, 8.0, 1.0), (2.0, 0.0, 1.0), (3.0, 2.5, 0.25)])
def test_the_mapping_agrees_with_fifty_digits(exponent: int, q: float, k: float, b: float) -> None:
    levels = [1e-3, 0.1, 0.7, 2.0, 5.0, 80.0, 1e4]
    with mpmath.workdps(50):
        exact = [
            float(max(0, t * (1 - (1 + k * mpmath.exp(-b * t) / (1 + mpmath.exp(-b * t))) / mpmath.mpf(q) ** exponent)))
            for t in map(mpmath.mpf, levels)
        ]
    got = ect_mapping(f64(*levels), exponent=exponent, q=q, k=k, b=b)
    assert got.tolist() == pytest.approx(exact, rel=1e-13)


def test_the_first_stage_denoises_up_to_log_7_and_log_5_thirds() -> None:
    # 1 - n/q = 0 for n = q: k / (1 + e^t) = q - 1, so t = ln(k / (q - 1) - 1)
    for q, border in ((2.0, math.log(7)), (4.0, math.log(5 / 3))):
        r = ect_mapping(f64(0.999 * border, 1.001 * border), exponent=1, q=q)
        assert float(r[0]) == 0
        assert float(r[1]) > 0
    assert float(ect_mapping(f64(1e-6), exponent=1, q=256.0)) > 0


def test_the_gap_has_two_bits_at_least() -> None:
    # float64 has eps = 2^-52, so that q^a has to be below 2^50.
    t = f64(1.0)
    assert float(t - ect_mapping(t, exponent=1, q=0.9 * 2.0**50, k=0.0)) == pytest.approx(2.0**-50, rel=0.25)
    with pytest.raises(ValueError, match="eps"):
        ect_mapping(t, exponent=1, q=2.0**50, k=0.0)


def test_the_exponent_is_one_more_than_the_stage() -> None:
    d = 25_000
    got = [ect_exponent(k, steps_per_stage=d) for k in (0, 24_999, 25_000, 100_000, 199_999)]
    assert got == [1, 1, 2, 5, 8]
    # stages of one update, and of three
    assert [ect_exponent(k, steps_per_stage=1) for k in range(4)] == [1, 2, 3, 4]
    assert [ect_exponent(k, steps_per_stage=3) for k in range(7)] == [1, 1, 1, 2, 2, 2, 3]


PARTS = (0.01, 0.25, 0.5, 0.9, 0.999)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({}, [0.003174212376, 0.08638169402, 0.3328710837, 4.319342239, 160.8487709]),
        (
            {"sigma_min": 0.002, "sigma_max": 80.0},
            [0.004382440437, 0.08812764701, 0.3347217417, 4.211871533, 66.35709159],
        ),
    ],
)
def test_the_lognormal_level_has_its_golden_quantiles(ends: dict[str, float], expected: list[float]) -> None:
    assert lognormal_level(f64(*PARTS), **ends).tolist() == pytest.approx(expected, rel=5e-10)


@pytest.mark.parametrize(
    ("p_mean", "p_std", "sigma_min", "sigma_max"),
    [
        (-1.1, 2.0, 0.002, 80.0),
        (-0.8, 1.6, 0.0, 80.0),
        (-0.8, 1.6, 0.002, math.inf),
        # both ends in the upper or in the lower tail, where differences of the cdf lose their digits
        (0.0, 1.0, math.exp(9.0), math.exp(9.5)),
        (0.0, 1.0, math.exp(-9.5), math.exp(-9.0)),
        (0.0, 1.0, math.exp(8.0), math.inf),
    ],
)
def test_the_lognormal_level_is_the_quantile_of_its_law(
    p_mean: float, p_std: float, sigma_min: float, sigma_max: float
) -> None:
    # Inverted: the probability between sigma_min and the level, over that of the whole range, is u.
    levels = lognormal_level(f64(*PARTS), p_mean=p_mean, p_std=p_std, sigma_min=sigma_min, sigma_max=sigma_max)
    with mpmath.workdps(60):

        def above(level: float) -> mpmath.mpf:
            if level in (0.0, math.inf):
                return mpmath.mpf(level == 0.0)
            return mpmath.erfc((mpmath.log(level) - mpmath.mpf(p_mean)) / (mpmath.mpf(p_std) * mpmath.sqrt(2))) / 2

        whole = above(sigma_min) - above(sigma_max)
        parts = [float((above(sigma_min) - above(level)) / whole) for level in levels.tolist()]
    assert parts == pytest.approx(PARTS, rel=1e-11)


def test_weights_have_their_golden_values() -> None:
    got = snr_weights(f64(0.01, 0.1, 0.5, 1.0, 80.0))
    assert got.tolist() == pytest.approx([10004, 104, 8, 5, 4.00015625], rel=1e-14)
    assert snr_weights(f64(2.0), sigma_data=0.25).tolist() == [16.25]
    t = f64(1.0, 80.0, 0.1, 2.0, 1.0)
    r = torch.cat([f64(0.5, 40.0, 0.09, 0.0), ect_mapping(f64(1.0), exponent=8)])
    assert gap_weights(t, r).tolist() == pytest.approx([2, 0.025, 100, 0.5, 81.23035117], rel=5e-10)


@pytest.mark.parametrize(("d", "expected"), [(1, 1.0), (4, 2.0), (3072, 55.42562584), (12288, 110.8512517)])
def test_l2_is_the_norm_of_the_whole_example(d: int, expected: float) -> None:
    assert l2(*ones(d)).tolist() == pytest.approx([expected], rel=5e-10)


def test_l2_of_three_and_four_is_five_and_its_gradient_a_unit_vector_or_none() -> None:
    x = f64(3.0, 4.0, 1.0, 1.0).reshape(2, 2).requires_grad_()
    d = l2(x, f64(0.0, 0.0, 1.0, 1.0).reshape(2, 2))
    assert d.tolist() == [5.0, 0.0]
    (gradient,) = torch.autograd.grad(d.sum(), x)
    assert gradient.tolist() == [[0.6, 0.8], [0.0, 0.0]]


def test_adaptive_weights_have_their_golden_values() -> None:
    squares = (0.0, 0.0036, 1.0, 55.0, 3072.0)
    x = f64(*(math.sqrt(square) for square in squares)).reshape(-1, 1)
    expected = [16.66666667, 11.78511302, 0.9982048455, 0.1348355598, 0.01804218534]
    assert adaptive_weights(x, torch.zeros_like(x)).tolist() == pytest.approx(expected, rel=5e-10)
    # (9 + 16)^-2 with c^2 = 9
    assert adaptive_weights(f64(4.0), f64(0.0), c=3.0, p=2.0).tolist() == pytest.approx([1 / 625], rel=1e-14)


def half(x: Tensor, sigma: Tensor) -> Tensor:
    return x / 2 + sigma[:, None]


def never_at_zero(x: Tensor, sigma: Tensor) -> Tensor:
    assert bool((sigma > 0).all()), "the teacher was called at level 0"
    return x / 4


def test_the_loss_is_computed_by_hand() -> None:
    x, z = f64(1.0, -2.0, 0.5, 1.5).reshape(2, 2), f64(1.0, 1.0, -1.0, 2.0).reshape(2, 2)
    t, r, w = f64(1.0, 2.0), f64(0.5, 0.0), f64(3.0, 10.0)
    got = consistency_tuning_loss(half, never_at_zero, x, z, t, r, distance=squared_l2, weights=w)
    # First: student (1+1, -2+1)/2 + 1 = (2, .5); target (1.5, -1.5)/4 = (.375, -.375); squares 1.625^2 + .875^2
    # Second: student (.5-2, 1.5+4)/2 + 2 = (1.25, 4.75); target x = (.5, 1.5); squares .75^2 + 3.25^2
    assert got.tolist() == pytest.approx([3 * (1.625**2 + 0.875**2), 10 * (0.75**2 + 3.25**2)], rel=1e-14)


def test_no_gradient_reaches_the_target() -> None:
    a = f64(0.7).requires_grad_()
    x = torch.ones(2, 3, dtype=torch.float64)
    loss = consistency_tuning_loss(
        lambda x, sigma: x,
        lambda x, sigma: a * x,
        x,
        x,
        f64(1.0, 2.0),
        f64(0.5, 0.0),
        distance=squared_l2,
        weights=f64(1.0, 1.0),
    )
    assert not loss.requires_grad


def test_levels_in_the_wrong_order_are_rejected() -> None:
    x, t, r = torch.ones(2, 3, dtype=torch.float64), f64(1.0, 2.0), f64(0.5, 2.0)
    with pytest.raises(ValueError, match="0 <= r < t"):
        consistency_tuning_loss(half, half, x, x, t, r, distance=squared_l2, weights=f64(1.0, 1.0))


def test_levels_of_float64_serve_images_of_float32() -> None:
    seen = []

    def noted(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((x.dtype, sigma.dtype))
        return half(x, sigma)

    x = torch.ones(2, 3)
    loss = consistency_tuning_loss(
        noted, noted, x, x, f64(1.0, 2.0), f64(0.5, 0.0), distance=squared_l2, weights=f64(1.0, 1.0)
    )
    assert loss.dtype == torch.float32
    assert seen == 2 * [(torch.float32, torch.float32)]


def test_weights_can_be_vectorized_over_each_of_their_levels() -> None:
    t, r = f64(1.0, 2.0), f64(0.5, 0.0)
    by_t = torch.func.vmap(lambda level: gap_weights(level, r))(t[None])
    by_r = torch.func.vmap(lambda level: gap_weights(t, level))(r[None])
    assert by_t[0].tolist() == by_r[0].tolist() == [2.0, 0.5]
