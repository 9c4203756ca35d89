"""The Fourier embedding.

Oracle: mpmath, 50 digits.
"""

import math

import mpmath
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor

from ict_ref.formulas import fourier_embedding


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def normal(count: int, *, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact_embedding(c: Tensor, frequencies: Tensor) -> Tensor:
    rows = []
    with mpmath.workdps(50):
        for level in c.tolist():
            sines, cosines = [], []
            for frequency in frequencies.tolist():
                turns = 2 * mpmath.mpf(level) * mpmath.mpf(frequency)
                sines.append(float(mpmath.sinpi(turns)))
                cosines.append(float(mpmath.cospi(turns)))
            rows.append(sines + cosines)
    return torch.tensor(rows, dtype=torch.float64)


def slope_in_each_level(c: Tensor, frequencies: Tensor) -> Tensor:
    c = c.clone().requires_grad_()
    columns = fourier_embedding(c, frequencies).sum(dim=0)
    return torch.stack([torch.autograd.grad(column, c, retain_graph=True)[0] for column in columns], dim=1)


def test_quarters_of_a_turn_give_the_axes_with_all_sines_first() -> None:
    # c w = 0, 1/4, 1/2 of a turn in the first row and 0, -3/4, -3/2 in the second
    got = fourier_embedding(f64(0.25, -0.75), f64(0.0, 1.0, 2.0))
    expected = [[0.0, 1.0, 0.0, 1.0, 0.0, -1.0], [0.0, 1.0, 0.0, 1.0, 0.0, -1.0]]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


def test_a_twelfth_of_a_turn_has_the_sine_one_half() -> None:
    got = fourier_embedding(f64(1 / 24), f64(2.0, -2.0))
    root = math.sqrt(3) / 2
    torch.testing.assert_close(got, f64(0.5, -0.5, root, root).reshape(1, 4), rtol=1e-14, atol=0)


@pytest.mark.parametrize(("batch", "half"), [(1, 1), (1, 6), (5, 1), (4, 7), (3, 3)])
@pytest.mark.parametrize("scale", [0.02, 1.0, 16.0])
def test_the_embedding_agrees_with_fifty_digits(batch: int, half: int, scale: float) -> None:
    c, frequencies = normal(batch, seed=1), normal(half, seed=2, scale=scale)
    got = fourier_embedding(c, frequencies)
    assert got.shape == (batch, 2 * half)
    torch.testing.assert_close(got, exact_embedding(c, frequencies), rtol=0, atol=2e-13)


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-14), (torch.float32, 2e-6)])
def test_the_embedding_computes_in_the_precision_that_it_gets(dtype: torch.dtype, atol: float) -> None:
    c, frequencies = f64(-0.5, 0.125, 1.0).to(dtype), f64(0.3, 0.7).to(dtype)
    got = fourier_embedding(c, frequencies)
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), exact_embedding(c, frequencies), rtol=0, atol=atol)


def test_a_level_does_not_depend_on_the_others_of_its_batch() -> None:
    c, frequencies = normal(4, seed=3), normal(5, seed=4, scale=2.0)
    alone = torch.cat([fourier_embedding(c[j : j + 1], frequencies) for j in range(4)])
    torch.testing.assert_close(fourier_embedding(c, frequencies), alone, rtol=0, atol=1e-14)


def test_the_slope_of_sines_is_cosines_and_of_cosines_is_minus_sines() -> None:
    c, frequencies = normal(4, seed=5), normal(3, seed=6, scale=2.0)
    turned = 2 * math.pi * frequencies
    sines, cosines = exact_embedding(c, frequencies).chunk(2, dim=1)
    expected = torch.cat([turned * cosines, -turned * sines], dim=1)
    torch.testing.assert_close(slope_in_each_level(c, frequencies), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize(("scale", "sensitivity"), [(16.0, 17.7715), (0.02, 0.0222144)])
def test_the_sensitivity_to_log_sigma_grows_with_the_scale(scale: float, sensitivity: float) -> None:
    # c = log(sigma)/4, so an entry's slope is 2 pi w / 4 times a cosine or minus a sine. Their mean square is 1/2 over
    # the pair: 2 pi scale / (4 sqrt 2) in the root mean square for frequencies of root mean square `scale`.
    slope = slope_in_each_level(f64(-1.1, 0.3) / 4, f64(scale, -scale, scale)) / 4
    assert slope.square().mean().sqrt().item() == pytest.approx(sensitivity, rel=1e-5)


def test_levels_or_frequencies_along_two_axes_are_rejected() -> None:
    with pytest.raises((ValueError, TypeCheckError)):
        fourier_embedding(torch.ones(2, 1), torch.ones(3))
    with pytest.raises((ValueError, TypeCheckError)):
        fourier_embedding(torch.ones(2), torch.ones(3, 1))
