"""Laws of the noise levels, their probabilities and their weights."""

import math
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, example, given
from torch import Tensor

from ict_ref.formulas import (
    index_from_uniform,
    inverse_gap_weights,
    log_sigma_density,
    lognormal_density,
    lognormal_pmf,
    sigma_grid,
    uniform_pmf,
    uniform_weights,
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


@given(grids())
def test_uniform_pmf_is_normalised_and_flat(sigmas: Tensor) -> None:
    """p(i) = p(j) > 0 and sum_i p(i) = 1, one for each cell."""
    pmf = uniform_pmf(sigmas)
    assert len(pmf) == len(sigmas) - 1
    assert len(set(pmf.tolist())) == 1
    assert abs(float(pmf.sum()) - 1) < 1e-14 * len(pmf)


@given(grids(), st.floats(0.01, 100.0))
def test_uniform_pmf_sees_only_how_many_levels_there_are(sigmas: Tensor, scale: float) -> None:
    """p is the same for any levels in the same number, and the index is uniform: u -> floor(u (N - 1))."""
    pmf = uniform_pmf(sigmas)
    assert torch.equal(uniform_pmf(scale * sigmas), pmf)
    u = (torch.arange(len(pmf), dtype=torch.float64) + 0.5) / len(pmf)
    assert torch.equal(index_from_uniform(u, pmf), torch.arange(len(pmf)))


every_pmf = st.sampled_from([uniform_pmf, lognormal_pmf])


@given(every_pmf, grids())
def test_probabilities_are_positive_and_one_for_each_cell(pmf: Callable[[Tensor], Tensor], sigmas: Tensor) -> None:
    """p(i) > 0 for i = 1, ..., N - 1, and sum_i p(i) = 1."""
    p = pmf(sigmas)
    assert p.shape == sigmas[1:].shape
    assert p.dtype == torch.float64
    assert bool((p > 0).all())
    assert float(p.sum()) == pytest.approx(1, abs=1e-13 * len(p))


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


@given(pmfs(), st.sampled_from([1 - 1e-6, 1 + 1e-6, 0.5, 2.0, math.nan]))
def test_index_from_uniform_refuses_what_does_not_sum_to_1(pmf: Tensor, factor: float) -> None:
    """sum_i p(i) = 1, to 1e-9."""
    with pytest.raises(ValueError, match="pmf"):
        index_from_uniform(torch.zeros(1, dtype=torch.float64), factor * pmf)


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


def integral(values: Tensor, at: Tensor) -> Tensor:
    """Return the integral up to each of these points, by the trapezoidal rule."""
    return torch.cat([torch.zeros(1).double(), torch.cumulative_trapezoid(values, at)])


@given(sigma_mins, sigma_maxs, rhos)
def test_log_sigma_density_is_the_limit_of_the_uniform_schedule(sigma_min: float, sigma_max: float, rho: float) -> None:
    """Its distribution function at node i of the grid is (i - 1)/(N - 1): it sums to 1, and the index is uniform."""
    sigmas = sigma_grid(20_001, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    at = sigmas.log()
    at[0], at[-1] = math.log(sigma_min), math.log(sigma_max)
    cdf = integral(log_sigma_density(at, sigma_min=sigma_min, sigma_max=sigma_max, rho=rho), at)
    torch.testing.assert_close(cdf, torch.arange(20_001).double() / 20_000, rtol=0, atol=2e-3)


@given(st.floats(-20.0, 20.0))
def test_log_sigma_density_is_0_outside_its_range(log_sigma: float) -> None:
    """P = 0 outside [log sigma_min, log sigma_max], p > 0 inside."""
    p = float(log_sigma_density(torch.tensor(log_sigma, dtype=torch.float64)))
    assert (p > 0) == (math.log(0.002) <= log_sigma <= math.log(80.0))


@given(st.floats(-6.0, 4.0), rhos, st.floats(0.01, 100.0))
def test_log_sigma_density_is_scale_free(log_sigma: float, rho: float, a: float) -> None:
    """Sigma -> a sigma, with both ends, changes nothing."""
    here = torch.tensor(log_sigma, dtype=torch.float64)
    moved = log_sigma_density(here + math.log(a), sigma_min=0.002 * a, sigma_max=80.0 * a, rho=rho)
    torch.testing.assert_close(moved, log_sigma_density(here, rho=rho), rtol=1e-9, atol=0)


@given(p_means, p_stds)
def test_lognormal_density_is_normalised(p_mean: float, p_std: float) -> None:
    """Its integral over the whole line is 1, half of it below P_mean."""
    at = p_mean + p_std * torch.linspace(-12, 12, 2001, dtype=torch.float64)
    cdf = integral(lognormal_density(at, p_mean=p_mean, p_std=p_std), at)
    assert float(cdf[-1]) == pytest.approx(1, abs=1e-12)
    assert float(cdf[1000]) == pytest.approx(0.5, abs=1e-12)


@given(grids(), p_means, p_stds)
def test_lognormal_density_is_what_the_cells_gather(sigmas: Tensor, p_mean: float, p_std: float) -> None:
    """p(i) is proportional to the density's integral over cell i."""
    inner = torch.linspace(0, 1, 1025, dtype=torch.float64)
    at = sigmas[:-1].log()[:, None] + sigmas.log().diff()[:, None] * inner
    mass = torch.trapezoid(lognormal_density(at, p_mean=p_mean, p_std=p_std), at)
    pmf = lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    torch.testing.assert_close(mass / mass.sum(), pmf, rtol=2e-3, atol=1e-9)


@given(p_means, p_stds, st.floats(0.0, 20.0))
def test_lognormal_density_is_symmetric_and_falls(p_mean: float, p_std: float, t: float) -> None:
    """p(P_mean + t) = p(P_mean - t) <= p(P_mean) = 1 / (sqrt(2 pi) P_std)."""
    at = torch.tensor([p_mean + t, p_mean - t, p_mean], dtype=torch.float64)
    above, below, top = lognormal_density(at, p_mean=p_mean, p_std=p_std)
    torch.testing.assert_close(above, below, rtol=1e-9, atol=1e-300)
    assert float(above) <= float(top) * (1 + 1e-12)
    assert float(top) == pytest.approx(1 / (math.sqrt(2 * math.pi) * p_std), rel=1e-14)


@given(grids())
def test_uniform_weights_are_1_and_one_for_each_cell(sigmas: Tensor) -> None:
    """lambda = 1: of one length, dtype and place with the other weights."""
    weights = uniform_weights(sigmas)
    assert weights.tolist() == [1.0] * (len(sigmas) - 1)
    assert weights.dtype == inverse_gap_weights(sigmas).dtype


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


every_weighting = st.sampled_from([uniform_weights, inverse_gap_weights])


@given(every_weighting, grids(), st.data())
def test_weights_belong_to_their_own_cells(
    weighting: Callable[[Tensor], Tensor], sigmas: Tensor, data: st.DataObject
) -> None:
    """lambda(sigma_i) sees sigma_i and sigma_{i+1} alone: a part of the grid has that part of the weights."""
    assume(len(sigmas) >= 3)
    first = data.draw(st.integers(0, len(sigmas) - 3))
    last = data.draw(st.integers(first + 2, len(sigmas)))
    assert torch.equal(weighting(sigmas[first:last]), weighting(sigmas)[first : last - 1])


@given(every_weighting, counts, sigma_mins, sigma_maxs, rhos)
def test_weights_are_positive_and_do_not_rise(
    weighting: Callable[[Tensor], Tensor], n: int, sigma_min: float, sigma_max: float, rho: float
) -> None:
    """lambda > 0, and errors at low noise weigh no less than those at high noise, for rho >= 1."""
    weights = weighting(sigma_grid(n, sigma_min=sigma_min, sigma_max=sigma_max, rho=max(1.0, rho)))
    assert bool((weights > 0).all())
    assert bool((weights.diff() <= 1e-9 * weights[:-1]).all())


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
    for function in (lognormal_pmf, lognormal_density):
        with pytest.raises(ValueError, match="p_mean"):
            function(grid, p_mean=math.copysign(math.inf, bad))
    with pytest.raises(ValueError, match="sigma"):
        inverse_gap_weights(torch.cat([grid[:2], torch.tensor([bad], dtype=torch.float64)]))
    for schedule in (uniform_pmf, uniform_weights, inverse_gap_weights, lognormal_pmf):
        with pytest.raises(ValueError, match="ascend"):
            schedule(grid.flip(0))
    for density in (log_sigma_density, lognormal_density):
        with pytest.raises(ValueError, match="log_sigma"):
            density(torch.tensor([math.nan, 0.0], dtype=torch.float64))
    with pytest.raises(ValueError, match="rho"):
        log_sigma_density(grid.log(), rho=bad)
    with pytest.raises(ValueError, match="p_std"):
        lognormal_density(grid.log(), p_std=bad)
