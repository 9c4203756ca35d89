"""Laws of the preconditioning: the boundary condition above all."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given
from torch import Tensor

from ict_ref.formulas import (
    boundary_parameterization,
    c_in,
    c_noise,
    c_out,
    c_skip,
)
from properties.law_of import law_of
from properties.strategies import dtypes, noise_levels, seeds, sigma_datas, sigma_mins


@law_of("c_skip")
@given(sigma_mins, sigma_datas, dtypes)
def test_c_skip_is_1_at_the_boundary(sigma_min: float, sigma_data: float, dtype: torch.dtype) -> None:
    """c_skip(sigma_min) = 1, to the last bit, in every dtype."""
    sigma = torch.tensor(sigma_min, dtype=dtype)
    assert float(c_skip(sigma, sigma_min=sigma_min, sigma_data=sigma_data)) == 1.0


@law_of("c_out")
@given(sigma_mins, sigma_datas, dtypes)
def test_c_out_is_0_at_the_boundary(sigma_min: float, sigma_data: float, dtype: torch.dtype) -> None:
    """c_out(sigma_min) = 0, to the last bit, in every dtype."""
    sigma = torch.tensor(sigma_min, dtype=dtype)
    assert float(c_out(sigma, sigma_min=sigma_min, sigma_data=sigma_data)) == 0.0


@law_of("boundary_parameterization")
@given(seeds, sigma_mins, sigma_datas, dtypes)
def test_boundary_parameterization_is_x_at_sigma_min(
    seed: int, sigma_min: float, sigma_data: float, dtype: torch.dtype
) -> None:
    """f(x, sigma_min) = x, bit for bit, whatever F is."""
    x, free = (1e3 * torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(seed))).to(dtype)
    sigma = torch.full((4,), sigma_min, dtype=dtype)
    f = boundary_parameterization(lambda *_: free, x, sigma, sigma_min=sigma_min, sigma_data=sigma_data)
    assert torch.equal(f, x)


@law_of("c_out")
@given(noise_levels(), sigma_datas, st.floats(0.1, 10.0))
def test_c_out_has_the_unit_of_the_data(sigma: Tensor, sigma_data: float, a: float) -> None:
    """c_out(a sigma; a sigma_min, a sigma_data) = a c_out(sigma)."""
    scaled = c_out(a * sigma, sigma_min=a * 0.002, sigma_data=a * sigma_data)
    torch.testing.assert_close(scaled, a * c_out(sigma, sigma_data=sigma_data), rtol=1e-9, atol=1e-12 * a)


@law_of("c_in")
@given(noise_levels())
def test_c_in_falls_with_the_noise(sigma: Tensor) -> None:
    """0 < c_in <= 1 / sigma_data, and more noise means a smaller factor."""
    value = c_in(sigma.sort().values)
    assert bool(((value > 0) & (value <= 2)).all())
    assert bool((value.diff() <= 0).all())


@law_of("c_noise")
@given(noise_levels())
def test_c_noise_is_undone_by_exp(sigma: Tensor) -> None:
    """exp(4 c_noise(sigma)) = sigma."""
    torch.testing.assert_close((4 * c_noise(sigma)).exp(), sigma, rtol=1e-13, atol=0)


@law_of("c_noise")
@given(noise_levels())
def test_c_noise_is_odd_in_log_sigma(sigma: Tensor) -> None:
    """c_noise(1 / sigma) = -c_noise(sigma)."""
    torch.testing.assert_close(c_noise(1 / sigma), -c_noise(sigma), rtol=1e-13, atol=1e-15)


@law_of("c_skip", "c_out", "c_in", "c_noise")
@given(noise_levels())
def test_coefficients_can_be_mapped_and_differentiated(sigma: Tensor) -> None:
    """vmap and forward-mode derivatives work through them: c_noise' = 1 / (4 sigma)."""
    for function in (c_skip, c_out, c_in, c_noise):
        torch.testing.assert_close(torch.func.vmap(function)(sigma), function(sigma))
    slope: Tensor = torch.func.jvp(c_noise, (sigma,), (torch.ones_like(sigma),))[1]
    torch.testing.assert_close(slope, 1 / (4 * sigma))


@law_of("c_skip", "c_out", "c_in", "c_noise")
@given(st.sampled_from([0.0, -0.002, float("nan"), float("inf")]), noise_levels())
def test_coefficients_reject_an_invalid_noise_level(bad: float, sigma: Tensor) -> None:
    """Never a NaN, never another exception: ValueError."""
    assume(len(sigma) > 0)
    spoiled = torch.cat([sigma, torch.tensor([bad], dtype=torch.float64)])
    for function in (c_skip, c_out, c_in, c_noise):
        with pytest.raises(ValueError, match="sigma"):
            function(spoiled)
    for function in (c_skip, c_out, c_in):
        with pytest.raises(ValueError, match="sigma_data"):
            function(sigma, sigma_data=bad)
    for function in (c_skip, c_out):
        with pytest.raises(ValueError, match="sigma_min"):
            function(sigma, sigma_min=bad)
