"""Laws of the noise levels, their number, their probabilities and their weights."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, example, given
from torch import Tensor

from ict_ref.formulas import (
    exponential_curriculum,
    index_from_uniform,
    inverse_gap_weights,
    lognormal_pmf,
    sigma_grid,
)
from properties.strategies import counts, grids, pmfs, rhos, sigma_maxs, sigma_mins


@given(counts, sigma_mins, sigma_maxs, rhos)
def test_sigma_grid_ends_are_exact(n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """sigma_1 = sigma_min and sigma_N = sigma_max, to the last bit."""
    sigmas = sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    assert sigmas.dtype == torch.float64
    assert len(sigmas) == n
    assert (float(sigmas[0]), float(sigmas[-1])) == (sigma_min, sigma_max)


@given(grids())
def test_sigma_grid_ascends(sigmas: Tensor) -> None:
    """sigma_i < sigma_{i+1}."""
    assert bool((sigmas[1:] > sigmas[:-1]).all())


@given(counts, sigma_mins, sigma_maxs, rhos)
def test_sigma_grid_is_equally_spaced_in_roots(n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """sigma_{i+1}^(1/rho) - sigma_i^(1/rho) is the same for all i."""
    roots = sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho) ** (1 / rho)
    expected = (sigma_max ** (1 / rho) - sigma_min ** (1 / rho)) / (n - 1)
    torch.testing.assert_close(roots.diff(), torch.full_like(roots[1:], expected), rtol=1e-9, atol=1e-12)


@given(counts, sigma_mins, sigma_maxs, rhos)
def test_sigma_grid_keeps_its_nodes_when_refined(n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """Every second node of the grid with 2N - 1 levels is a node of the grid with N."""
    coarse = sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    fine = sigma_grid(2 * n - 1, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    torch.testing.assert_close(fine[::2], coarse, rtol=1e-13, atol=0)


@given(counts, sigma_mins, sigma_maxs)
def test_sigma_grid_is_linear_for_rho_1(n: int, sigma_min: float, sigma_max: float) -> None:
    """Rho = 1: sigma_i = sigma_min + (i-1)/(N-1) (sigma_max - sigma_min)."""
    linear = torch.linspace(sigma_min, sigma_max, n, dtype=torch.float64)
    torch.testing.assert_close(
        sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=1.0), linear, rtol=1e-13, atol=1e-15
    )


curricula = st.tuples(st.integers(1, 40), st.integers(0, 2000), st.integers(1, 500)).map(
    lambda t: {"s0": t[0], "s1": t[0] + t[1], "total_steps": t[2] + math.ceil(math.log2((t[0] + t[1]) // t[0]) + 1)}
)


@given(curricula)
def test_exponential_curriculum_runs_from_s0_to_s1(curriculum: dict[str, int]) -> None:
    """N(0) = s0 + 1 and N(K) = s1 + 1."""
    assert exponential_curriculum(0, **curriculum) == curriculum["s0"] + 1
    assert exponential_curriculum(curriculum["total_steps"], **curriculum) == curriculum["s1"] + 1


@given(curricula)
def test_exponential_curriculum_never_falls(curriculum: dict[str, int]) -> None:
    """N(k) <= N(k + 1), and N is an int."""
    numbers = [exponential_curriculum(k, **curriculum) for k in range(curriculum["total_steps"] + 1)]
    assert numbers == sorted(numbers)
    assert {type(number) for number in numbers} == {int}


@given(curricula)
def test_exponential_curriculum_doubles_or_is_capped(curriculum: dict[str, int]) -> None:
    """Where N changes, N - 1 doubles or reaches s1; the changes are at multiples of the first one, K'."""
    cells = [exponential_curriculum(k, **curriculum) - 1 for k in range(curriculum["total_steps"] + 1)]
    changes = [k for k in range(1, len(cells)) if cells[k] != cells[k - 1]]
    for k in changes:
        assert cells[k] == min(2 * cells[k - 1], curriculum["s1"])
        assert k % changes[0] == 0


@given(st.integers(1, 30), st.integers(0, 10), st.integers(1, 200), st.integers(0, 4000))
def test_exponential_curriculum_changes_every_k_prime_steps(s0: int, doublings: int, k_prime: int, step: int) -> None:
    """s1 = s0 2^m and K = K' (m + 1): N(k) = s0 2^floor(k / K') + 1, up to the cap."""
    total_steps = k_prime * (doublings + 1)
    assume(step <= total_steps)
    expected = s0 * 2 ** min(step // k_prime, doublings) + 1
    assert exponential_curriculum(step, total_steps=total_steps, s0=s0, s1=s0 * 2**doublings) == expected


p_means, p_stds = st.floats(-2.0, 2.0), st.floats(0.5, 4.0)


@given(grids(), p_means, p_stds)
def test_lognormal_pmf_is_normalised(sigmas: Tensor, p_mean: float, p_std: float) -> None:
    """p(i) >= 0 and sum_i p(i) = 1."""
    pmf = lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    assert len(pmf) == len(sigmas) - 1
    assert bool((pmf > 0).all())
    assert abs(float(pmf.sum()) - 1) < 1e-14 * len(pmf)


@given(grids(), p_means, p_stds, st.data())
def test_lognormal_pmf_adds_up_when_cells_merge(
    sigmas: Tensor, p_mean: float, p_std: float, data: st.DataObject
) -> None:
    """Without the level between two cells, the merged cell has the sum of their probabilities."""
    assume(len(sigmas) > 2)
    level = data.draw(st.integers(1, len(sigmas) - 2))
    pmf = lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    merged = lognormal_pmf(torch.cat([sigmas[:level], sigmas[level + 1 :]]), p_mean=p_mean, p_std=p_std)
    expected = torch.cat([pmf[: level - 1], pmf[level - 1 : level + 1].sum().reshape(1), pmf[level + 1 :]])
    torch.testing.assert_close(merged, expected, rtol=1e-10, atol=0)


@given(grids(), p_means, p_stds, st.floats(0.01, 100.0))
def test_lognormal_pmf_is_scale_free(sigmas: Tensor, p_mean: float, p_std: float, scale: float) -> None:
    """Sigma -> a sigma with P_mean -> P_mean + log a changes nothing."""
    pmf = lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    scaled = lognormal_pmf(scale * sigmas, p_mean=p_mean + math.log(scale), p_std=p_std)
    torch.testing.assert_close(scaled, pmf, rtol=1e-8, atol=0)


@given(st.lists(st.floats(0.01, 3.0), min_size=1, max_size=10, unique=True), p_means, p_stds)
def test_lognormal_pmf_is_symmetric_about_its_mean(offsets: list[float], p_mean: float, p_std: float) -> None:
    """On levels exp(P_mean +- t) the probabilities are the same from both ends."""
    half = torch.tensor(sorted(offsets), dtype=torch.float64)
    assume(len(half) < 2 or float(half.diff().min()) > 1e-3)
    pmf = lognormal_pmf(torch.cat([p_mean - half.flip(0), p_mean + half]).exp(), p_mean=p_mean, p_std=p_std)
    torch.testing.assert_close(pmf, pmf.flip(0), rtol=1e-9, atol=0)


uniforms = st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=20)


@given(uniforms, pmfs())
@example([0.0, math.nextafter(1.0, 0.0)], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
def test_index_from_uniform_returns_cells_that_can_occur(u: list[float], pmf: Tensor) -> None:
    """pmf[index] > 0, also at both ends of [0, 1)."""
    index = index_from_uniform(torch.tensor([0.0, *u, math.nextafter(1.0, 0.0)], dtype=torch.float64), pmf)
    assert bool((pmf[index] > 0).all())


@given(uniforms, pmfs())
def test_index_from_uniform_never_falls(u: list[float], pmf: Tensor) -> None:
    """U <= v implies index(u) <= index(v)."""
    index = index_from_uniform(torch.tensor(sorted(u), dtype=torch.float64), pmf)
    assert bool((index.diff() >= 0).all())


@given(pmfs())
def test_index_from_uniform_gives_each_cell_its_share(pmf: Tensor) -> None:
    """Of M equally spaced u, each cell gets M p(i) to within one."""
    m = 10_000
    u = (torch.arange(m, dtype=torch.float64) + 0.5) / m
    shares = torch.bincount(index_from_uniform(u, pmf), minlength=len(pmf))
    assert bool(((shares - m * pmf).abs() <= 1.0).all())


@given(grids())
def test_inverse_gap_weights_undo_the_gap(sigmas: Tensor) -> None:
    """lambda(sigma_i) (sigma_{i+1} - sigma_i) = 1."""
    product = inverse_gap_weights(sigmas) * sigmas.diff()
    torch.testing.assert_close(product, torch.ones_like(product), rtol=1e-15, atol=0)


@given(counts, sigma_mins, sigma_maxs, st.floats(1.5, 12.0))
def test_inverse_gap_weights_fall_with_the_noise(n: int, sigma_min: float, sigma_max: float, rho: float) -> None:
    """lambda(sigma_{i+1}) < lambda(sigma_i) for rho > 1, as Section 3.1 asks."""
    weights = inverse_gap_weights(sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho))
    assert bool((weights.diff() < 0).all())


@given(grids(), st.floats(0.01, 100.0))
def test_inverse_gap_weights_scale_inversely(sigmas: Tensor, scale: float) -> None:
    """lambda(a sigma) = lambda(sigma) / a."""
    torch.testing.assert_close(
        inverse_gap_weights(scale * sigmas), inverse_gap_weights(sigmas) / scale, rtol=1e-6, atol=0
    )


not_positive = st.sampled_from([0.0, -1.0, float("nan"), float("inf"), -float("inf")])


@given(st.one_of(st.integers(-10, 1)), not_positive)
def test_schedules_refuse_what_is_outside_their_domain(n: int, bad: float) -> None:
    """Never a NaN, never another exception: ValueError."""
    grid = sigma_grid(5)
    with pytest.raises(ValueError, match="n >= 2"):
        sigma_grid(n)
    with pytest.raises(ValueError, match="rho"):
        sigma_grid(5, rho=bad)
    with pytest.raises(ValueError, match="sigma_min"):
        sigma_grid(5, sigma_min=bad)
    with pytest.raises(ValueError, match="p_std"):
        lognormal_pmf(grid, p_std=bad)
    with pytest.raises(ValueError, match="sigma"):
        inverse_gap_weights(torch.cat([grid[:2], torch.tensor([bad], dtype=torch.float64)]))
    with pytest.raises(ValueError, match="ascend"):
        lognormal_pmf(grid.flip(0))
