"""Laws of the preconditioning, the boundary condition above all, and of the embeddings of the noise level."""

import math

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.checks.law import Function, Laws, close, equal, given, law, needs, tolerance
from ict_ref.verify.laws import strategies as some
from ict_ref.verify.vectors.values import column


def one(value: float) -> Tensor:
    """Return a single noise level."""
    return torch.tensor([value], dtype=torch.float64)


@law("c_skip")
@given(sigma_min=some.sigma_mins, sigma_data=some.sigma_datas)
def is_1_at_the_boundary(f: Function, sigma_min: float, sigma_data: float) -> None:
    """c_skip(sigma_min) = 1, to the rounding of its square and its quotient."""
    close(f(sigma=one(sigma_min), sigma_min=sigma_min, sigma_data=sigma_data), one(1.0), rtol=1e-15)


@law("c_out")
@given(sigma_min=some.sigma_mins, sigma_data=some.sigma_datas)
def is_0_at_the_boundary(f: Function, sigma_min: float, sigma_data: float) -> None:
    """c_out(sigma_min) = 0, to the last bit."""
    equal(f(sigma=one(sigma_min), sigma_min=sigma_min, sigma_data=sigma_data), one(0.0))


@law("c_skip")
@given(sigma=some.noise_levels, sigma_data=some.sigma_datas)
def is_a_share_that_falls(f: Function, sigma: Tensor, sigma_data: float) -> None:
    """0 < c_skip <= 1, and more noise means less of the input."""
    value = f(sigma=sigma.sort().values, sigma_data=sigma_data)
    needs((value > 0) & (value <= 1 + tolerance(1e-15)), f"c_skip = {value.tolist()}")
    needs(value.diff() <= tolerance(1e-15), f"c_skip rises with the noise: {value.tolist()}")


@law("c_out")
@given(sigma=some.noise_levels, sigma_data=some.sigma_datas)
def rises_towards_sigma_data(f: Function, sigma: Tensor, sigma_data: float) -> None:
    """0 <= c_out < sigma_data, and more noise means more of the network."""
    value = f(sigma=sigma.sort().values, sigma_data=sigma_data)
    needs((value >= 0) & (value <= sigma_data * (1 + tolerance(1e-12))), f"c_out = {value.tolist()}")
    needs(value.diff() >= -tolerance(1e-15) * sigma_data, f"c_out falls with the noise: {value.tolist()}")


@law("c_skip")
@given(sigma=some.noise_levels, sigma_data=some.sigma_datas)
def becomes_edm_s_without_sigma_min(f: Function, sigma: Tensor, sigma_data: float) -> None:
    """sigma_min -> 0: c_skip = sigma_data^2 / (sigma^2 + sigma_data^2), to 2 sigma_min / sigma_data."""
    edm = sigma_data**2 / (sigma**2 + sigma_data**2)
    close(f(sigma=sigma, sigma_min=1e-14, sigma_data=sigma_data), edm)


@law("c_out")
@given(sigma=some.noise_levels, sigma_data=some.sigma_datas)
def becomes_edm_s_out_without_sigma_min(f: Function, sigma: Tensor, sigma_data: float) -> None:
    """sigma_min -> 0: c_out = sigma sigma_data / sqrt(sigma^2 + sigma_data^2), to sigma_min / sigma."""
    edm = sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt()
    close(f(sigma=sigma, sigma_min=1e-14, sigma_data=sigma_data), edm)


@law("c_skip")
@given(sigma_min=some.sigma_mins, sigma_data=some.sigma_datas, fraction=some.fractions)
def is_symmetric_about_sigma_min(f: Function, sigma_min: float, sigma_data: float, fraction: float) -> None:
    """c_skip(sigma_min + t) = c_skip(sigma_min - t): levels below sigma_min are not moved up to it."""
    t = 0.9 * fraction * sigma_min
    above, below = (f(sigma=one(sigma_min + s * t), sigma_min=sigma_min, sigma_data=sigma_data) for s in (1, -1))
    close(below, above, rtol=1e-12)


@law("c_out")
@given(sigma_min=some.sigma_mins, sigma_data=some.sigma_datas, fraction=some.fractions)
def changes_its_sign_at_sigma_min(f: Function, sigma_min: float, sigma_data: float, fraction: float) -> None:
    """c_out(sigma_min - t) < 0 < c_out(sigma_min + t)."""
    t = (0.1 + 0.8 * fraction) * sigma_min
    above, below = (f(sigma=one(sigma_min + s * t), sigma_min=sigma_min, sigma_data=sigma_data) for s in (1, -1))
    needs((below < 0) & (above > 0), f"c_out is {below.item()} below and {above.item()} above sigma_min")


@law("c_in")
@given(sigma=some.noise_levels, sigma_data=some.sigma_datas)
def makes_the_variance_1(f: Function, sigma: Tensor, sigma_data: float) -> None:
    """c_in^2 (sigma^2 + sigma_data^2) = 1, and c_in > 0."""
    value = f(sigma=sigma, sigma_data=sigma_data)
    needs(value > 0, f"c_in = {value.tolist()}")
    close(value**2 * (sigma**2 + sigma_data**2), torch.ones_like(sigma), rtol=1e-13, what="variances of")


@law("c_skip")
@given(sigma=some.noise_levels, sigma_data=some.sigma_datas, a=some.factors)
def does_not_see_the_units(f: Function, sigma: Tensor, sigma_data: float, a: float) -> None:
    """All levels times a: c_skip does not change."""
    here = f(sigma=sigma, sigma_data=sigma_data, sigma_min=0.001)
    there = f(sigma=a * sigma, sigma_data=a * sigma_data, sigma_min=a * 0.001)
    close(there, here)


@law("c_in")
@given(sigma=some.noise_levels, sigma_data=some.sigma_datas, a=some.factors)
def has_the_inverse_of_the_unit(f: Function, sigma: Tensor, sigma_data: float, a: float) -> None:
    """All levels times a: c_in is divided by a."""
    close(f(sigma=a * sigma, sigma_data=a * sigma_data), f(sigma=sigma, sigma_data=sigma_data) / a)


@law("c_noise")
@given(sigma=some.noise_levels, a=some.factors)
def is_a_quarter_of_the_logarithm(f: Function, sigma: Tensor, a: float) -> None:
    """c_noise(a sigma) = c_noise(sigma) + log(a) / 4, and c_noise(1) = 0."""
    close(f(sigma=a * sigma), f(sigma=sigma) + math.log(a) / 4, rtol=1e-12, atol=1e-14)
    close(f(sigma=one(1.0)), one(0.0), atol=1e-15)


@law("boundary_parameterization")
@given(x=some.images, y=some.images, sigma_min=some.sigma_mins, sigma_data=some.sigma_datas)
def is_x_at_sigma_min(f: Function, x: Tensor, y: Tensor, sigma_min: float, sigma_data: float) -> None:
    """f(x, sigma_min) = x for every F, and bit for bit independent of F where c_skip is exactly 1."""
    level = torch.full((len(x),), sigma_min, dtype=torch.float64)
    loud, silent = (
        f(network=lambda *_, k=k: k * y, x=x, sigma=level, sigma_min=sigma_min, sigma_data=sigma_data)
        for k in (1e3, 0.0)
    )
    close(loud, x, rtol=1e-14)
    equal(loud, silent, "with another F")


@law("boundary_parameterization")
@given(x=some.images, y=some.images, sigma=some.noise_levels, sigma_data=some.sigma_datas)
def is_affine_in_the_network(f: Function, x: Tensor, y: Tensor, sigma: Tensor, sigma_data: float) -> None:
    """f = c_skip x + c_out F."""
    level = column(sigma, x)
    expected = formulas.c_skip(level, sigma_data=sigma_data) * x + formulas.c_out(level, sigma_data=sigma_data) * y
    got = f(network=lambda *_: y, x=x, sigma=sigma, sigma_data=sigma_data)
    close(got, expected, atol=1e-13 * float(x.abs().max() + y.abs().max()))


@law("boundary_parameterization", needs=("gradients",))
@given(x=some.images, sigma=some.noise_levels, sigma_data=some.sigma_datas)
def lets_the_gradient_through(f: Function, x: Tensor, sigma: Tensor, sigma_data: float) -> None:
    """F = theta sin: d f / d theta = c_out(sigma) sin(c_in(sigma) x)."""
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    value = f(network=lambda scaled, _: theta * scaled.sin(), x=x, sigma=sigma, sigma_data=sigma_data)
    needs(isinstance(value, Tensor) and value.requires_grad, "no gradient reaches the network")
    (got,) = torch.autograd.grad(value.sum(), theta)
    level = column(sigma, x)
    scaled = formulas.c_in(level, sigma_data=sigma_data) * x
    expected = (formulas.c_out(level, sigma_data=sigma_data) * scaled.sin()).sum()
    # Terms of both signs cancel in the sum, and sigma cancels in sigma - sigma_min.
    size = sigma_data * float(scaled.abs().sum())
    close(got, expected, atol=1e-13 * size, what="the network's gradient is")


@law("boundary_parameterization")
@given(x=some.images, sigma=some.noise_levels, sigma_data=some.sigma_datas)
def hands_the_network_unit_variance_and_log_sigma(f: Function, x: Tensor, sigma: Tensor, sigma_data: float) -> None:
    """F is called once, at x / sqrt(sigma^2 + sigma_data^2) and log(sigma) / 4."""
    asked: list[tuple[Tensor, Tensor]] = []

    def network(scaled: Tensor, noise: Tensor) -> Tensor:
        asked.append((scaled, noise))
        return scaled

    f(network=network, x=x, sigma=sigma, sigma_data=sigma_data)
    equal(len(asked), 1, "a number of calls of the network of")
    scaled, noise = asked[0]
    size = (column(sigma, x) ** 2 + sigma_data**2).sqrt()
    close(scaled * size, x, rtol=1e-12, what="F's input times sqrt(sigma^2 + sigma_data^2) is")
    equal(list(noise.shape), [len(x)], "F's noise has a shape of")
    close(noise, sigma.log() / 4, rtol=1e-12, atol=1e-14, what="F's noise is")


@law("boundary_parameterization")
@given(x=some.images, sigma=some.noise_levels)
def sees_each_example_alone(f: Function, x: Tensor, sigma: Tensor) -> None:
    """The values of a batch are the values of its examples."""

    def network(scaled: Tensor, noise: Tensor) -> Tensor:
        return torch.tanh(scaled + column(noise.reshape(-1), scaled))

    alone = [f(network=network, x=x[j : j + 1], sigma=sigma[j : j + 1]) for j in range(len(x))]
    close(f(network=network, x=x, sigma=sigma), torch.cat(alone), atol=1e-14 * float(x.abs().max()))


@law("positional_embedding")
@given(c_noise=some.c_noises, half=some.half_widths)
def has_constant_length(f: Function, c_noise: Tensor, half: int) -> None:
    """cos^2 + sin^2 = 1 for every frequency, the cosine before the sine by half the width."""
    squared = f(c_noise=c_noise, width=2 * half) ** 2
    close(squared[:, :half] + squared[:, half:], torch.ones(len(c_noise), half), rtol=1e-12, what="cos^2 + sin^2 =")


@law("positional_embedding")
@given(c_noise=some.c_noises, half=some.half_widths)
def begins_with_frequency_1(f: Function, c_noise: Tensor, half: int) -> None:
    """The first cosine and the first sine are of c itself; cosines come first."""
    embedding = f(c_noise=c_noise, width=2 * half)
    close(embedding[:, 0], c_noise.cos(), atol=1e-13, what="the first value is")
    close(embedding[:, half], c_noise.sin(), atol=1e-13, what="the value in the middle is")


@law("positional_embedding")
@given(c_noise=some.c_noises, half=some.half_widths, max_period=some.max_periods)
def has_geometric_frequencies(f: Function, c_noise: Tensor, half: int, max_period: float) -> None:
    """f_k = max_period^(-(k-1)/h): with as many frequencies again in between, the old ones stay."""
    coarse, fine = (f(c_noise=c_noise, width=m * half, max_period=max_period) for m in (2, 4))
    close(fine[:, ::2], coarse, rtol=1e-11, atol=1e-13, what="every second value is")


@law("fourier_embedding")
@given(c_noise=some.c_noises, frequencies=some.frequencies)
def has_sines_first_and_constant_length(f: Function, c_noise: Tensor, frequencies: Tensor) -> None:
    """sin^2 + cos^2 = 1 for every frequency, the sine before the cosine by half the width."""
    half = len(frequencies)
    value = f(c_noise=c_noise, frequencies=frequencies)
    squared = value**2
    close(squared[:, :half] + squared[:, half:], torch.ones(len(c_noise), half), rtol=1e-12, what="sin^2 + cos^2 =")
    none = f(c_noise=torch.zeros(1, dtype=torch.float64), frequencies=frequencies)
    close(none, torch.tensor([[0.0] * half + [1.0] * half]), atol=1e-15, what="at c = 0")


@law("fourier_embedding")
@given(c_noise=some.c_noises, frequencies=some.frequencies)
def has_odd_sines_and_even_cosines(f: Function, c_noise: Tensor, frequencies: Tensor) -> None:
    """c -> -c turns the sign of the first half and leaves the second."""
    half = len(frequencies)
    there, back = (f(c_noise=sign * c_noise, frequencies=frequencies) for sign in (1, -1))
    close(back[:, :half], -there[:, :half], rtol=1e-12, atol=1e-15)
    close(back[:, half:], there[:, half:], rtol=1e-12, atol=1e-15)


@law("fourier_embedding")
@given(c_noise=some.c_noises, m=some.small_integers)
def has_period_1_for_whole_frequencies(f: Function, c_noise: Tensor, m: int) -> None:
    """w an integer: c and c + 1 are embedded alike, for the angle is 2 pi c w."""
    whole = torch.tensor([float(m), -float(m)], dtype=torch.float64)
    close(f(c_noise=c_noise + 1, frequencies=whole), f(c_noise=c_noise, frequencies=whole), atol=1e-12)


LAWS: tuple[Laws, ...] = (
    is_1_at_the_boundary,
    is_0_at_the_boundary,
    is_a_share_that_falls,
    rises_towards_sigma_data,
    becomes_edm_s_without_sigma_min,
    becomes_edm_s_out_without_sigma_min,
    is_symmetric_about_sigma_min,
    changes_its_sign_at_sigma_min,
    makes_the_variance_1,
    does_not_see_the_units,
    has_the_inverse_of_the_unit,
    is_a_quarter_of_the_logarithm,
    is_x_at_sigma_min,
    is_affine_in_the_network,
    lets_the_gradient_through,
    hands_the_network_unit_variance_and_log_sigma,
    sees_each_example_alone,
    has_constant_length,
    begins_with_frequency_1,
    has_geometric_frequencies,
    has_sines_first_and_constant_length,
    has_odd_sines_and_even_cosines,
    has_period_1_for_whole_frequencies,
)
