"""The identities that tie iCT's successors to each other and to iCT; limits by their order of convergence."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from ict_ref.formulas import (
    consistency_training_loss,
    consistency_tuning_loss,
    continuous_consistency_training_loss,
    ect_mapping,
    gap_weights,
    inverse_gap_weights,
    l2,
    multistep_sample,
    probability_flow_drift,
    scm_loss,
    sigma_grid,
    squared_l2,
    trigflow_parameterization,
    trigflow_sample,
    trigflow_tangent,
    trigflow_time,
    truncated,
)
from properties.law_of import law_of

STD = 0.5


def f64(*values: float) -> Tensor:
    """Return a float64 vector."""
    return torch.tensor(values, dtype=torch.float64)


def normal(seed: int) -> Tensor:
    """Return three examples of two values."""
    return torch.randn(3, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


x, z, sigma = normal(1), normal(2), f64(0.3, 1.0, 4.0)


def network(theta: Tensor, y: Tensor, t: Tensor) -> Tensor:
    """Return F(y, t) for two parameters."""
    return theta[0] * torch.tanh(y) + theta[1] * y * t.cos()[:, None] + 0.3 * torch.sin(2 * y)


def consistency(theta: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
    """Return f(x_sigma, sigma): TrigFlow's parameterization at the angle of the level, of cos(t) x_sigma."""
    t = trigflow_time(level, sigma_data=STD)
    return trigflow_parameterization(partial(network, theta), t.cos()[:, None] * noisy, t, sigma_data=STD)


def gradient(loss: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the gradient of the sum of a loss in the parameters."""
    theta = f64(0.7, -0.4).requires_grad_()
    (found,) = torch.autograd.grad(loss(theta).sum(), theta)
    return found


def tuning(theta: Tensor, exponent: int, distance: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return ECT's loss at an exponent, with the weights 1/(t - r) of squared_l2, or 1."""
    f, r = partial(consistency, theta), ect_mapping(sigma, exponent=exponent)
    weights = gap_weights(sigma, r) if distance is squared_l2 else torch.ones_like(sigma)
    return consistency_tuning_loss(f, f, x, z, sigma, r, distance=distance, weights=weights)


def errors(limit: Tensor, exponents: tuple[int, int, int], distance: Callable[[Tensor, Tensor], Tensor]) -> list[float]:
    """Return the distance of the gradient of ECT's loss from a limit at each exponent."""

    def loss(exponent: int) -> Callable[[Tensor], Tensor]:
        return lambda theta: tuning(theta, exponent, distance)

    return [float((gradient(loss(exponent)) - limit).norm()) for exponent in exponents]


@law_of("consistency_tuning_loss", "gap_weights", "continuous_consistency_training_loss")
def test_ect_goes_to_consistency_training_in_continuous_time() -> None:
    """The gradient of E8 with squared_l2 goes to that of CM's Theorem 6 with weight 1; its error is O(q^-a)."""
    limit = gradient(
        lambda theta: continuous_consistency_training_loss(
            partial(consistency, theta), x, z, sigma, weights=torch.ones(3).double(), distance=squared_l2
        )
    )
    found = errors(limit, (10, 11, 12), squared_l2)
    assert found[0] < 0.05 * float(limit.norm())
    assert found[0] / found[1] == pytest.approx(2.0, rel=0.02)
    assert found[1] / found[2] == pytest.approx(2.0, rel=0.02)


def in_trigflow() -> tuple[Tensor, Tensor, Tensor]:
    """Return x_t, t and v of the examples: x_t = cos(t) (x + sigma z), v = cos(t) sigma_data z - sin(t) x."""
    t = trigflow_time(sigma, sigma_data=STD)
    cos, sin = t.cos()[:, None], t.sin()[:, None]
    return cos * x + sin * STD * z, t, cos * STD * z - sin * x


@law_of("trigflow_tangent", "continuous_consistency_training_loss")
def test_the_unnormalised_tangent_is_consistency_training_in_continuous_time() -> None:
    """-2 g . F has the gradient of CM's Theorem 6 for squared_l2 and the weight 1/(sin t cos t), r = 1."""
    x_t, t, v = in_trigflow()
    weights = 1 / (t.sin() * t.cos())
    torch.testing.assert_close(weights, (sigma**2 + STD**2) / (sigma * STD))

    def loss(theta: Tensor) -> Tensor:
        value, g = trigflow_tangent(partial(network, theta), x_t, t, v, sigma_data=STD)
        return -2 * value * g

    expected = gradient(
        lambda theta: continuous_consistency_training_loss(
            partial(consistency, theta), x, z, sigma, weights=weights, distance=squared_l2
        )
    )
    torch.testing.assert_close(gradient(loss), expected, rtol=1e-10, atol=0)


@law_of("consistency_tuning_loss", "l2", "scm_loss")
def test_ect_with_l2_goes_to_scm_without_constant_and_warm_up() -> None:
    """For c to 0, e^w = d sigma_data sin(t) / 2 and r = 1 sCM has the limit of the gradient of ECT, l2, w = 1."""
    x_t, t, v = in_trigflow()
    w = (2 * STD * t.sin() / 2).log()
    limit = gradient(lambda theta: scm_loss(partial(network, theta), x_t, t, v, w, c=1e-14, warmup=1.0, sigma_data=STD))
    found = errors(limit, (11, 12, 13), l2)
    assert found[0] < 0.05 * float(limit.norm())
    assert found[0] / found[1] == pytest.approx(2.0, rel=0.05)
    assert found[1] / found[2] == pytest.approx(2.0, rel=0.05)


@law_of("consistency_tuning_loss", "truncated", "consistency_training_loss")
def test_ect_on_a_grid_and_tcm_at_the_lowest_cut_are_ict_bit_for_bit() -> None:
    """Neighbouring levels and the cut sigma_min give the training loss of iCT, to the last bit."""
    sigmas, index = sigma_grid(11), torch.tensor([0, 4, 9])
    weights = inverse_gap_weights(sigmas)
    f, f0 = (partial(consistency, f64(*theta)) for theta in ((0.7, -0.4), (0.1, 0.2)))
    expected = consistency_training_loss(f, f, x, z, index, sigmas, distance=squared_l2, weights=weights)
    t, r = sigmas[index + 1], sigmas[index]
    assert torch.equal(consistency_tuning_loss(f, f, x, z, t, r, distance=squared_l2, weights=weights[index]), expected)

    def whole(at: Tensor, level: Tensor) -> Tensor:
        return truncated(f, f0, at, level, sigma_cut=0.002)

    got = consistency_training_loss(whole, whole, x, z, index, sigmas, distance=squared_l2, weights=weights)
    assert torch.equal(got, expected)


@law_of("trigflow_sample", "multistep_sample")
def test_sampling_in_trigflow_is_multistep_sampling_for_sigma_min_to_0() -> None:
    """The difference from CM's Algorithm 1 is O(sigma_min^2)."""
    f = partial(consistency, f64(0.7, -0.4))
    noises, levels = torch.stack([normal(3), normal(4)]), f64(80.0, 0.8)

    def in_angles(at: Tensor, t: Tensor) -> Tensor:
        return trigflow_parameterization(partial(network, f64(0.7, -0.4)), at, t, sigma_data=STD)

    expected = trigflow_sample(in_angles, STD * noises, trigflow_time(levels, sigma_data=STD))
    found = [
        float((multistep_sample(f, noises, levels, sigma_min=least) - expected).abs().max()) for least in (0.02, 0.01)
    ]
    assert found[0] < 1e-3
    assert found[0] / found[1] == pytest.approx(4.0, rel=0.01)


@law_of("trigflow_tangent")
@pytest.mark.parametrize("std", [0.2, 0.5, 1.3])
def test_the_tangent_is_0_for_normal_data_with_the_velocity_of_the_ode_which_is_the_mean_of_the_path_s(
    std: float,
) -> None:
    """For N(m, s^2) and its exact f g = 0 with PF's v, which is E[v | x_t]; g is affine in v, so its mean is 0."""
    x_t, t, _ = in_trigflow()
    mean, cos, sin = 0.3, t.cos()[:, None], t.sin()[:, None]
    variance = std**2 * cos**2 + STD**2 * sin**2
    away = x_t - mean * cos
    of_data, of_noise = mean + std**2 * cos / variance * away, STD**2 * sin / variance * away
    v = cos * of_noise - sin * of_data
    # PF: v = -sin(t) x_sigma + (sigma_data / cos t) dx_sigma/dsigma
    drift = probability_flow_drift(x_t / cos, sigma, lambda y, s: (mean - y) / (std**2 + s[:, None] ** 2))
    torch.testing.assert_close(v, -sin * x_t / cos + STD / cos * drift, rtol=1e-10, atol=1e-12)

    def exact(y: Tensor, angle: Tensor) -> Tensor:
        c, s = angle.cos()[:, None], angle.sin()[:, None]
        at = STD * y
        f = mean + std * (at - mean * c) / (std**2 * c**2 + STD**2 * s**2).sqrt()
        return (c * at - f) / (s * STD)

    g = trigflow_tangent(exact, x_t, t, v, sigma_data=STD)[1]
    assert float(g.abs().max()) < 1e-12
    other = trigflow_tangent(exact, x_t, t, v + 0.1, sigma_data=STD)[1]
    assert float(other.abs().min()) > 1e-3


MEANS, STDS, PARTS = f64(-0.7, 0.4), f64(0.2, 0.3), f64(0.35, 0.65)


def below(at: Tensor, angle: Tensor) -> Tensor:
    """Return the distribution function of a mixture's x_t at each value."""
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    width = (STDS**2 * cos**2 + STD**2 * sin**2).sqrt()
    found: Tensor = (PARTS * torch.special.ndtr((at[..., None] - MEANS * cos) / width)).sum(-1)
    return found


def quantile(part: Tensor) -> Tensor:
    """Return the quantile of the mixture's data; its derivative is that of one step of Newton's method."""
    low, high = torch.full_like(part, -5.0), torch.full_like(part, 5.0)
    start = torch.zeros(len(part), dtype=torch.float64)
    fixed = part.detach()
    for _ in range(60):
        middle = (low + high) / 2
        is_low = below(middle, start) < fixed
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    at = ((low + high) / 2).detach()
    density = (PARTS * (-(((at[..., None] - MEANS) / STDS) ** 2) / 2).exp() / (STDS * math.sqrt(2 * math.pi))).sum(-1)
    return at - (below(at, start) - part) / density


@law_of("trigflow_tangent")
def test_the_tangent_is_0_for_mixtures_with_the_velocity_of_the_ode() -> None:
    """For numbers the exact f keeps the probability below x_t, f = Q_0(P_t(x)); g = 0 for PF's v = -dP/dt / p."""
    at, t = f64(-0.9, -0.1, 0.2, 0.8).reshape(2, 2), f64(0.4, 1.1)

    def exact(y: Tensor, angle: Tensor) -> Tensor:
        c, s = angle.cos()[:, None], angle.sin()[:, None]
        return (c * STD * y - quantile(below(STD * y, angle))) / (s * STD)

    rate = torch.func.jvp(lambda angle: below(at, angle), (t,), (torch.ones_like(t),))[1]
    density = torch.func.jvp(lambda y: below(y, t), (at,), (torch.ones_like(at),))[1]
    g = trigflow_tangent(exact, at, t, -rate / density, sigma_data=STD)[1]
    assert float(g.abs().max()) < 1e-9
    assert float(trigflow_tangent(exact, at, t, 0 * at, sigma_data=STD)[1].abs().max()) > 1e-2
