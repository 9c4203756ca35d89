"""Misprints and gaps of the papers of iCT's successors: the consequences of the printed form and of the form used here.

docs/paper_and_code.md has a row for each of these; the number in a test's name is the row's.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ict_ref.formulas import (
    adaptive_weights,
    c_noise,
    consistency_tuning_loss,
    ect_exponent,
    normalized_tangent,
    pseudo_huber,
    squared_l2,
    trigflow_interpolant,
    trigflow_step,
    trigflow_tangent,
    trigflow_time_density,
    trigflow_velocity,
)
from ict_ref.networks.weighting import FEATURES, WeightingNetwork


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_e1_the_adaptive_weight_gives_the_gradient_of_pseudo_huber_for_the_square_of_c_alone() -> None:
    x, y, c = f64(0.3, -0.1, 0.02).reshape(1, 3).requires_grad_(), torch.zeros(1, 3, dtype=torch.float64), 0.06
    (huber,) = torch.autograd.grad(pseudo_huber(x, y, c=c).sum(), x)
    (weighted,) = torch.autograd.grad((adaptive_weights(x, y, c=c) / 2 * squared_l2(x, y)).sum(), x)
    torch.testing.assert_close(weighted, huber, rtol=1e-13, atol=0)
    literal = (squared_l2(x, y).detach() + c) ** -0.5
    (other,) = torch.autograd.grad((literal / 2 * squared_l2(x, y)).sum(), x)
    # The norm is .3169: sqrt(.1004 + .0036) = .3225 and sqrt(.1004 + .06) = .4005
    assert float((other / huber).max()) < 0.81


def test_e2_an_exponent_of_0_would_denoise_at_every_level() -> None:
    # n(t) = 1 + 8 / (1 + e^t) > 1, so 1 - n/q^0 < 0 and r = 0 even at t = 80, where stage 0 has r = 40
    d = 25_000
    ceiled = [-(-k // d) for k in (0, 1, d, d + 1)]
    assert ceiled == [0, 1, 1, 2]
    assert [ect_exponent(k, steps_per_stage=d) for k in (0, 1, d, d + 1)] == [1, 1, 2, 2]


def test_e3_the_target_of_level_0_is_x_because_c_noise_is_not_finite_there() -> None:
    assert float(torch.zeros((), dtype=torch.float64).log() / 4) == -float("inf")

    def network(x: Tensor, t: Tensor) -> Tensor:
        return x + c_noise(t)[:, None]  # which refuses 0

    x = torch.ones(2, 3, dtype=torch.float64)
    t, r = f64(1.0, 1.0), f64(0.0, 0.0)
    loss = consistency_tuning_loss(network, network, x, x, t, r, distance=squared_l2, weights=f64(1.0, 1.0))
    # c_noise(1) = 0: f = x + z, the target is x
    assert loss.tolist() == [3.0, 3.0]


def test_s1_forward_mode_has_the_factor_sigma_data_that_section_5_1_leaves_out() -> None:
    def network(y: Tensor, t: Tensor) -> Tensor:
        return y * t[:, None] + y.cos()

    x, v, t, std = f64(0.3, -0.8).reshape(1, 2), f64(0.4, 0.2).reshape(1, 2), f64(0.7), 0.8
    factor = t.cos() * t.sin()
    forward = torch.func.jvp(network, (x / std, t), (factor * v, factor * std))[1]
    h = 1e-6
    ahead, behind = (network((x + s * v) / std, t + s) for s in (h, -h))
    printed = factor * (ahead - behind) / (2 * h)
    torch.testing.assert_close(forward, std * printed, rtol=1e-8, atol=0)
    # The slow term is g(1) - g(0) = -(cos t sin t x + forward).
    slow = trigflow_tangent(network, x, t, v, sigma_data=std)[1]
    slow = slow - trigflow_tangent(network, x, t, v, sigma_data=std, warmup=0.0)[1]
    torch.testing.assert_close(slow, -(factor * x + forward), rtol=1e-12, atol=0)


def test_s2_the_printed_law_of_the_time_is_none() -> None:
    # exp(sigma_data tan t) >= 1, but N(-1, 1.4^2) is below 1 with probability Phi(2 / 1.4) = .923
    t = torch.linspace(0.0, 1.57, 1000, dtype=torch.float64)
    assert float((0.5 * t.tan()).exp().min()) >= 1
    assert 0.5 * math.erfc(-2 / 1.4 / math.sqrt(2)) == pytest.approx(0.923, abs=1e-3)
    # The one used here is a density: by the midpoint rule in t.
    middle = (torch.arange(200_000, dtype=torch.float64) + 0.5) * (math.pi / 2) / 200_000
    assert float(trigflow_time_density(middle).mean()) * math.pi / 2 == pytest.approx(1.0, abs=1e-4)


def test_s3_the_step_turns_the_point_that_it_starts_from() -> None:
    x0, z, t = f64(0.3, -0.7).reshape(1, 2), f64(-0.2, 0.4).reshape(1, 2), f64(0.9)
    x, v = trigflow_interpolant(x0, z, t), trigflow_velocity(x0, z, t)
    torch.testing.assert_close(trigflow_step(x, v, t, f64(0.0)), x0, rtol=1e-13, atol=0)
    # As printed, x' = cos(h) x' - sin(h) v, so x' = -sin(h) v / (1 - cos(h)): not on the path
    literal = -math.sin(0.9) * v / (1 - math.cos(0.9))
    assert float((literal - x0).abs().min()) > 0.3


def test_s4_the_root_mean_square_makes_c_55_times_smaller() -> None:
    g = torch.ones(1, 3072, dtype=torch.float64)
    by_norm, rms = normalized_tangent(g), g / (g.square().mean().sqrt() + 0.1)
    # sqrt(d) N(g; c sqrt(d)) is the variant of the root mean square
    torch.testing.assert_close(rms, math.sqrt(3072) * normalized_tangent(g, c=0.1 * math.sqrt(3072)))
    assert float(rms[0, 0] / by_norm[0, 0]) == pytest.approx(0.9090909091 / 0.01800970245, rel=1e-8)


def test_s5_the_weighting_network_is_0_at_first_and_a_sum_of_128_random_cosines() -> None:
    network, t = WeightingNetwork(np.random.default_rng(1)), torch.tensor([0.1, 0.7, 1.5])
    assert network(t).tolist() == [0, 0, 0]
    assert FEATURES == 128
    with torch.no_grad():
        network.linear.weight.fill_(1.0)
        expected = sum(
            math.sqrt(2) * torch.cos(2 * math.pi * (f * t + p))
            for f, p in zip(network.frequencies.tolist(), network.phases.tolist(), strict=True)
        )
        torch.testing.assert_close(network(t), expected, rtol=1e-4, atol=1e-4)
