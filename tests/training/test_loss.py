import copy
import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from scipy.stats import chisquare
from tests.support.sampled_noise import sample_noise
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ict_ref.config import Config, Method, minimal
from ict_ref.data.dataset import load, to_float
from ict_ref.formulas import consistency_training_loss, pseudo_huber
from ict_ref.networks.blocks import SelfAttention
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.training.discretization import (
    CURRICULA,
    PROBABILITIES,
    WEIGHTS,
    Discretization,
    discretization,
    teacher_decay,
)
from ict_ref.training.distance import distance_of
from ict_ref.training.loss import OBJECTIVES, check_objective, training_loss
from ict_ref.training.sampled_noise import SampledNoise

EVENT = (1, 8, 8)


def config(dropout: float = 0.1) -> Config:
    """Return the minimal preset in float64."""
    preset = minimal()
    train = dataclasses.replace(preset.train, precision="float64")
    return dataclasses.replace(preset, train=train, network=dataclasses.replace(preset.network, dropout=dropout))


def model_of(config: Config) -> ConsistencyModel:
    """Return a model with random parameters everywhere: at the start most of it is silent."""
    model = build_model(config, event=EVENT, classes=10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def batch(config: Config) -> tuple[Tensor, Tensor]:
    """Return the first images of the digits and their labels."""
    images = load(config.data).train
    size = config.train.batch_size
    return to_float(images.pixels[:size]).double(), images.labels[:size]


def noise_of(step: int, model: ConsistencyModel, config: Config) -> SampledNoise:
    """Return the sampled noise of all shards."""
    return sample_noise(
        step, range(config.train.noise_shards), config, event=EVENT, sites=model.network.dropout_sites()
    )


def test_student_and_teacher_share_their_dropout_masks() -> None:
    # Rate 0.9, and two noise levels so close that only the masks could make student and teacher differ.
    chosen = config(dropout=0.9)
    model = model_of(chosen)
    x, labels = batch(chosen)
    noise = dataclasses.replace(noise_of(0, model, chosen), index=torch.zeros(len(x), dtype=torch.int64))
    losses = []
    for gap in (1e-2, 1e-4, 1e-6):
        sigmas = torch.tensor([1.0, 1.0 + gap], dtype=torch.float64)
        levels = Discretization(sigmas, torch.ones(1).double(), torch.ones(1).double())
        losses.append(float(training_loss(model, x, labels, noise, levels, chosen.method).detach().max()))
    # Below c the distance is quadratic in the gap: a hundredth of the gap, a ten thousandth of the loss.
    assert losses[1] < 1e-2 * losses[0]
    assert losses[2] < 1e-3 * losses[1]
    assert losses[2] < 1e-6


def test_masks_that_are_not_shared_leave_a_loss_at_equal_levels() -> None:
    # The test above can fail: with other masks for the teacher the loss does not vanish with the gap.
    chosen = config(dropout=0.9)
    model = model_of(chosen)
    x, labels = batch(chosen)
    here, there = noise_of(0, model, chosen), noise_of(1, model, chosen)
    sigmas = torch.tensor([1.0, 1.0 + 1e-6], dtype=torch.float64)
    loss = consistency_training_loss(
        partial(model, labels=labels, masks=here.masks),
        partial(model, labels=labels, masks=there.masks),
        x,
        here.z,
        torch.zeros(len(x), dtype=torch.int64),
        sigmas,
        distance=partial(pseudo_huber, c=0.00432),
        weights=torch.ones(1, dtype=torch.float64),
    )
    assert float(loss.detach().min()) > 1e-2


def test_no_gradient_flows_through_the_teacher() -> None:
    # The gradient is that of a student whose teacher is a frozen copy of itself.
    chosen = config()
    model = model_of(chosen)
    x, labels = batch(chosen)
    noise, levels = noise_of(30, model, chosen), discretization(30, chosen)
    torch.autograd.backward(training_loss(model, x, labels, noise, levels, chosen.method).mean())
    student, frozen = copy.deepcopy(model), copy.deepcopy(model).requires_grad_(False)
    student.zero_grad()
    loss = consistency_training_loss(
        partial(student, labels=labels, masks=noise.masks),
        partial(frozen, labels=labels, masks=noise.masks),
        x,
        noise.z,
        noise.index,
        levels.sigmas,
        distance=partial(pseudo_huber, c=0.00432),  # 0.00054 sqrt(64)
        weights=levels.weights,
    )
    torch.autograd.backward(loss.mean())
    for ours, theirs in zip(model.parameters(), student.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_constant_of_the_distance_counts_channels_too() -> None:
    # c = 0.00054 sqrt(3 * 8 * 8) for three channels.
    chosen = config()
    model = build_model(chosen, event=(3, 8, 8), classes=10)
    x, labels = batch(chosen)
    x = x.expand(-1, 3, -1, -1)
    noise = sample_noise(0, range(4), chosen, event=(3, 8, 8), sites=model.network.dropout_sites())
    levels = discretization(0, chosen)
    loss = training_loss(model, x, labels, noise, levels, chosen.method)
    # The network is 0 at the start: f = c_skip x.
    low, high = (levels.sigmas[noise.index + k].reshape(-1, 1, 1, 1) for k in (0, 1))
    skip = [0.25 / ((sigma - 0.002) ** 2 + 0.25) for sigma in (low, high)]
    delta = skip[1] * (x + high * noise.z) - skip[0] * (x + low * noise.z)
    c = 0.00054 * 192**0.5
    expected = ((delta**2).sum((1, 2, 3)) + c**2).sqrt() - c
    torch.testing.assert_close(loss.detach(), expected / (high - low).flatten(), rtol=1e-9, atol=0)


def test_the_levels_of_a_run_follow_the_curriculum() -> None:
    # s0 = 10, s1 = 1280, K = 40: K' = floor(40 / 8) = 5 steps for each of 8 stages.
    stages = [11, 21, 41, 81, 161, 321, 641, 1281]
    chosen = config()
    trace = [len(discretization(step, chosen).sigmas) for step in range(41)]
    assert trace == [n for n in stages for _ in range(5)] + [1281]


def test_the_lowest_level_is_the_boundary_where_the_teacher_returns_its_input() -> None:
    # In cell 0 the teacher stands at sigma_min: what it returns is x + sigma_min z, whatever the network.
    chosen = config()
    model = model_of(chosen)
    x, labels = batch(chosen)
    noise = noise_of(0, model, chosen)
    sigma_min = torch.full((len(x),), 0.002, dtype=torch.float64)
    noisy = x + 0.002 * noise.z
    assert torch.equal(model(noisy, sigma_min, labels, noise.masks), noisy)
    assert float(discretization(0, chosen).sigmas[0]) == 0.002


def test_the_sampled_noise_of_a_batch_is_that_of_its_shards() -> None:
    chosen = config()
    model = model_of(chosen)
    sites = model.network.dropout_sites()
    whole = noise_of(3, model, chosen)
    halves = [sample_noise(3, shards, chosen, event=EVENT, sites=sites) for shards in ((0, 1), (2, 3))]
    assert torch.equal(whole.index, torch.cat([half.index for half in halves]))
    assert torch.equal(whole.z, torch.cat([half.z for half in halves]))
    for site, mask in enumerate(whole.masks):
        assert torch.equal(mask, torch.cat([half.masks[site] for half in halves]))


def test_sampled_noise_differs_between_steps_shards_and_seeds() -> None:
    chosen = config()
    other = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, seed=1))
    sites = model_of(chosen).network.dropout_sites()
    variants = [(0, 0, chosen), (1, 0, chosen), (0, 1, chosen), (0, 0, other)]
    drawn = [sample_noise(step, [shard], which, event=EVENT, sites=sites) for step, shard, which in variants]
    assert len({float(one.z.sum()) for one in drawn}) == 4
    assert len({tuple(one.masks[0].flatten().tolist()) for one in drawn}) == 4


def test_intervals_are_sampled_by_the_lognormal_schedule() -> None:
    # N = 11: p(i) of FORMULAS as printed to three digits. 5 steps of the first stage at 4096 examples.
    chosen = config()
    large = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, batch_size=4096))
    index = torch.cat([sample_noise(step, range(4), large, event=(1,), sites=[]).index for step in range(5)])
    counts = torch.bincount(index, minlength=10).double()
    p = torch.tensor([0.063, 0.182, 0.246, 0.213, 0.142, 0.081, 0.041, 0.020, 0.009, 0.004], dtype=torch.float64)
    expected = len(index) * p / p.sum()
    # A false alarm once in 10 000 seeds; the seed is fixed.
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-4


def test_noise_is_standard_normal_and_the_same_in_both_precisions() -> None:
    chosen = config()
    large = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, batch_size=4096))
    z = sample_noise(0, range(4), large, event=EVENT, sites=[]).z
    # 262 144 values: five standard errors are 5 / 512 for the mean and 5 sqrt(2) / 512 for the variance.
    assert float(z.mean()) == pytest.approx(0, abs=0.0098)
    assert float(z.var()) == pytest.approx(1, abs=0.0139)
    single = dataclasses.replace(large, train=dataclasses.replace(large.train, precision="float32"))
    assert torch.equal(sample_noise(0, range(4), single, event=EVENT, sites=[]).z.double(), z)


def methods(**options: object) -> Config:
    """Return the configuration with this method."""
    return dataclasses.replace(config(), method=dataclasses.replace(config().method, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("curriculum", "half_way", "end"),
    [
        # s0 = 10, s1 = 1280 at k = K / 2: root of the mean square (printed), mean, square of the mean root.
        ("sqrt", math.ceil(math.sqrt((1281**2 + 10**2) / 2)), 1281),
        ("linear", math.ceil((1281 + 10) / 2), 1281),
        ("square", math.ceil(((math.sqrt(1281) + math.sqrt(10)) / 2) ** 2), 1281),
        ("cosine", math.ceil((1281 + 10) / 2), 1281),
        ("constant", 1281, 1281),
        ("exponential", 161, 1281),
    ],
)
def test_every_curriculum_can_be_chosen(curriculum: str, half_way: int, end: int) -> None:
    chosen = methods(curriculum=curriculum)
    assert [len(discretization(step, chosen).sigmas) for step in (20, 40)] == [half_way, end]


def test_schedule_and_weighting_of_ct_are_uniform() -> None:
    levels = discretization(0, methods(noise_schedule="uniform", weighting="uniform"))
    assert levels.pmf.tolist() == [0.1] * 10
    assert levels.weights.tolist() == [1.0] * 10


def test_the_teacher_s_decay_is_mu_of_k() -> None:
    # CT on CIFAR-10: s0 = 2, mu0 = .9: mu(0) = .9 and at the end .9^(2/151).
    chosen = methods(curriculum="sqrt", s0=2, s1=150, mu0=0.9)
    assert teacher_decay(0, chosen) == pytest.approx(0.9, rel=1e-12)
    assert teacher_decay(40, chosen) == pytest.approx(0.9 ** (2 / 151), rel=1e-12)
    assert teacher_decay(0, config()) == 0


def at_the_start(chosen: Config) -> tuple[Tensor, Tensor]:
    """Return the loss of a network that is 0 and its student minus its teacher: f = c_skip x."""
    model = build_model(chosen, event=EVENT, classes=10)
    x, labels = batch(chosen)
    noise, levels = noise_of(0, model, chosen), discretization(0, chosen)
    loss = training_loss(model, x, labels, noise, levels, chosen.method).detach()
    low, high = (levels.sigmas[noise.index + k].reshape(-1, 1, 1, 1) for k in (0, 1))
    skip = [0.25 / ((sigma - 0.002) ** 2 + 0.25) for sigma in (low, high)]
    return loss, skip[1] * (x + high * noise.z) - skip[0] * (x + low * noise.z)


def test_squared_l2_is_the_sum_of_squares() -> None:
    loss, delta = at_the_start(methods(distance="squared_l2", weighting="uniform"))
    torch.testing.assert_close(loss, (delta**2).sum((1, 2, 3)), rtol=1e-9, atol=0)


def test_the_constant_of_the_distance_can_be_given() -> None:
    loss, delta = at_the_start(methods(huber_c=0.5, weighting="uniform"))
    torch.testing.assert_close(loss, ((delta**2).sum((1, 2, 3)) + 0.25).sqrt() - 0.5, rtol=1e-9, atol=0)


def test_a_given_teacher_replaces_the_student() -> None:
    chosen = methods(mu0=0.9, distance="squared_l2", weighting="uniform")
    student, teacher = model_of(chosen), build_model(chosen, event=EVENT, classes=10)
    x, labels = batch(chosen)
    noise, levels = noise_of(0, student, chosen), discretization(0, chosen)
    loss = training_loss(student, x, labels, noise, levels, chosen.method, teacher=teacher)
    low, high = (levels.sigmas[noise.index + k] for k in (0, 1))
    column = (-1, 1, 1, 1)
    f = student(x + high.reshape(column) * noise.z, high, labels, noise.masks)
    # The teacher's network is 0.
    g = (0.25 / ((low - 0.002) ** 2 + 0.25)).reshape(column) * (x + low.reshape(column) * noise.z)
    torch.testing.assert_close(loss, ((f - g) ** 2).sum((1, 2, 3)))
    torch.autograd.backward(loss.sum())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert any(parameter.grad is not None for parameter in student.parameters())


def test_continuous_training_has_the_gradient_of_ever_finer_levels() -> None:
    # With weights 1 / gap the discrete gradient meets the continuous one; student and teacher share their masks.
    chosen = methods(objective="continuous", distance="squared_l2")
    model = model_of(chosen)
    x, labels = batch(chosen)
    noise, levels = noise_of(0, model, chosen), discretization(0, chosen)

    def gradient(loss: Tensor) -> Tensor:
        model.zero_grad()
        torch.autograd.backward(loss)
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    def discrete(gap: float) -> Tensor:
        """Return the loss of each example between its level and one a little above."""
        parts = []
        for k, sigma in enumerate(levels.sigmas[noise.index + 1].tolist()):
            pair = torch.tensor([sigma, sigma * (1 + gap)], dtype=torch.float64)
            at = SampledNoise(
                torch.zeros(1, dtype=torch.int64), noise.z[k : k + 1], tuple(m[k : k + 1] for m in noise.masks)
            )
            between = Discretization(pair, torch.ones(1).double(), 1 / pair.diff())
            one = slice(k, k + 1)
            parts.append(training_loss(model, x[one], labels[one], at, between, methods(distance="squared_l2").method))
        return torch.cat(parts)

    limit = gradient(training_loss(model, x, labels, noise, levels, chosen.method).mean())
    errors = [float((gradient(discrete(gap).mean()) - limit).norm() / limit.norm()) for gap in (1e-3, 5e-4)]
    assert errors[0] < 0.05
    assert errors[1] < 0.6 * errors[0]


def test_continuous_training_has_the_gradient_of_one_forward_mode_pass() -> None:
    # Value and derivative of one call, which records its gradient; the distance ||a - b||^2 has the Hessian 2 I.
    chosen = methods(objective="continuous", distance="squared_l2")
    model = model_of(chosen)
    assert any(isinstance(module, SelfAttention) for module in model.modules())
    x, labels = batch(chosen)
    noise, levels = noise_of(0, model, chosen), discretization(0, chosen)
    student, sigma = partial(model, labels=labels, masks=noise.masks), levels.sigmas[noise.index + 1]
    place = (x + sigma.reshape(-1, 1, 1, 1) * noise.z, sigma)
    with sdpa_kernel(SDPBackend.MATH):
        value, derivative = torch.func.jvp(student, place, (noise.z, torch.ones_like(sigma)))[:2]
    expected = torch.autograd.grad((value * 2 * derivative.detach()).sum(), list(model.parameters()))
    loss = training_loss(model, x, labels, noise, levels, chosen.method)
    for ours, theirs in zip(torch.autograd.grad(loss.sum(), list(model.parameters())), expected, strict=True):
        # Attention of the second call is fused, which rounds otherwise.
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11 * float(theirs.abs().max()))


class Halved(torch.nn.Module):
    """A stand-in for LPIPS: the mean of |x - y| over images that must be 224 pixels wide."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[-1] != 224 or x.shape[-2] != 224:
            raise RuntimeError("size")
        return (x - y).abs().mean((1, 2, 3), keepdim=True)


def test_lpips_is_a_torchscript_file_that_gets_enlarged_images(tmp_path: Path) -> None:
    torch.jit.script(Halved()).save(str(tmp_path / "lpips.pt"))  # type: ignore[no-untyped-call]
    distance = distance_of(Method(distance="lpips", lpips=str(tmp_path / "lpips.pt")), 64)
    x, y = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.25)
    y[1] = 0.5
    torch.testing.assert_close(distance(x, y), torch.tensor([0.25, 0.5]))


class MeanSquare(torch.nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean((1, 2, 3))


def test_images_are_enlarged_for_lpips_bilinearly(tmp_path: Path) -> None:
    # A pixel becomes a pyramid: the integral of (1 - |t|)^2 over [-1, 1] is 2/3, in two directions 4/9; nearest has 1.
    torch.jit.script(MeanSquare()).save(str(tmp_path / "square.pt"))  # type: ignore[no-untyped-call]
    distance = distance_of(Method(distance="lpips", lpips=str(tmp_path / "square.pt")), 64)
    y = torch.zeros(1, 3, 8, 8)
    y[..., 3, 4] = 1.0
    assert float(distance(torch.zeros_like(y), y)) == pytest.approx(4 / 9 / 64, rel=1e-2)


class OfOne(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))


class NotANumberEach(torch.nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x - y


@pytest.mark.parametrize("network", [OfOne(), NotANumberEach()])
def test_a_file_that_is_not_lpips_is_rejected_before_training(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.jit.script(network).save(str(tmp_path / "other.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match=r"--method\.lpips: expected a module called as lpips\(x, y\)"):
        check_objective(methods(distance="lpips", lpips=str(tmp_path / "other.pt")))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "--method.lpips: expected a file of LPIPS, got nothing"),
        ("a.pt", "--method.lpips: expected a file of import_lpips or TorchScript, got"),
    ],
)
def test_lpips_without_its_file_is_rejected_before_training(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_text("no TorchScript")
    chosen = methods(distance="lpips", lpips=str(tmp_path / name) if name else "")
    with pytest.raises(ValueError, match=says):
        check_objective(chosen)


def test_a_noise_schedule_without_probability_is_rejected_before_training() -> None:
    with pytest.raises(ValueError, match="lognormal density"):
        check_objective(methods(p_mean=1e3, p_std=1e-3))


def test_every_objective_of_the_schema_has_a_function() -> None:
    assert set(OBJECTIVES) == set(get_args(get_type_hints(Method)["objective"]))
    tables = {"curriculum": set(CURRICULA), "noise_schedule": set(PROBABILITIES), "weighting": set(WEIGHTS)}
    for name, functions in tables.items():
        assert functions == set(get_args(get_type_hints(Method)[name]))
