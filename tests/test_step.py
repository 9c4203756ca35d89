import copy
import dataclasses
from functools import partial

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from ict_ref.config import Config, minimal
from ict_ref.data import load, to_float
from ict_ref.formulas import consistency_training_loss, pseudo_huber
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.step import Discretization, Draws, discretization, draw, training_loss

EVENT = (1, 8, 8)


def config(dropout: float = 0.1) -> Config:
    """Return the minimal preset in float64."""
    preset = minimal()
    train = dataclasses.replace(preset.train, dtype="float64")
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


def draws_of(step: int, model: ConsistencyModel, config: Config) -> Draws:
    """Return the draws of all lanes."""
    return draw(step, range(config.train.lanes), config, event=EVENT, sites=model.network.dropout_sites())


def test_student_and_teacher_share_their_dropout_masks() -> None:
    # Rate 0.9, and two noise levels so close that nothing but the masks could tell student and teacher apart.
    chosen = config(dropout=0.9)
    model = model_of(chosen)
    x, labels = batch(chosen)
    draws = dataclasses.replace(draws_of(0, model, chosen), index=torch.zeros(len(x), dtype=torch.int64))
    losses = []
    for gap in (1e-2, 1e-4, 1e-6):
        sigmas = torch.tensor([1.0, 1.0 + gap], dtype=torch.float64)
        levels = Discretization(sigmas, torch.ones(1).double(), torch.ones(1).double())
        losses.append(float(training_loss(model, x, labels, draws, levels).detach().max()))
    # Below c the distance is quadratic in the gap: a hundredth of the gap, a ten thousandth of the loss.
    assert losses[1] < 1e-2 * losses[0]
    assert losses[2] < 1e-3 * losses[1]
    assert losses[2] < 1e-6


def test_masks_that_are_not_shared_leave_a_loss_at_equal_levels() -> None:
    # The test above can fail: with other masks for the teacher the loss does not vanish with the gap.
    chosen = config(dropout=0.9)
    model = model_of(chosen)
    x, labels = batch(chosen)
    here, there = draws_of(0, model, chosen), draws_of(1, model, chosen)
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
    draws, levels = draws_of(30, model, chosen), discretization(30, chosen)
    torch.autograd.backward(training_loss(model, x, labels, draws, levels).mean())
    student, frozen = copy.deepcopy(model), copy.deepcopy(model).requires_grad_(False)
    student.zero_grad()
    loss = consistency_training_loss(
        partial(student, labels=labels, masks=draws.masks),
        partial(frozen, labels=labels, masks=draws.masks),
        x,
        draws.z,
        draws.index,
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
    draws = draw(0, range(4), chosen, event=(3, 8, 8), sites=model.network.dropout_sites())
    levels = discretization(0, chosen)
    loss = training_loss(model, x, labels, draws, levels)
    # The network is 0 at the start: f = c_skip x.
    low, high = (levels.sigmas[draws.index + k].reshape(-1, 1, 1, 1) for k in (0, 1))
    skip = [0.25 / ((sigma - 0.002) ** 2 + 0.25) for sigma in (low, high)]
    delta = skip[1] * (x + high * draws.z) - skip[0] * (x + low * draws.z)
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
    draws = draws_of(0, model, chosen)
    sigma_min = torch.full((len(x),), 0.002, dtype=torch.float64)
    noisy = x + 0.002 * draws.z
    assert torch.equal(model(noisy, sigma_min, labels, draws.masks), noisy)
    assert float(discretization(0, chosen).sigmas[0]) == 0.002


def test_the_draws_of_a_batch_are_those_of_its_lanes() -> None:
    chosen = config()
    model = model_of(chosen)
    sites = model.network.dropout_sites()
    whole = draws_of(3, model, chosen)
    halves = [draw(3, lanes, chosen, event=EVENT, sites=sites) for lanes in ((0, 1), (2, 3))]
    assert torch.equal(whole.index, torch.cat([half.index for half in halves]))
    assert torch.equal(whole.z, torch.cat([half.z for half in halves]))
    for site, mask in enumerate(whole.masks):
        assert torch.equal(mask, torch.cat([half.masks[site] for half in halves]))


def test_the_draws_differ_between_steps_lanes_and_seeds() -> None:
    chosen = config()
    other = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, seed=1))
    sites = model_of(chosen).network.dropout_sites()
    variants = [(0, 0, chosen), (1, 0, chosen), (0, 1, chosen), (0, 0, other)]
    drawn = [draw(step, [lane], which, event=EVENT, sites=sites) for step, lane, which in variants]
    assert len({float(one.z.sum()) for one in drawn}) == 4
    assert len({tuple(one.masks[0].flatten().tolist()) for one in drawn}) == 4


def test_cells_are_drawn_by_the_lognormal_schedule() -> None:
    # N = 11: p(i) of FORMULAS as printed to three digits. 5 steps of the first stage at 4096 examples.
    chosen = config()
    large = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, batch_size=4096))
    index = torch.cat([draw(step, range(4), large, event=(1,), sites=[]).index for step in range(5)])
    counts = torch.bincount(index, minlength=10).double()
    p = torch.tensor([0.063, 0.182, 0.246, 0.213, 0.142, 0.081, 0.041, 0.020, 0.009, 0.004], dtype=torch.float64)
    expected = len(index) * p / p.sum()
    # A false alarm once in 10 000 seeds; the seed is fixed.
    assert chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-4


def test_noise_is_standard_normal_and_the_same_in_both_precisions() -> None:
    chosen = config()
    large = dataclasses.replace(chosen, train=dataclasses.replace(chosen.train, batch_size=4096))
    z = draw(0, range(4), large, event=EVENT, sites=[]).z
    # 262 144 values: five standard errors are 5 / 512 for the mean and 5 sqrt(2) / 512 for the variance.
    assert float(z.mean()) == pytest.approx(0, abs=0.0098)
    assert float(z.var()) == pytest.approx(1, abs=0.0139)
    single = dataclasses.replace(large, train=dataclasses.replace(large.train, dtype="float32"))
    assert torch.equal(draw(0, range(4), single, event=EVENT, sites=[]).z.double(), z)
