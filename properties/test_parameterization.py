"""Laws of the preconditioning: the boundary condition above all."""

import math

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
    fourier_embedding,
    positional_embedding,
)
from properties.strategies import dtypes, levels_of, noise_levels, seeds, sigma_datas, sigma_mins, tensor_lists


@given(sigma_mins, sigma_datas, dtypes)
def test_c_skip_is_1_at_the_boundary(sigma_min: float, sigma_data: float, dtype: torch.dtype) -> None:
    """c_skip(sigma_min) = 1, to the last bit, in every dtype."""
    sigma = torch.tensor(sigma_min, dtype=dtype)
    assert float(c_skip(sigma, sigma_min=sigma_min, sigma_data=sigma_data)) == 1.0


@given(sigma_mins, sigma_datas, dtypes)
def test_c_out_is_0_at_the_boundary(sigma_min: float, sigma_data: float, dtype: torch.dtype) -> None:
    """c_out(sigma_min) = 0, to the last bit, in every dtype."""
    sigma = torch.tensor(sigma_min, dtype=dtype)
    assert float(c_out(sigma, sigma_min=sigma_min, sigma_data=sigma_data)) == 0.0


def squash(x: Tensor, noise: Tensor) -> Tensor:
    """Return some F(x, c_noise) with values between -1 and 1."""
    return torch.tanh(x + noise.reshape(-1, *(1 for _ in x.shape[1:])))


@given(seeds, sigma_mins, sigma_datas, dtypes)
def test_boundary_parameterization_is_x_at_sigma_min(
    seed: int, sigma_min: float, sigma_data: float, dtype: torch.dtype
) -> None:
    """f(x, sigma_min) = x, bit for bit, whatever F is."""
    x, free = (1e3 * torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(seed))).to(dtype)
    sigma = torch.full((4,), sigma_min, dtype=dtype)
    f = boundary_parameterization(lambda *_: free, x, sigma, sigma_min=sigma_min, sigma_data=sigma_data)
    assert torch.equal(f, x)


@given(tensor_lists(1), st.data(), sigma_datas)
def test_boundary_parameterization_is_affine_in_the_network(
    x: list[Tensor], data: st.DataObject, sigma_data: float
) -> None:
    """With F = 0 it is c_skip x, and each unit of F adds c_out."""
    sigma = data.draw(levels_of(len(x[0])))
    column = sigma.reshape(-1, *(1 for _ in x[0].shape[1:]))
    none, one = (
        boundary_parameterization(lambda y, _, k=k: k * torch.ones_like(y), x[0], sigma, sigma_data=sigma_data)  # type: ignore[misc]
        for k in (0, 1)
    )
    torch.testing.assert_close(none, c_skip(column, sigma_data=sigma_data) * x[0])
    torch.testing.assert_close(one, none + c_out(column, sigma_data=sigma_data))


@given(tensor_lists(1), st.data(), sigma_datas)
def test_boundary_parameterization_hands_the_network_unit_variance_and_log_sigma(
    x: list[Tensor], data: st.DataObject, sigma_data: float
) -> None:
    """F is asked once, at x / sqrt(sigma^2 + sigma_data^2) and log(sigma) / 4."""
    sigma = data.draw(levels_of(len(x[0])))
    asked: list[tuple[Tensor, Tensor]] = []

    def network(y: Tensor, noise: Tensor) -> Tensor:
        asked.append((y, noise))
        return y

    boundary_parameterization(network, x[0], sigma, sigma_data=sigma_data)
    [(y, noise)] = asked
    size = torch.hypot(sigma, torch.full_like(sigma, sigma_data)).reshape(-1, *(1 for _ in x[0].shape[1:]))
    torch.testing.assert_close(y * size, x[0])
    torch.testing.assert_close((4 * noise).exp(), sigma, rtol=1e-13, atol=0)


@given(tensor_lists(1), st.data())
def test_boundary_parameterization_sees_each_example_alone(x: list[Tensor], data: st.DataObject) -> None:
    """The values of a batch are the values of its examples."""
    sigma = data.draw(levels_of(len(x[0])))
    alone = [boundary_parameterization(squash, x[0][j : j + 1], sigma[j : j + 1]) for j in range(len(sigma))]
    torch.testing.assert_close(torch.cat(alone), boundary_parameterization(squash, x[0], sigma))


@given(noise_levels(), sigma_datas)
def test_c_skip_is_a_share_that_falls(sigma: Tensor, sigma_data: float) -> None:
    """0 < c_skip <= 1, and more noise means less of the input."""
    value = c_skip(sigma.sort().values, sigma_data=sigma_data)
    assert bool(((value > 0) & (value <= 1)).all())
    assert bool((value.diff() <= 0).all())


@given(noise_levels(), sigma_datas)
def test_c_out_rises_towards_sigma_data(sigma: Tensor, sigma_data: float) -> None:
    """0 <= c_out < sigma_data, and more noise means more of the network."""
    value = c_out(sigma.sort().values, sigma_data=sigma_data)
    assert bool(((value >= 0) & (value < sigma_data)).all())
    assert bool((value.diff() >= 0).all())


@given(noise_levels(), sigma_datas, st.floats(0.1, 10.0))
def test_c_skip_has_no_unit(sigma: Tensor, sigma_data: float, a: float) -> None:
    """c_skip(a sigma; a sigma_min, a sigma_data) = c_skip(sigma)."""
    scaled = c_skip(a * sigma, sigma_min=a * 0.002, sigma_data=a * sigma_data)
    torch.testing.assert_close(scaled, c_skip(sigma, sigma_data=sigma_data), rtol=1e-11, atol=0)


@given(noise_levels(), sigma_datas, st.floats(0.1, 10.0))
def test_c_out_has_the_unit_of_the_data(sigma: Tensor, sigma_data: float, a: float) -> None:
    """c_out(a sigma; a sigma_min, a sigma_data) = a c_out(sigma)."""
    scaled = c_out(a * sigma, sigma_min=a * 0.002, sigma_data=a * sigma_data)
    torch.testing.assert_close(scaled, a * c_out(sigma, sigma_data=sigma_data), rtol=1e-9, atol=1e-12 * a)


@given(noise_levels(), sigma_datas)
def test_coefficients_become_those_of_edm(sigma: Tensor, sigma_data: float) -> None:
    """sigma_min -> 0: c_skip + (c_out / sigma_data)^2 = 1, which holds of EDM's coefficients and of no others here."""
    # c_skip = sd^2 / (s^2 + sd^2) and c_out^2 / sd^2 = s^2 / (s^2 + sd^2).
    skip = c_skip(sigma, sigma_min=1e-12, sigma_data=sigma_data)
    out = c_out(sigma, sigma_min=1e-12, sigma_data=sigma_data)
    torch.testing.assert_close(skip + (out / sigma_data) ** 2, torch.ones_like(sigma), rtol=1e-9, atol=0)


@given(noise_levels(), sigma_datas)
def test_c_in_gives_unit_variance(sigma: Tensor, sigma_data: float) -> None:
    """c_in^2 (sigma^2 + sigma_data^2) = 1."""
    variance = c_in(sigma, sigma_data=sigma_data) ** 2 * (sigma**2 + sigma_data**2)
    torch.testing.assert_close(variance, torch.ones_like(sigma), rtol=1e-14, atol=0)


@given(noise_levels(), sigma_datas, st.floats(0.1, 10.0))
def test_c_in_scales_inversely(sigma: Tensor, sigma_data: float, a: float) -> None:
    """c_in(a sigma; a sigma_data) = c_in(sigma; sigma_data) / a."""
    scaled = c_in(a * sigma, sigma_data=a * sigma_data)
    torch.testing.assert_close(scaled, c_in(sigma, sigma_data=sigma_data) / a, rtol=1e-13, atol=0)


@given(noise_levels())
def test_c_in_falls_with_the_noise(sigma: Tensor) -> None:
    """0 < c_in <= 1 / sigma_data, and more noise means a smaller factor."""
    value = c_in(sigma.sort().values)
    assert bool(((value > 0) & (value <= 2)).all())
    assert bool((value.diff() <= 0).all())


@given(noise_levels())
def test_c_noise_is_undone_by_exp(sigma: Tensor) -> None:
    """exp(4 c_noise(sigma)) = sigma."""
    torch.testing.assert_close((4 * c_noise(sigma)).exp(), sigma, rtol=1e-13, atol=0)


@given(noise_levels(), st.floats(0.1, 10.0))
def test_c_noise_turns_products_into_sums(sigma: Tensor, a: float) -> None:
    """c_noise(a sigma) = c_noise(sigma) + log(a) / 4."""
    torch.testing.assert_close(c_noise(a * sigma), c_noise(sigma) + math.log(a) / 4, rtol=1e-12, atol=1e-14)


@given(noise_levels())
def test_c_noise_is_odd_in_log_sigma(sigma: Tensor) -> None:
    """c_noise(1 / sigma) = -c_noise(sigma)."""
    torch.testing.assert_close(c_noise(1 / sigma), -c_noise(sigma), rtol=1e-13, atol=1e-15)


@given(noise_levels())
def test_coefficients_can_be_mapped_and_differentiated(sigma: Tensor) -> None:
    """vmap and forward-mode derivatives see through them: c_noise' = 1 / (4 sigma)."""
    for function in (c_skip, c_out, c_in, c_noise):
        torch.testing.assert_close(torch.func.vmap(function)(sigma), function(sigma))
    slope: Tensor = torch.func.jvp(c_noise, (sigma,), (torch.ones_like(sigma),))[1]
    torch.testing.assert_close(slope, 1 / (4 * sigma))


embedded = st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=5).map(lambda c: torch.tensor(c, dtype=torch.float64))
halves = st.integers(1, 32)


@given(embedded, halves)
def test_positional_embedding_has_constant_length(c: Tensor, half: int) -> None:
    """cos^2 + sin^2 = 1 for every frequency."""
    squared = positional_embedding(c, 2 * half) ** 2
    torch.testing.assert_close(squared[:, :half] + squared[:, half:], torch.ones(len(c), half).double())


@given(embedded, halves)
def test_positional_embedding_begins_with_frequency_1(c: Tensor, half: int) -> None:
    """The first cosine and the first sine are of c itself; cosines come first."""
    embedding = positional_embedding(c, 2 * half)
    torch.testing.assert_close(embedding[:, 0], c.cos())
    torch.testing.assert_close(embedding[:, half], c.sin())


@given(embedded, st.integers(1, 16), st.floats(2.0, 1e5))
def test_positional_embedding_has_geometric_frequencies(c: Tensor, half: int, max_period: float) -> None:
    """With half as many frequencies again in between, the old ones stay: f_k = max_period^(-(k-1)/h)."""
    coarse = positional_embedding(c, 2 * half, max_period=max_period)
    fine = positional_embedding(c, 4 * half, max_period=max_period)
    torch.testing.assert_close(fine[:, ::2], coarse)


frequency_lists = st.lists(st.floats(-40.0, 40.0), min_size=1, max_size=8).map(
    lambda w: torch.tensor(w, dtype=torch.float64)
)


@given(embedded, frequency_lists)
def test_fourier_embedding_has_constant_length(c: Tensor, w: Tensor) -> None:
    """sin^2 + cos^2 = 1 for every frequency, the sine before the cosine by half the width."""
    squared = fourier_embedding(c, w) ** 2
    half = len(w)
    torch.testing.assert_close(squared[:, :half] + squared[:, half:], torch.ones(len(c), half).double())


@given(embedded, frequency_lists)
def test_fourier_embedding_has_odd_sines_first_and_even_cosines(c: Tensor, w: Tensor) -> None:
    """C -> -c turns the first half's sign and leaves the second half; at c = 0 they are 0 and 1."""
    half = len(w)
    there, back = fourier_embedding(c, w), fourier_embedding(-c, w)
    assert torch.equal(back[:, :half], -there[:, :half])
    assert torch.equal(back[:, half:], there[:, half:])
    assert fourier_embedding(torch.zeros(1).double(), w).tolist() == [[0.0] * half + [1.0] * half]


@given(embedded, st.lists(st.integers(-9, 9), min_size=1, max_size=8))
def test_fourier_embedding_has_period_1_for_whole_frequencies(c: Tensor, whole: list[int]) -> None:
    """W integer: c and c + 1 are embedded alike, for the angle is 2 pi c w."""
    w = torch.tensor(whole, dtype=torch.float64)
    torch.testing.assert_close(fourier_embedding(c + 1, w), fourier_embedding(c, w), rtol=0, atol=1e-11)


@given(st.sampled_from([0.0, -0.002, float("nan"), float("inf")]), noise_levels())
def test_coefficients_refuse_what_is_no_noise_level(bad: float, sigma: Tensor) -> None:
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
