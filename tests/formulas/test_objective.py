"""The consistency training loss and the teacher's average.

Oracle: loops in plain Python; SciPy's DOP853 for Eq. (1).
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from scipy.integrate import solve_ivp
from torch import Tensor

from ict_ref.formulas import consistency_training_loss, ema_update

Network = Callable[[Tensor, Tensor], Tensor]

LEVELS = [0.002, 0.1, 0.35, 2.0, 9.0]
GAPS_INVERTED = [1 / (b - a) for a, b in pairwise(LEVELS)]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def squared_distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).reshape(len(a), -1).square().sum(1)


def lopsided_distance(a: Tensor, b: Tensor) -> Tensor:
    return (2 * a - b).reshape(len(a), -1).sum(1)


def column(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def ct_loss(
    student: Network,
    teacher: Network,
    x: Tensor,
    z: Tensor,
    intervals: list[int],
    *,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    distance: Callable[[Tensor, Tensor], Tensor] = squared_distance,
) -> Tensor:
    index, sigmas = torch.tensor(intervals), f64(*LEVELS)
    return consistency_training_loss(student, teacher, x, z, index, sigmas, distance=distance, weights=f64(*weights))


def affine(slope: float, shift: float, power: float) -> Network:
    return lambda x, sigma: slope * x + shift * column(sigma, x) ** power


def gaussian_consistency_function(mean: float, deviation: float, sigma_min: float) -> Network:
    def f(x: Tensor, sigma: Tensor) -> Tensor:
        ratio = (deviation**2 + sigma_min**2) / (deviation**2 + column(sigma, x) ** 2)
        return mean + ratio.sqrt() * (x - mean)

    return f


def flow_of_data_at_one_point(point: float, sigma_min: float) -> Network:
    # Eq. (1) in the time t that takes sigma(t) = sigma^(1-t) sigma_min^t from every level to sigma_min at t = 1.
    # Around data at one point the score is (point - x) / sigma^2.
    def f(x: Tensor, sigma: Tensor) -> Tensor:
        start = np.array(sigma.tolist())
        speed = np.log(sigma_min / start)

        def drift(t: float, state: np.ndarray) -> np.ndarray:
            level = start * np.exp(speed * t)
            score = (point - state) / level**2
            return np.asarray(-level * score * level * speed)

        solution = solve_ivp(drift, (0.0, 1.0), np.array(x.tolist()), method="DOP853", rtol=1e-12, atol=1e-13)
        return f64(*solution.y[:, -1].tolist())

    return f


@pytest.mark.parametrize("shape", [(6,), (6, 3), (6, 2, 2, 2)])
def test_the_loss_agrees_with_a_loop_over_examples_and_pixels(shape: tuple[int, ...]) -> None:
    x, z = normal(*shape, seed=1), normal(*shape, seed=2)
    intervals = [0, 3, 1, 1, 2, 0]
    expected = []
    for a, noise, j in zip(x.reshape(6, -1).tolist(), z.reshape(6, -1).tolist(), intervals, strict=True):
        low, high = LEVELS[j], LEVELS[j + 1]
        total = 0.0
        for p, q in zip(a, noise, strict=True):
            by_student = 1.25 * (p + high * q) + 0.5 * high
            by_teacher = -0.75 * (p + low * q) + 2.0 * low**2
            total += 2 * by_student - by_teacher
        expected.append(GAPS_INVERTED[j] * total)
    got = ct_loss(
        affine(1.25, 0.5, 1.0),
        affine(-0.75, 2.0, 2.0),
        x,
        z,
        intervals,
        distance=lopsided_distance,
        weights=GAPS_INVERTED,
    )
    assert got.shape == (6,)
    assert got.tolist() == pytest.approx(expected, rel=1e-12)


def test_the_networks_get_one_pair_of_points_on_one_noise_ray() -> None:
    seen: dict[str, list[tuple[Tensor, Tensor]]] = {"student": [], "teacher": []}

    def recorder(name: str) -> Network:
        def network(x: Tensor, sigma: Tensor) -> Tensor:
            seen[name].append((x.detach(), sigma.detach()))
            return x

        return network

    x, z = normal(4, 3, 2, seed=3), normal(4, 3, 2, seed=4)
    ct_loss(recorder("student"), recorder("teacher"), x, z, [3, 0, 2, 1])
    ((x_high, high),) = seen["student"]
    ((x_low, low),) = seen["teacher"]
    assert high.shape == low.shape == (4,)
    assert high.tolist() == [9.0, 0.1, 2.0, 0.35]
    assert low.tolist() == [2.0, 0.002, 0.35, 0.1]
    for j in range(4):
        torch.testing.assert_close(x_high[j], x[j] + high[j].item() * z[j], rtol=1e-14, atol=1e-14)
        torch.testing.assert_close(x_low[j], x[j] + low[j].item() * z[j], rtol=1e-14, atol=1e-14)


def test_the_loss_computes_in_the_precision_of_the_data() -> None:
    dtypes: list[torch.dtype] = []

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        dtypes.append(x.dtype)
        return x

    x, z = normal(2, 3, seed=5).float(), normal(2, 3, seed=6).float()
    got = ct_loss(network, network, x, z, [0, 3], weights=GAPS_INVERTED)
    assert dtypes == [torch.float32, torch.float32]
    assert got.dtype == torch.float32
    # x_high - x_low = (sigma_high - sigma_low) z, squared and divided by the gap
    expected = [(LEVELS[j + 1] - LEVELS[j]) * math.fsum(v * v for v in z[b].tolist()) for b, j in enumerate([0, 3])]
    assert got.tolist() == pytest.approx(expected, rel=1e-4)


def test_no_gradient_reaches_the_teacher() -> None:
    student_slope, teacher_slope = f64(1.5).requires_grad_(), f64(0.5).requires_grad_()

    def student(point: Tensor, sigma: Tensor) -> Tensor:
        return student_slope * point

    def teacher(point: Tensor, sigma: Tensor) -> Tensor:
        return teacher_slope * point

    loss = ct_loss(student, teacher, f64(0.3, -1.0), f64(1.2, 0.4), [1, 3], weights=[1.0, 2.0, 3.0, 4.0])
    torch.autograd.backward(loss.sum())
    assert teacher_slope.grad is None or teacher_slope.grad.tolist() == [0.0]
    # d/da w (a p - b q)^2 = 2 w p (a p - b q); p is the student's point, q the teacher's.
    expected = 0.0
    for p_x, p_z, j in [(0.3, 1.2, 1), (-1.0, 0.4, 3)]:
        p, q = p_x + LEVELS[j + 1] * p_z, p_x + LEVELS[j] * p_z
        expected += 2 * (j + 1) * p * (1.5 * p - 0.5 * q)
    assert student_slope.grad is not None
    assert student_slope.grad.item() == pytest.approx(expected, rel=1e-13)


def test_one_network_in_both_roles_learns_as_the_student_only() -> None:
    # For f = a x the loss is a^2 gap^2 z^2. Its gradient with a fixed teacher is 2 a gap z (x + sigma_high z).
    slope = f64(0.8).requires_grad_()

    def network(point: Tensor, sigma: Tensor) -> Tensor:
        return slope * point

    loss = ct_loss(network, network, f64(0.5), f64(-1.5), [2])
    (gradient,) = torch.autograd.grad(loss.sum(), slope)
    assert gradient.item() == pytest.approx(2 * 0.8 * (2.0 - 0.35) * -1.5 * (0.5 + 2.0 * -1.5), rel=1e-13)


def test_the_loss_is_zero_for_the_integrated_flow_of_data_at_one_point() -> None:
    z = f64(-2.0, -0.3, 0.0, 0.7, 1.9, 1.0, -1.0)
    flow = flow_of_data_at_one_point(0.6, 0.002)
    loss = ct_loss(flow, flow, torch.full_like(z, 0.6), z, [0, 1, 2, 3, 3, 2, 0])
    assert max(loss.tolist()) < 1e-18


@pytest.mark.parametrize("interval", [0, 1, 2, 3])
def test_the_expected_loss_of_the_gaussian_consistency_function_has_its_closed_form(interval: int) -> None:
    # Let x ~ N(mu, s^2) and r(sigma) = sqrt((s^2 + sigma_min^2) / (s^2 + sigma^2)). The difference of the outputs is
    # (r_high - r_low) (x - mu) + (r_high sigma_high - r_low sigma_low) z: two independent Gaussians. It is not zero,
    # because x + sigma z with one z is not a trajectory of Eq. (1). Three Gauss-Hermite nodes are exact for a square.
    mean, deviation, sigma_min = -0.4, 0.5, LEVELS[0]
    nodes, masses = [-math.sqrt(3), 0.0, math.sqrt(3)], [1 / 6, 2 / 3, 1 / 6]
    x = f64(*(mean + deviation * a for a, _ in product(nodes, nodes)))
    z = f64(*(b for _, b in product(nodes, nodes)))
    f = gaussian_consistency_function(mean, deviation, sigma_min)
    loss = ct_loss(f, f, x, z, [interval] * 9, weights=GAPS_INVERTED)
    got = math.fsum(p * q * v for (p, q), v in zip(product(masses, masses), loss.tolist(), strict=True))
    low, high = LEVELS[interval], LEVELS[interval + 1]
    r_low, r_high = (math.sqrt((deviation**2 + sigma_min**2) / (deviation**2 + s * s)) for s in (low, high))
    variance = (r_high - r_low) ** 2 * deviation**2 + (r_high * high - r_low * low) ** 2
    assert got == pytest.approx(GAPS_INVERTED[interval] * variance, rel=1e-11)


def loss_with(
    x: Tensor | None = None,
    z: Tensor | None = None,
    index: Tensor | None = None,
    sigmas: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    return consistency_training_loss(
        lambda point, sigma: point,
        lambda point, sigma: point,
        torch.zeros(2, 3) if x is None else x,
        torch.ones(2, 3) if z is None else z,
        torch.tensor([0, 1]) if index is None else index,
        f64(0.1, 1.0, 2.0) if sigmas is None else sigmas,
        distance=squared_distance,
        weights=f64(1.0, 1.0) if weights is None else weights,
    )


@pytest.mark.parametrize("index", [(0, 2), (-1, 0), (0, 100)])
def test_an_index_outside_the_intervals_is_rejected(index: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="index"):
        loss_with(index=torch.tensor(index))


@pytest.mark.parametrize("levels", [(2.0, 1.0, 0.1), (0.1, 0.1, 2.0), (0.1, math.nan, 2.0), (0.1, 1.0, math.inf)])
def test_levels_that_are_not_an_ascending_grid_are_rejected(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="sigma"):
        loss_with(sigmas=f64(*levels))


def test_arguments_of_different_lengths_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        loss_with(z=torch.ones(3, 3))
    with pytest.raises((ValueError, TypeCheckError)):
        loss_with(z=torch.ones(2, 1))
    with pytest.raises((ValueError, TypeCheckError)):
        loss_with(index=torch.tensor([0]))
    with pytest.raises((ValueError, TypeCheckError)):
        loss_with(weights=f64(1.0, 1.0, 1.0))


def test_the_average_keeps_its_decay_share() -> None:
    # 0.75 * 8 + 0.25 * 4 = 7 and 0.75 * -4 + 0.25 * 12 = 0, exact in binary
    got = ema_update(torch.tensor([8.0, -4.0]), torch.tensor([4.0, 12.0]), decay=0.75)
    assert got.tolist() == [7.0, 0.0]
    assert got.dtype == torch.float32


def test_a_decay_of_zero_gives_the_value() -> None:
    value = normal(2, 3, seed=7)
    assert torch.equal(ema_update(normal(2, 3, seed=8), value, decay=0.0), value)


def test_repeated_averaging_of_a_constant_has_its_closed_form() -> None:
    # a_n = v + decay^n (a_0 - v)
    average, value, decay = f64(5.0, -1.0), f64(2.0, 3.0), 0.9
    for _ in range(20):
        average = ema_update(average, value, decay=decay)
    expected = [v + 0.9**20 * (a - v) for a, v in [(5.0, 2.0), (-1.0, 3.0)]]
    assert average.tolist() == pytest.approx(expected, rel=1e-13)


def test_averaging_stops_the_gradient_and_leaves_its_arguments_alone() -> None:
    average, value = f64(8.0).requires_grad_(), f64(4.0).requires_grad_()
    got = ema_update(average, value, decay=0.5)
    assert not got.requires_grad
    assert got.grad_fn is None
    assert (got.item(), average.item(), value.item()) == (6.0, 8.0, 4.0)
    plain = f64(8.0)
    ema_update(plain, f64(4.0), decay=0.5)
    assert plain.item() == 8.0


@pytest.mark.parametrize("decay", [-0.1, 1.5, math.nan, math.inf])
def test_a_decay_outside_the_unit_interval_is_rejected(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        ema_update(f64(1.0), f64(2.0), decay=decay)


def test_averages_of_different_shapes_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        ema_update(torch.ones(2, 3), torch.ones(3), decay=0.5)
