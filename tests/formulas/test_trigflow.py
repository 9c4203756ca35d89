"""TrigFlow: change of variables, path, parameterization, tangent, normalisation, weighting, law of the time, sampler.

Oracle: mpmath, 50 digits, complex rotation, central differences, and torch.autograd.
"""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor

from ict_ref.formulas import (
    adaptive_weighting,
    normalized_tangent,
    scm_loss,
    tangent_warmup,
    trigflow_difference,
    trigflow_interpolant,
    trigflow_level,
    trigflow_parameterization,
    trigflow_sample,
    trigflow_step,
    trigflow_tangent,
    trigflow_time,
    trigflow_time_density,
    trigflow_velocity,
)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


T_MAX = 1.564546408
GOLDEN = 5e-10


def near(values: list[float]) -> object:
    return pytest.approx(values, rel=GOLDEN, abs=5e-11)


def test_the_time_of_a_level_has_its_golden_values() -> None:
    got = trigflow_time(f64(0.002, 0.1, 0.5, 1.0, 80.0))
    assert got.tolist() == near([0.003999978667, 0.1973955598, 0.7853981634, 1.107148718, T_MAX])
    assert trigflow_time(f64(0.0)).tolist() == [0.0]
    assert trigflow_level(f64(1.1)).tolist() == near([0.9823798286])
    assert trigflow_level(f64(math.pi / 4), sigma_data=3.0).tolist() == pytest.approx([3.0], rel=1e-15)


@pytest.mark.parametrize("sigma", [1e-6, 0.002, 0.7, 80.0, 1e6])
def test_the_time_agrees_with_fifty_digits(sigma: float) -> None:
    with mpmath.workdps(50):
        expected = float(mpmath.asin(mpmath.mpf(sigma) / mpmath.sqrt(mpmath.mpf(sigma) ** 2 + mpmath.mpf(0.25))))
        level = float(mpmath.tan(mpmath.mpf(expected)) / 2)
    assert trigflow_time(f64(sigma)).tolist() == pytest.approx([expected], rel=1e-15)
    assert trigflow_level(f64(expected)).tolist() == pytest.approx([level], rel=1e-14)


def test_the_path_is_a_rotation() -> None:
    # x0 = .3, z = -.2, t = .7
    x0, z, t = f64(0.3).reshape(1, 1), f64(-0.2).reshape(1, 1), f64(0.7)
    x, v = trigflow_interpolant(x0, z, t), trigflow_velocity(x0, z, t)
    assert [float(x), float(v)] == near([0.1006091187, -0.3462337436])
    turned = complex(0.3, -0.2) * complex(math.cos(0.7), -math.sin(0.7))
    assert [float(x), float(v)] == pytest.approx([turned.real, turned.imag], rel=1e-14)
    assert float(trigflow_step(x, v, t, f64(0.0))) == pytest.approx(0.3, rel=1e-14)
    # From 0.7 down to 0.2 it is the path at 0.2.
    expected = 0.3 * math.cos(0.2) - 0.2 * math.sin(0.2)
    assert float(trigflow_step(x, v, t, f64(0.2))) == pytest.approx(expected, rel=1e-13)


def network(y: Tensor, t: Tensor) -> Tensor:
    """F = y t + cos y."""
    return y * t.reshape(-1, *(1 for _ in y.shape[1:])) + torch.cos(y)


# x, t, v: f, g for r = 1, g for r = 1/2, the difference and the step at t' = .9 t, N(g), the loss for w = 1
BOOK = {
    (0.3, 0.7, 0.4): (-0.1716809587, -0.4525695359, -0.2914132726, -0.542319254, 0.2712881611, -0.8190273015,
                      0.8234390008),
    (-0.8, 0.05, 0.2): (-0.7962713576, 0.3233522734, 0.2886580327, 0.3170079879, -0.8009899959, 0.7637900957,
                        0.585778505),
    (1.1, 1.1, -0.6): (-0.3171669086, -1.130506762, -0.7211856815, -2.532234912, 1.159218688, -0.9187326693,
                       1.294419375),
    (0.02, 1.5, 0.5): (-0.5268586541, -0.05447969071, -0.02731390101, -0.6844285949, -0.05494364468, -0.3526657159,
                       -0.6619188429),
    (-0.4, 1.56, -0.45): (0.2713121339, 0.01967939485, 0.009829536449, 1.721127268, -0.3252270476, 0.1644342777,
                          -0.9265013788),
}  # fmt: skip


@pytest.mark.parametrize("given", BOOK)
def test_parameterization_tangent_and_loss_have_their_golden_values(given: tuple[float, float, float]) -> None:
    x, t, v = f64(given[0]).reshape(1, 1), f64(given[1]), f64(given[2]).reshape(1, 1)
    value, tangent = trigflow_tangent(network, x, t, v)
    assert torch.equal(value, network(x / 0.5, t))
    got = [
        trigflow_parameterization(network, x, t),
        tangent,
        trigflow_tangent(network, x, t, v, warmup=0.5)[1],
        trigflow_difference(network, x, t, 0.9 * t, v),
        trigflow_step(x, v, t, 0.9 * t),
        normalized_tangent(tangent),
        scm_loss(network, x, t, v, f64(1.0)),
    ]
    assert [float(one) for one in got] == near(list(BOOK[given]))


def test_the_tangent_is_the_limit_of_the_central_difference_of_f() -> None:
    # g = cos t df/dt for r = 1; the error of the central difference is O(h^2)
    x, t, v = f64(0.3, -0.8, 1.1, 0.5).reshape(2, 2), f64(0.7, 1.1), f64(0.4, 0.2, -0.6, 0.1).reshape(2, 2)
    tangent = trigflow_tangent(network, x, t, v, sigma_data=0.8)[1]

    def error(h: float) -> float:
        ahead, behind = (trigflow_parameterization(network, x + s * v, t + s, sigma_data=0.8) for s in (h, -h))
        slope = t.cos().reshape(2, 1) * (ahead - behind) / (2 * h)
        return float((slope - tangent).abs().max())

    assert error(1e-2) < 1e-3
    assert error(1e-2) / error(5e-3) == pytest.approx(4.0, rel=0.01)


def test_the_difference_goes_to_the_tangent_with_its_gap() -> None:
    x, t, v = f64(0.3, -0.8).reshape(1, 2), f64(0.9), f64(0.4, 0.2).reshape(1, 2)
    tangent = trigflow_tangent(network, x, t, v, warmup=0.7)[1]

    def error(gap: float) -> float:
        # cos t times the difference of Eq. (37) is the tangent of discrete time, Eq. (39).
        difference = trigflow_difference(network, x, t, t - gap, v, warmup=0.7)
        return float((t.cos() * difference - tangent).abs().max())

    assert error(1e-3) / error(5e-4) == pytest.approx(2.0, rel=0.02)


def test_the_loss_has_the_gradient_of_the_weighted_tangent() -> None:
    # dL/dF = -2 e^w N(g) / D, by autograd of the loss through a network that is F plus a leaf
    x, t, v = f64(0.3, -0.8, 1.1, 0.5).reshape(2, 2), f64(0.7, 1.1), f64(0.4, 0.2, -0.6, 0.1).reshape(2, 2)
    leaf, w = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True), f64(0.5, -1.0).requires_grad_()
    loss = scm_loss(lambda y, s: network(y, s) + leaf, x, t, v, w)
    by_leaf, by_w = torch.autograd.grad(loss.sum(), (leaf, w))
    g = normalized_tangent(trigflow_tangent(network, x, t, v)[1])
    torch.testing.assert_close(by_leaf, -2 * w.exp().reshape(2, 1) * g / 2)
    torch.testing.assert_close(by_w, w.exp() * g.square().sum(1) / 2 - 1)


def test_the_warm_up_rises_to_1() -> None:
    assert [tangent_warmup(k) for k in (0, 1, 5000, 10_000, 20_000)] == [0.0, 1e-4, 0.5, 1.0, 1.0]
    assert tangent_warmup(3, warmup_steps=4) == 0.75


@pytest.mark.parametrize(
    ("d", "expected"), [(1, 0.9090909091), (4, 0.4761904762), (3072, 0.01800970245), (12288, 0.00901296727)]
)
def test_the_normalized_tangent_of_ones_has_its_golden_entries(d: int, expected: float) -> None:
    got = normalized_tangent(torch.ones(1, d, dtype=torch.float64))
    assert got[0].tolist() == near([expected] * d)


def test_the_normalized_tangent_of_three_and_four() -> None:
    assert normalized_tangent(f64(3.0, 4.0).reshape(1, 2))[0].tolist() == near([0.5882352941, 0.7843137255])


def test_the_adaptive_weighting_has_its_golden_values() -> None:
    s, w = f64(1.0, 0.9, 0.9, 3072.0, 0.25), f64(0.0, 8.0, -2.0, 0.0, 8.03)
    expected = [0.0003255208333, -7.126672465, 2.000039649, 1.0, -7.780021023]
    assert adaptive_weighting(s, w, dim=3072).tolist() == near(expected)


def test_the_density_of_the_time_has_its_golden_values_and_integrates_to_1() -> None:
    got = trigflow_time_density(f64(0.01, 0.1, 0.5, 1.1, 1.5))
    assert got.tolist() == near([0.2558288074, 1.042051234, 0.6621435951, 0.5511230495, 0.4365486728])
    with mpmath.workdps(30):
        # In u, the probability below, log(sd tan t) = P_mean + P_std Phi^-1(u), so dt/du is known in closed form.
        for u, quantile in ((0.01, 0.028325089), (0.5, 0.6343243192), (0.999, 1.552835819)):
            z = mpmath.sqrt(2) * mpmath.erfinv(2 * mpmath.mpf(u) - 1)
            t = mpmath.atan(2 * mpmath.exp(mpmath.mpf("-1") + mpmath.mpf("1.4") * z))
            assert float(t) == pytest.approx(quantile, rel=GOLDEN)
            slope = mpmath.sin(t) * mpmath.cos(t) * 1.4 * mpmath.sqrt(2 * mpmath.pi) * mpmath.exp(z**2 / 2)
            assert trigflow_time_density(f64(float(t))).tolist() == pytest.approx([float(1 / slope)], rel=1e-10)


def exact(mean: float, std: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the consistency function of N(mean, std^2)."""

    def f(x: Tensor, t: Tensor) -> Tensor:
        t = t.reshape(-1, *(1 for _ in x.shape[1:]))
        return mean + std * (x - mean * t.cos()) / torch.sqrt(std**2 * t.cos() ** 2 + 0.25 * t.sin() ** 2)

    return f


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((math.pi / 2,), 1.1),
        ((math.atan(160.0),), 1.096960153),
        ((math.atan(160.0), 1.1), 0.1829156638),
        ((math.atan(160.0), 1.1, 0.4), 0.2889918119),
    ],
)
def test_samples_have_their_golden_values(times: tuple[float, ...], expected: float) -> None:
    noises = 0.5 * f64(1.0, -1.0, 0.5)[: len(times)].reshape(-1, 1, 1)
    assert float(trigflow_sample(exact(0.3, 0.8), noises, f64(*times))) == pytest.approx(expected, rel=GOLDEN)


def test_a_network_that_is_0_scales_by_the_cosine() -> None:
    def f(x: Tensor, t: Tensor) -> Tensor:
        return trigflow_parameterization(lambda y, _: 0 * y, x, t)

    noises = 0.5 * f64(1.0, -1.0).reshape(-1, 1, 1)
    got = float(trigflow_sample(f, noises, f64(math.atan(160.0), 1.1)))
    assert got == pytest.approx(-0.2014811591, rel=GOLDEN)


def test_times_of_float64_serve_images_of_float32() -> None:
    seen = []

    def network(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x.dtype, t.dtype))
        return (x * t[:, None]).tanh()

    x, velocity, t, t_low = torch.ones(2, 3), torch.ones(2, 3), f64(0.5, 1.1), f64(0.2, 0.7)
    values = [
        trigflow_interpolant(x, x, t),
        trigflow_velocity(x, x, t),
        trigflow_parameterization(network, x, t),
        trigflow_step(x, velocity, t, t_low),
        trigflow_difference(network, x, t, t_low, velocity),
        *trigflow_tangent(network, x, t, velocity),
    ]
    assert {value.dtype for value in values} == {torch.float32}
    assert set(seen) == {(torch.float32, torch.float32)}


def test_steps_can_be_vectorized_over_each_of_their_times() -> None:
    x, velocity, t, t_low = f64(1.0, -2.0)[None], f64(0.5, 1.0)[None], f64(1.1), f64(0.7)
    step = trigflow_step(x, velocity, t, t_low)
    by_low = torch.func.vmap(lambda low: trigflow_step(x, velocity, t, low))(t_low[None])
    by_high = torch.func.vmap(lambda high: trigflow_step(x, velocity, high, t_low))(t[None])
    torch.testing.assert_close(by_low[0], step)
    torch.testing.assert_close(by_high[0], step)


def test_the_density_of_the_time_is_0_where_its_divisors_underflow() -> None:
    density = trigflow_time_density(f64(1e-29, 0.75), p_mean=-1.0, p_std=1e-300)
    assert torch.equal(density, f64(0.0, 0.0))
