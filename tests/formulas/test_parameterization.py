"""The coefficients of the parameterization.

Oracle: mpmath, 50 digits.
"""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from torch import Tensor

from ict_ref.formulas import boundary_parameterization, c_in, c_noise, c_out, c_skip, positional_embedding

COEFFICIENTS = [c_skip, c_out, c_in, c_noise]
LEVELS = [0.002, 0.0021, 0.003, 0.02, 0.1, 0.5, 1.0, 3.7, 80.0]


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def exact(name: str, sigma: mpmath.mpf, sigma_min: float, sigma_data: float) -> mpmath.mpf:
    low, data = mpmath.mpf(sigma_min), mpmath.mpf(sigma_data)
    values = {
        "c_skip": data**2 / ((sigma - low) ** 2 + data**2),
        "c_out": data * (sigma - low) / mpmath.sqrt(data**2 + sigma**2),
        "c_in": 1 / mpmath.sqrt(sigma**2 + data**2),
        "c_noise": mpmath.log(sigma) / 4,
    }
    return values[name]


def expected(name: str, sigmas: list[float], sigma_min: float = 0.002, sigma_data: float = 0.5) -> Tensor:
    with mpmath.workdps(50):
        return f64(*(float(exact(name, mpmath.mpf(sigma), sigma_min, sigma_data)) for sigma in sigmas))


@pytest.mark.parametrize(
    ("coefficient", "at_tenth", "at_one", "at_eighty"),
    [
        (c_skip, 0.963005193, 0.20064141, 3.90629272e-5),
        (c_out, 0.0960969062, 0.446319168, 0.499977735),
        (c_in, 1.96116135, 0.894427191, 0.0124997559),
        (c_noise, -0.575646273, 0.0, 1.09550666),
    ],
)
def test_the_coefficients_have_their_values_at_three_levels(
    coefficient: Callable[[Tensor], Tensor], at_tenth: float, at_one: float, at_eighty: float
) -> None:
    # mpmath, 50 digits, sigma_min = 0.002 and sigma_data = 0.5
    got = coefficient(f64(0.1, 1.0, 80.0))
    torch.testing.assert_close(got, f64(at_tenth, at_one, at_eighty), rtol=1e-8, atol=0)


@pytest.mark.parametrize(("sigma_min", "sigma_data"), [(0.002, 0.5), (0.0005, 1.3)])
def test_the_coefficients_agree_with_fifty_digits(sigma_min: float, sigma_data: float) -> None:
    sigmas = f64(*LEVELS)
    for name, got in [
        ("c_skip", c_skip(sigmas, sigma_min=sigma_min, sigma_data=sigma_data)),
        ("c_out", c_out(sigmas, sigma_min=sigma_min, sigma_data=sigma_data)),
        ("c_in", c_in(sigmas, sigma_data=sigma_data)),
        ("c_noise", c_noise(sigmas)),
    ]:
        torch.testing.assert_close(got, expected(name, LEVELS, sigma_min, sigma_data), rtol=1e-14, atol=0, msg=name)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-6)])
def test_the_coefficients_compute_in_the_precision_of_sigma(
    coefficient: Callable[[Tensor], Tensor], dtype: torch.dtype, rtol: float
) -> None:
    sigmas = f64(0.125, 1.0, 80.0).to(dtype)
    got = coefficient(sigmas)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), expected(coefficient.__name__, sigmas.tolist()), rtol=rtol, atol=0)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (2, 1, 1, 1)])
def test_the_coefficients_keep_the_shape_of_sigma(
    coefficient: Callable[[Tensor], Tensor], shape: tuple[int, ...]
) -> None:
    assert coefficient(torch.ones(shape, dtype=torch.float64)).shape == shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sigma_min", [0.002, 0.0021, 0.01, 0.3])
def test_the_boundary_condition_holds_bit_for_bit(dtype: torch.dtype, sigma_min: float) -> None:
    # sigma_min is not exact in binary. If sigma and sigma_min are not rounded alike, sigma - sigma_min does not vanish.
    sigma = torch.full((4,), sigma_min, dtype=dtype)
    x = torch.tensor([-3.0, 1e-3, 0.7, 1e3], dtype=dtype)
    output_of_any_network = torch.tensor([1e6, -1e3, 5.0, 1.0], dtype=dtype)
    skip, out = c_skip(sigma, sigma_min=sigma_min), c_out(sigma, sigma_min=sigma_min)
    assert skip.tolist() == [1.0] * 4
    assert out.tolist() == [0.0] * 4
    assert torch.equal(skip * x + out * output_of_any_network, x)


def test_a_vanishing_lowest_level_gives_the_coefficients_of_diffusion_models() -> None:
    # c_skip = sigma_data^2 / (sigma^2 + sigma_data^2) and c_out = sigma sigma_data / sqrt(sigma_data^2 + sigma^2)
    sigmas = f64(0.1, 1.0, 80.0)
    skip = f64(*(0.25 / (s * s + 0.25) for s in sigmas.tolist()))
    out = f64(*(0.5 * s / math.sqrt(s * s + 0.25) for s in sigmas.tolist()))
    torch.testing.assert_close(c_skip(sigmas, sigma_min=1e-15), skip, rtol=1e-12, atol=0)
    torch.testing.assert_close(c_out(sigmas, sigma_min=1e-15), out, rtol=1e-12, atol=0)


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_the_coefficients_are_differentiable_in_sigma(coefficient: Callable[[Tensor], Tensor]) -> None:
    sigma = f64(0.3, 1.0).requires_grad_()
    (got,) = torch.autograd.grad(coefficient(sigma).sum(), sigma)
    with mpmath.workdps(50):
        slopes = [mpmath.diff(lambda s: exact(coefficient.__name__, s, 0.002, 0.5), mpmath.mpf(v)) for v in (0.3, 1.0)]
    torch.testing.assert_close(got, f64(*map(float, slopes)), rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_level_without_a_finite_logarithm_is_rejected(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        c_noise(f64(1.0, sigma))


@pytest.mark.parametrize("coefficient", [c_skip, c_out, c_in])
def test_a_level_that_is_not_a_number_is_rejected(coefficient: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match="sigma"):
        coefficient(f64(1.0, math.nan))


@pytest.mark.parametrize("sigma_data", [0.0, -0.5, math.nan, math.inf])
def test_a_deviation_of_the_data_outside_its_domain_is_rejected(sigma_data: float) -> None:
    with pytest.raises(ValueError, match="sigma_data"):
        c_skip(f64(1.0), sigma_data=sigma_data)
    with pytest.raises(ValueError, match="sigma_data"):
        c_out(f64(1.0), sigma_data=sigma_data)
    with pytest.raises(ValueError, match="sigma_data"):
        c_in(f64(1.0), sigma_data=sigma_data)


@pytest.mark.parametrize("sigma_min", [-0.002, math.nan, math.inf])
def test_a_lowest_level_outside_its_domain_is_rejected(sigma_min: float) -> None:
    with pytest.raises(ValueError, match="sigma_min"):
        c_skip(f64(1.0), sigma_min=sigma_min)
    with pytest.raises(ValueError, match="sigma_min"):
        c_out(f64(1.0), sigma_min=sigma_min)


@pytest.mark.parametrize("shape", [(9,), (9, 2), (9, 1, 2, 2)])
def test_the_model_agrees_with_a_loop_over_pixels_at_fifty_digits(shape: tuple[int, ...]) -> None:
    # F(x, c) = tanh(x) + c^2, with the scaled input and a quarter of the logarithm
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = []
    with mpmath.workdps(50):
        for level, pixels in zip(LEVELS, x.reshape(9, -1).tolist(), strict=True):
            sigma = mpmath.mpf(level)
            skip, out, scale, noise = (exact(c.__name__, sigma, 0.002, 0.5) for c in COEFFICIENTS)
            rows.append([float(skip * p + out * (mpmath.tanh(scale * p) + noise**2)) for p in map(mpmath.mpf, pixels)])
    got = boundary_parameterization(lambda y, c: y.tanh() + c.reshape(-1, *[1] * (y.ndim - 1)) ** 2, x, f64(*LEVELS))
    assert got.shape == shape
    torch.testing.assert_close(got.reshape(9, -1), torch.tensor(rows, dtype=torch.float64), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("dim", "max_period"), [(2, 10000.0), (6, 10000.0), (64, 10000.0), (10, 50.0)])
def test_the_positional_embedding_agrees_with_fifty_digits(dim: int, max_period: float) -> None:
    levels = [-1.553652, -0.5756, 0.0, 0.25, 1.0955, 1095.5]
    rows = []
    with mpmath.workdps(50):
        frequencies = [mpmath.mpf(max_period) ** (-mpmath.mpf(k) / (dim // 2)) for k in range(dim // 2)]
        for c in map(mpmath.mpf, levels):
            rows.append(
                [*(float(mpmath.cos(c * w)) for w in frequencies), *(float(mpmath.sin(c * w)) for w in frequencies)]
            )
    got = positional_embedding(f64(*levels), dim, max_period=max_period)
    torch.testing.assert_close(got, torch.tensor(rows, dtype=torch.float64), rtol=0, atol=1e-12)


def test_the_positional_embedding_has_the_period_of_the_authors_code() -> None:
    # frequencies 1 and 10000^(-1/2) = 0.01
    torch.testing.assert_close(
        positional_embedding(f64(100.0), 4),
        f64(math.cos(100.0), math.cos(1.0), math.sin(100.0), math.sin(1.0))[None],
        rtol=0,
        atol=1e-13,
    )


def test_the_positional_embedding_stays_on_the_device_of_its_input() -> None:
    assert positional_embedding(torch.empty(3, device="meta"), 6).device.type == "meta"
