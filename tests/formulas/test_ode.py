"""The probability flow ODE and its steps.

Oracle: closed forms; SciPy's DOP853.
Ingredients: sigma_grid.
"""

import itertools
import math

import pytest
import torch
from jaxtyping import TypeCheckError
from scipy.integrate import solve_ivp
from torch import Tensor

from ict_ref.formulas import consistency_matching_loss, euler_step, heun_step, probability_flow_drift, sigma_grid

# Two modes in one dimension: 0.3 N(-1, 0.2^2) + 0.7 N(0.5, 0.4^2).
MODES = ((0.3, -1.0, 0.2), (0.7, 0.5, 0.4))


def mixture_score(x: float, sigma: float) -> float:
    parts = []
    for weight, mean, deviation in MODES:
        variance = deviation**2 + sigma**2
        parts.append((weight * math.exp(-((x - mean) ** 2) / (2 * variance)) / math.sqrt(variance), mean, variance))
    total = sum(part for part, _, _ in parts)
    return sum(part / total * (mean - x) / variance for part, mean, variance in parts)


def score(x: Tensor, sigma: Tensor) -> Tensor:
    values = [mixture_score(a, s) for a, s in zip(x.flatten().tolist(), sigma.tolist(), strict=True)]
    return torch.tensor(values, dtype=x.dtype).reshape(x.shape)


def solved(start: float, high: float, low: float) -> float:
    # Eq. (1) by an eighth-order method at 1e-12, from more noise to less.
    solution = solve_ivp(
        lambda sigma, x: [-sigma * mixture_score(float(x[0]), sigma)],
        (high, low),
        [start],
        "DOP853",
        rtol=1e-12,
        atol=1e-12,
    )
    return float(solution.y[0, -1])


def walked(method: str, start: float, levels: Tensor) -> float:
    x = torch.tensor([[start]], dtype=torch.float64)
    for high, low in zip(levels.flip(0)[:-1], levels.flip(0)[1:], strict=True):
        sigma_hi, sigma_lo = high.reshape(1), low.reshape(1)
        if method == "euler":
            x = euler_step(x, sigma_hi, sigma_lo, score(x, sigma_hi))
        else:
            x = heun_step(x, sigma_hi, sigma_lo, score)
    return float(x)


@pytest.mark.parametrize("start", [-6.0, 0.4, 5.0])
def test_steps_down_a_grid_converge_to_the_solution_of_the_ode(start: float) -> None:
    truth = solved(start, 4.0, 0.05)
    for method, order in (("euler", 1), ("heun", 2)):
        errors = [
            abs(walked(method, start, sigma_grid(n + 1, sigma_min=0.05, sigma_max=4.0)) - truth)
            for n in (200, 400, 800)
        ]
        for coarse, fine in itertools.pairwise(errors):
            assert coarse / fine == pytest.approx(2**order, rel=0.15), method


def test_the_drift_of_a_mixture_is_minus_sigma_times_its_score() -> None:
    x, sigma = torch.tensor([[-1.2], [0.3]], dtype=torch.float64), torch.tensor([0.5, 2.0], dtype=torch.float64)
    expected = [[-0.5 * mixture_score(-1.2, 0.5)], [-2.0 * mixture_score(0.3, 2.0)]]
    torch.testing.assert_close(probability_flow_drift(x, sigma, score), torch.tensor(expected, dtype=torch.float64))


def test_one_step_of_each_method_by_hand() -> None:
    # score = -x, from sigma 2 to 1 at x = 3: Euler 3 - (1 - 2) 2 (-3) = -3. Drifts -2 (-3) = 6 at the start and
    # -1 * 3 = -3 at Euler's point -3; Heun 3 + (1 - 2) (6 - 3) / 2 = 1.5.
    x, two, one = torch.tensor([[3.0]]), torch.tensor([2.0]), torch.tensor([1.0])
    assert euler_step(x, two, one, -x).tolist() == [[-3.0]]
    assert heun_step(x, two, one, lambda y, _: -y).tolist() == [[1.5]]


def test_the_matching_loss_agrees_with_a_loop() -> None:
    sigmas = [0.1, 0.4, 1.0, 3.0]
    weights = [5.0, 2.0, 0.5]
    x_hi, index = [0.7, -2.0, 4.0], [2, 0, 1]

    def network(gain: float, x: float, sigma: float) -> float:
        return gain * x / (1 + sigma) + sigma

    expected = []
    for x, i in zip(x_hi, index, strict=True):
        low, high = sigmas[i], sigmas[i + 1]
        euler = x - (low - high) * high * mixture_score(x, high)
        expected.append(weights[i] * (network(0.9, x, high) - network(1.1, euler, low)) ** 2)
    loss = consistency_matching_loss(
        lambda x, s: 0.9 * x / (1 + s[:, None]) + s[:, None],
        lambda x, s: 1.1 * x / (1 + s[:, None]) + s[:, None],
        score,
        torch.tensor(x_hi, dtype=torch.float64)[:, None],
        torch.tensor(index),
        torch.tensor(sigmas, dtype=torch.float64),
        distance=lambda a, b: (a - b).square().sum(1),
        weights=torch.tensor(weights, dtype=torch.float64),
    )
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64), rtol=1e-13, atol=0)


def test_steps_of_another_number_of_examples_are_rejected() -> None:
    x, one = torch.ones(2, 3), torch.ones(3)
    with pytest.raises((ValueError, TypeCheckError)):
        euler_step(x, one, one, x)
    with pytest.raises((ValueError, TypeCheckError)):
        heun_step(x, one, one, lambda y, _: y)
