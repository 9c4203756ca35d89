"""Laws of the noise levels, their probabilities and their weights."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
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
from properties.law_of import law_of
from properties.strategies import grids, pmfs

p_means, p_stds = st.floats(-2.0, 2.0), st.floats(0.5, 4.0)


@law_of("lognormal_pmf")
@given(grids(), p_means, p_stds)
def test_lognormal_pmf_is_normalised(sigmas: Tensor, p_mean: float, p_std: float) -> None:
    """p(i) >= 0 and sum_i p(i) = 1."""
    pmf = lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    assert len(pmf) == len(sigmas) - 1
    assert bool((pmf > 0).all())
    assert abs(float(pmf.sum()) - 1) < 1e-14 * len(pmf)


@law_of("index_from_uniform")
@given(pmfs(), st.sampled_from([1 - 1e-6, 1 + 1e-6, 0.5, 2.0, math.nan]))
def test_index_from_uniform_refuses_what_does_not_sum_to_1(pmf: Tensor, factor: float) -> None:
    """sum_i p(i) = 1, to 1e-9."""
    with pytest.raises(ValueError, match="pmf"):
        index_from_uniform(torch.zeros(1, dtype=torch.float64), factor * pmf)


@law_of("lognormal_density")
@given(grids(), p_means, p_stds)
def test_lognormal_density_is_what_the_intervals_gather(sigmas: Tensor, p_mean: float, p_std: float) -> None:
    """p(i) is proportional to the density's integral over interval i."""
    inner = torch.linspace(0, 1, 1025, dtype=torch.float64)
    at = sigmas[:-1].log()[:, None] + sigmas.log().diff()[:, None] * inner
    mass = torch.trapezoid(lognormal_density(at, p_mean=p_mean, p_std=p_std), at)
    pmf = lognormal_pmf(sigmas, p_mean=p_mean, p_std=p_std)
    torch.testing.assert_close(mass / mass.sum(), pmf, rtol=2e-3, atol=1e-9)


not_positive = st.sampled_from([0.0, -1.0, float("nan"), float("inf"), -float("inf")])


@law_of(
    "sigma_grid",
    "uniform_pmf",
    "lognormal_pmf",
    "log_sigma_density",
    "lognormal_density",
    "uniform_weights",
    "inverse_gap_weights",
)
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
