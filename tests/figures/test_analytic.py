"""Figures 1a, 3b, 4a and 6a: their points by closed forms, scipy, exact arithmetic and numpy by hand."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import mpmath
import numpy as np
import pytest
from scipy import stats

from ict_ref.figures.analytic import curricula, metrics, noise_embeddings, noise_schedules
from ict_ref.utils.panel import Panel

Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def xy(panel: Panel, curve: str) -> tuple[Array, Array]:
    """Return the points of a curve."""
    x, y = np.array(panel.curves[curve], dtype=np.float64).T
    return x, y


def frequencies() -> Array:
    """Return those of the positional embedding of 192 values."""
    return np.array([10_000.0 ** (-k / 96) for k in range(96)])


def test_1a_fourier_embeddings_differ_by_the_closed_form_for_normal_frequencies() -> None:
    # Of a pair of values sin and cos the squared difference is 2 (1 - cos(2 pi w delta)), and for w ~ N(0, s^2)
    # E cos(2 pi w delta) = exp(-2 (pi s delta)^2): per value 1 - that; delta = log(sigma'/sigma) / 4.
    panel = noise_embeddings().panels[0]
    for scale in (16, 2, 0.2, 0.02):
        ratio, got = xy(panel, f"Fourier, scale {scale}")
        wanted = np.sqrt(-np.expm1(-2 * (np.pi * scale * ratio / 4) ** 2))
        np.testing.assert_allclose(got, wanted, rtol=2e-3)
        assert (ratio[0], ratio[-1]) == pytest.approx((1e-4, 1))


@pytest.mark.parametrize(("curve", "times"), [("positional", 1), ("positional of 1000 c_noise", 1000)])
def test_1a_positional_embeddings_differ_by_the_sum_over_their_frequencies(curve: str, times: int) -> None:
    ratio, got = xy(noise_embeddings().panels[0], curve)
    # 2 sin^2(a/2) = 1 - cos(a), without its cancellation.
    angles = times * ratio[:, None] / 4 * frequencies()
    np.testing.assert_allclose(got, np.sqrt((2 * np.sin(angles / 2) ** 2).mean(1)), rtol=1e-9)


def test_1a_the_sensitivities_are_the_closed_forms_and_the_caption_has_them() -> None:
    figure = noise_embeddings()
    scale, fourier = xy(figure.panels[1], "Fourier, any scale")
    # d sin(2 pi w c)/d log sigma = (2 pi w / 4) cos: the mean square over sin and cos is (2 pi s / 4)^2 / 2.
    np.testing.assert_allclose(fourier, np.pi * scale / 2 / np.sqrt(2), rtol=2e-3)
    positional = math.sqrt((frequencies() ** 2).mean() / 2) / 4
    for curve, times in (("positional", 1), ("positional of 1000 c_noise", 1000)):
        x, got = xy(figure.panels[1], curve)
        np.testing.assert_allclose(got, times * positional, rtol=1e-9)
        assert x.tolist() == scale.tolist()
    # 8 pi / sqrt 2 = 17.8, 0.01 pi / sqrt 2 = 0.0222; 0.0431; 43.1
    assert "is 17.8 for Fourier scale 16, 0.022 for 0.02, 0.043 for" in figure.caption
    assert "and 43 for that of 1000 c_noise" in figure.caption
    # 7 log(1 + y) with y = D / (1280 x), x the lower root: at both ends of the grid.
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    step = (high - low) / 1280
    ends = 7 * math.log(1 + step / low), 7 * math.log(high / (high - step))
    assert f"{ends[1]:.2g} to {ends[0]:.2g} apart" in figure.caption


def test_3b_the_exponential_curriculum_doubles_upright_at_every_fifty_thousandth_step() -> None:
    curve = dict(curricula().panels[0].curves["exponential, Eq. (9)"])
    for k, n in curve.items():
        assert n == min(10 * 2 ** (k // 50_000), 1280) + 1
    assert {50_000.0 * j - side for j in range(1, 8) for side in (0, 1)} <= curve.keys()


def test_3b_the_other_curricula_are_their_formulas_in_exact_arithmetic() -> None:
    curves = curricula().panels[0].curves
    for number in range(0, 803, 37):
        k = int(curves["constant"][min(number, 800)][0])
        u = Fraction(k, 400_000)
        with mpmath.workdps(50):
            cosine = (1 - mpmath.cos(mpmath.pi * k / 400_000)) / 2
            half = u.numerator / mpmath.mpf(u.denominator)
            wanted = {
                "constant": 1281,
                "linear": math.ceil(u * 1281 + (1 - u) * 10),
                "square root": int(mpmath.ceil(mpmath.sqrt(half * (1281**2 - 100) + 100) - mpmath.mpf(10) ** -30)),
                "square": mpmath.ceil((half * mpmath.sqrt(1281) + (1 - half) * mpmath.sqrt(10)) ** 2 - 1e-30),
                "cosine": mpmath.ceil(cosine * 1281 + (1 - cosine) * 10 - 1e-30),
            }
        for name, n in wanted.items():
            assert dict(curves[name])[float(k)] == int(n), (name, k)


def test_3b_every_curve_goes_through_the_whole_training_in_the_same_steps() -> None:
    curves = curricula().panels[0].curves
    assert len(curves) == 6
    steps = [k for k, _ in curves["constant"]]
    assert steps == sorted({*range(0, 400_001, 1000), *range(999, 400_000, 1000)})
    for points in curves.values():
        assert [k for k, _ in points] == steps
        assert points[-1][1] == 1281
    assert [curves[name][0][1] for name in curves] == [11, 1281, 10, 10, 10, 10]


def test_4a_the_default_density_is_the_slope_of_its_distribution_and_integrates_to_one() -> None:
    x, got = xy(noise_schedules().panels[0], "default schedule (CM)")
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    inside = (x >= math.log(0.002)) & (x <= math.log(80))
    # With sigma^(1/7) uniform, P(log sigma < x) = (e^(x/7) - low) / (high - low).
    np.testing.assert_allclose(got[inside], np.exp(x[inside] / 7) / 7 / (high - low), rtol=1e-12)
    assert (got[~inside] == 0).all()
    assert (x[0], x[-1]) == (-8, 6)
    assert np.trapezoid(got, x) == pytest.approx(1, abs=1e-6)


def test_4a_the_lognormal_density_is_scipy_s_and_integrates_to_the_mass_that_is_shown() -> None:
    x, got = xy(noise_schedules().panels[0], "lognormal schedule")
    normal = stats.norm(-1.1, 2)
    np.testing.assert_allclose(got, normal.pdf(x), rtol=1e-12)
    assert np.trapezoid(got, x) == pytest.approx(normal.cdf(6) - normal.cdf(-8), abs=1e-6)


def test_4a_the_circles_are_probabilities_of_cells_over_their_widths() -> None:
    panel = noise_schedules().panels[0]
    levels = [float((mpmath.mpf("0.002") ** (mpmath.mpf(1) / 7) * (1 - mpmath.mpf(j) / 1280)
              + mpmath.mpf(80) ** (mpmath.mpf(1) / 7) * j / 1280) ** 7) for j in range(1281)]  # fmt: skip
    logs = np.log(levels)
    cells = np.arange(20, 1280, 40)
    mass = np.diff(stats.norm.cdf(logs, -1.1, 2))
    wanted = {"default, p(i) of N = 1281": np.full(1280, 1 / 1280), "lognormal, p(i) of N = 1281": mass / mass.sum()}
    assert set(panel.dots) == set(wanted)
    for name, pmf in wanted.items():
        x, got = xy(panel, name)
        np.testing.assert_allclose(x, ((logs[1:] + logs[:-1]) / 2)[cells], rtol=1e-11)
        np.testing.assert_allclose(got, (pmf / np.diff(logs))[cells], rtol=1e-9)
    # They lie on the densities, but for the 0.83 % of the lognormal one that is cut off.
    np.testing.assert_allclose(xy(panel, "default, p(i) of N = 1281")[1], np.interp(
        xy(panel, "default, p(i) of N = 1281")[0], *xy(panel, "default schedule (CM)")), rtol=1e-3)  # fmt: skip


def huber(c: float, x: Array) -> Array:
    """Return sqrt(x^2 + c^2) - c, to 40 digits and then rounded."""
    with mpmath.workdps(40):
        return np.array([float(mpmath.hypot(value, c) - c) for value in x.tolist()])


@pytest.mark.parametrize("number", [0, 1])
def test_6a_the_metrics_are_numpy_s(number: int) -> None:
    panel = metrics().panels[number]
    wanted: dict[str, Callable[[Array], Array]] = {"squared l2": lambda x: x * x, "l1": np.abs}
    for c in (0.03, 0.3, 1, 3):
        wanted[f"pseudo-Huber, c = {c}"] = partial(huber, c)
    assert panel.curves.keys() == wanted.keys()
    for name, distance in wanted.items():
        x, got = xy(panel, name)
        np.testing.assert_allclose(got, distance(x), rtol=1e-12)
        assert (x[0], x[-1]) == pytest.approx([(-2, 2), (1e-3, 1e2)][number])
