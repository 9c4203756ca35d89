"""EDM's training of a denoiser. Oracle: EDM's printed equations, exact fractions, and the normal law's closed form."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.runs import config, images
from torch import Tensor

from ict_ref.config import Method, minimal
from ict_ref.data.dataset import to_float
from ict_ref.plan.memory import memory
from ict_ref.training.denoising import denoising_loss, denoising_weights
from ict_ref.training.discretization import discretization
from ict_ref.training.loss import training_loss
from ict_ref.training.nonfinite import describe_nonfinite
from ict_ref.training.sampled_noise import sample_intervals_and_noise, sample_sigmas
from ict_ref.training.trainer import Trainer

EDM = Method(objective="denoising", p_mean=-1.2, p_std=1.2)
DENOISING = dataclasses.replace(minimal(), method=EDM)
levels = st.floats(1e-3, 1e3)
quick = settings(max_examples=25, deadline=None, derandomize=True)


def column(sigma: Tensor) -> Tensor:
    """Return one number for each image."""
    return sigma.reshape(-1, 1, 1, 1)


@quick
@given(sigma=levels, sigma_data=levels)
def test_the_weights_are_the_printed_ones(sigma: float, sigma_data: float) -> None:
    """lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2"""
    s, d = Fraction(sigma), Fraction(sigma_data)
    found = denoising_weights(torch.tensor([sigma], dtype=torch.float64), sigma_data=sigma_data)
    assert float(found) == pytest.approx(float((s**2 + d**2) / (s * d) ** 2), rel=1e-12)


@pytest.mark.parametrize("sigma", [1e-300, 1e-30, 1e30, 1e150])
def test_the_weights_keep_their_digits_where_squares_leave_the_range(sigma: float) -> None:
    """lambda is 1 / sigma^2 far below sigma_data and 1 / sigma_data^2 far above it"""
    found = denoising_weights(torch.tensor([sigma], dtype=torch.float64), sigma_data=2.0)
    expected = {1e-300: math.inf, 1e-30: 1e60, 1e30: 0.25, 1e150: 0.25}[sigma]
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "sigma_data"), [(0.0, 0.5), (-1.0, 0.5), (math.nan, 0.5), (1.0, 0.0), (1.0, math.inf)]
)
def test_weights_outside_the_domain_are_rejected(sigma: float, sigma_data: float) -> None:
    with pytest.raises(ValueError, match="expected"):
        denoising_weights(torch.tensor([sigma]), sigma_data=sigma_data)


@quick
@given(seed=st.integers(0, 2**31), sigma_data=levels)
def test_the_loss_of_the_network_has_weight_one_at_every_level(seed: int, sigma_data: float) -> None:
    """D = c_skip x + c_out F has lambda ||D - y||^2 = ||F - (y - c_skip x) / c_out||^2, EDM's Eq. (8)"""
    generator = torch.Generator().manual_seed(seed)
    y, z, free = (torch.randn(4, 3, 5, generator=generator).double() for _ in range(3))
    sigma = torch.rand(4, generator=generator).double() * 10 + 1e-3
    s = sigma.reshape(-1, 1, 1)
    c_skip, c_out = sigma_data**2 / (s**2 + sigma_data**2), s * sigma_data / (s**2 + sigma_data**2).sqrt()
    x = y + s * z
    loss = denoising_loss(lambda _, __: c_skip * x + c_out * free, y, z, sigma, sigma_data=sigma_data)
    expected = (free - (y - c_skip * x) / c_out).square().sum((1, 2))
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-12)


@quick
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10))
def test_the_loss_changes_with_the_unit_of_the_data_by_nothing(seed: int, scale: float) -> None:
    """x, sigma, sigma_data, D -> a x, a sigma, a sigma_data, a D(x / a, sigma / a) leaves the loss"""
    generator = torch.Generator().manual_seed(seed)
    y, z = (torch.randn(4, 6, generator=generator).double() for _ in range(2))
    sigma = torch.rand(4, generator=generator).double() + 0.01

    def denoiser(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.tanh(x) / (1 + sigma[:, None])

    def scaled(x: Tensor, sigma: Tensor) -> Tensor:
        return scale * denoiser(x / scale, sigma / scale)

    one = denoising_loss(denoiser, y, z, sigma, sigma_data=0.5)
    other = denoising_loss(scaled, scale * y, z, scale * sigma, sigma_data=0.5 * scale)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_best_denoiser_of_normal_data_is_the_conditional_mean() -> None:
    """The loss is stationary at D = (s^2 x + sigma^2 m) / (s^2 + sigma^2) for data N(m, s^2)"""
    generator = torch.Generator().manual_seed(0)
    mean, spread, count = 0.3, 0.4, 200_000
    y = mean + spread * torch.randn(count, 1, generator=generator).double()
    z, sigma = torch.randn(count, 1, generator=generator).double(), torch.full((count,), 0.7).double()
    slope = torch.tensor(spread**2 / (spread**2 + 0.7**2), dtype=torch.float64, requires_grad=True)
    offset = ((1 - slope) * mean).detach().requires_grad_()
    loss = denoising_loss(lambda x, _: slope * x + offset, y, z, sigma).mean()
    for gradient in torch.autograd.grad(loss, (slope, offset)):
        assert abs(float(gradient)) < 0.1  # 0 but for the noise of the draws
    worse = denoising_loss(lambda x, _: 1.05 * slope * x + offset, y, z, sigma).mean()
    assert bool(worse > loss)


def test_the_noise_level_is_lognormal_and_depends_on_step_shard_and_seed_alone() -> None:
    many = dataclasses.replace(DENOISING, train=dataclasses.replace(DENOISING.train, batch_size=4000))
    sampled = sample_sigmas(3, range(4), many)
    assert sampled is not None
    assert sampled.dtype == torch.float64
    law = scipy.stats.norm(-1.2, 1.2)
    assert scipy.stats.kstest(np.log(sampled.numpy()), law.cdf).pvalue > 0.01
    whole, part = sample_sigmas(3, range(4), DENOISING), sample_sigmas(3, range(2, 4), DENOISING)
    assert whole is not None
    assert part is not None
    assert torch.equal(whole[8:], part)
    assert not torch.equal(whole[:8], part)
    assert sample_sigmas(3, range(4), minimal()) is None


@pytest.mark.parametrize("shards", [range(4), range(1, 3)])
def test_the_training_loss_is_edm_s(shards: range) -> None:
    """lambda ||c_skip x + c_out F(c_in x, log(sigma) / 4) - y||^2, with dropout and labels, in float64"""
    chosen = dataclasses.replace(DENOISING, train=dataclasses.replace(DENOISING.train, precision="float64"))
    trainer = Trainer(chosen, images())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.student.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    microbatch = trainer.microbatches.get((5, shards), None)
    rows = slice(4 * shards.start, 4 * shards.stop)
    pixels, labels = images().batch(5, batch_size=16, seed=0, rows=rows)
    y = to_float(pixels).double()
    _, z = sample_intervals_and_noise(5, shards, chosen, event=(1, 8, 8))
    sigma = sample_sigmas(5, shards, chosen)
    assert sigma is not None
    s = column(sigma)
    x, root = y + s * z, (s**2 + 0.25).sqrt()
    free = trainer.student.network(x / root, sigma.log() / 4, labels, microbatch.noise.masks)
    denoised = 0.25 / (s**2 + 0.25) * x + s * 0.5 / root * free
    expected = (s.flatten() ** 2 + 0.25) / (s.flatten() * 0.5) ** 2 * (denoised - y).square().sum((1, 2, 3))
    found = training_loss(
        trainer.student, microbatch.x, microbatch.labels, microbatch.noise, discretization(5, chosen), chosen.method
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_a_denoiser_s_model_is_the_identity_at_noise_level_0_and_not_at_sigma_min() -> None:
    trainer = Trainer(DENOISING, images())
    with torch.no_grad():
        dict(trainer.student.network.named_parameters())["head.2.bias"].fill_(1.0)
    x = torch.zeros(1, 1, 8, 8)
    value = trainer.student(x, torch.tensor([0.002]), torch.tensor([3]))
    # c_out(0.002) = 0.002 * 0.5 / sqrt(0.002^2 + 0.25) = 0.00199998; a consistency function has 0 there.
    torch.testing.assert_close(value, torch.full_like(value, 0.00199998), rtol=1e-5, atol=0)


def test_a_denoiser_learns_the_same_by_microbatches_and_after_a_restart() -> None:
    chosen = dataclasses.replace(DENOISING, train=dataclasses.replace(DENOISING.train, precision="float64"))
    parts = dataclasses.replace(chosen, machine=dataclasses.replace(chosen.machine, accumulate=2))
    trainers = [Trainer(each, images()) for each in (chosen, parts)]
    for trainer in trainers:
        for _ in range(3):
            trainer.update()
    one, two = (torch.cat([p.detach().flatten() for p in trainer.student.parameters()]) for trainer in trainers)
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)


def test_its_memory_is_predicted_and_is_that_of_one_pass() -> None:
    predicted = memory(DENOISING, accumulate=1, recompute=False)
    discrete = memory(minimal(), accumulate=1, recompute=False)
    assert 0.5 < predicted.activations / discrete.activations < 1.1


def test_a_loss_that_is_not_finite_is_described_by_the_sampled_levels() -> None:
    sampled = sample_sigmas(6, range(4), DENOISING)
    assert sampled is not None
    low, high = float(sampled.min()), float(sampled.max())
    line = describe_nonfinite(DENOISING, 7, math.nan, 1.0)
    assert line.endswith(f"at step 7, noise levels {low:.4g} to {high:.4g}")


def test_noise_without_levels_and_options_without_effect_are_rejected() -> None:
    trainer = Trainer(config(), images())
    microbatch = trainer.microbatches.get((0, range(4)), None)
    with pytest.raises(ValueError, match=r"noise: expected noise levels, got None"):
        training_loss(
            trainer.student, microbatch.x, microbatch.labels, microbatch.noise, discretization(0, config()), EDM
        )
    with pytest.raises(ValueError, match=r"--method\.mu0: expected None where --method\.objective is denoising"):
        Method(objective="denoising", mu0=0.9)
    with pytest.raises(ValueError, match=r"--method\.noise-schedule: expected lognormal where --method\.objective is"):
        Method(objective="denoising", noise_schedule="uniform")
