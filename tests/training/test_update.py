"""A complete update, written again from its definition: NumPy for the random numbers, loops for the computation."""

import dataclasses
import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.support.runs import updated
from torch import Tensor

from ict_ref.config import Config, Method, Train, minimal
from ict_ref.data.dataset import load
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.training.trainer import Trainer

# Nothing at its default: what is not passed on shows. K' = floor(20 / (log2 8 + 1)) = 5, so N = 4 * 2 + 1 at step 7.
METHOD = Method(sigma_min=0.01, sigma_max=50.0, rho=5.0, sigma_data=0.6, s0=4, s1=32, p_mean=-0.5, p_std=1.5)
TRAIN = Train(
    steps=20,
    batch_size=8,
    learning_rate=0.25,
    ema_decay=0.75,
    seed=3,
    noise_shards=2,
    precision="float64",
)
CONFIG = Config(network=minimal().network, method=METHOD, train=TRAIN)
STEP, LEVELS = 7, 9


def philox(purpose: int, step: int, shard: int, seed: int = 3) -> np.random.Generator:
    # 1 order, 2 noise level, 3 noise, 4 dropout: fixed for ever, or old runs could not be repeated.
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, shard, step, purpose]))


STRIDE = np.uint64(0x9E3779B97F4A7C15)


def splitmix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def cell(u: float, levels: list[float], mean: float, std: float) -> int:
    ends = [math.erf((math.log(sigma) - mean) / (math.sqrt(2) * std)) for sigma in levels]
    mass = [high - low for low, high in itertools.pairwise(ends)]
    total = 0.0
    for j, one in enumerate(mass):
        total += one / sum(mass)
        if u < total:
            return j
    raise AssertionError(u)


def expected_loss(model: ConsistencyModel, config: Config, step: int, n: int) -> Tensor:
    digits, method, seed = load(config.data).train, config.method, config.train.seed
    batch, shards = config.train.batch_size, config.train.noise_shards
    low, high = method.sigma_min ** (1 / method.rho), method.sigma_max ** (1 / method.rho)
    levels = [(low + j / (n - 1) * (high - low)) ** method.rho for j in range(n)]
    levels[0] = method.sigma_min  # the boundary itself, not its rounded root's power
    size = batch // shards
    chosen = philox(1, 0, 0, seed).permutation(1198)[batch * step : batch * (step + 1)]
    losses = []
    for shard in range(shards):
        places = torch.from_numpy(chosen[size * shard : size * (shard + 1)])
        x, labels = (digits.pixels[places].float() / 127.5 - 1).double(), digits.labels[places]
        i = [cell(u, levels, method.p_mean, method.p_std) for u in philox(2, step, shard, seed).random(size)]
        noise = philox(3, step, shard, seed).standard_normal((size, 1, 8, 8), dtype=np.float32)
        z = torch.from_numpy(noise).double()
        key, masks = np.uint64(philox(4, step, shard, seed).bit_generator.random_raw()), []
        for number, site in enumerate(model.network.dropout_sites()):
            shape = (size, site.channels, site.height, site.width)
            # One block of words: of the key follows the site's, of that the block's, and the words are numbered.
            block = splitmix(splitmix(np.array([number], dtype=np.uint64) * STRIDE ^ key))
            words = splitmix(np.arange(math.prod(shape) // 4, dtype=np.uint64) * STRIDE ^ block)
            kept = words.view(np.int16).reshape(shape) >= 6554 - 32768  # 0.1 * 65536 = 6553.6
            masks.append(torch.from_numpy(kept))
        below, above = (torch.tensor([levels[j + k] for j in i], dtype=torch.float64) for k in (0, 1))
        student = model(x + above.reshape(size, 1, 1, 1) * z, above, labels, tuple(masks))
        teacher = model(x + below.reshape(size, 1, 1, 1) * z, below, labels, tuple(masks)).detach()
        c = 0.00054 * 8
        for k in range(size):
            distance = ((student[k] - teacher[k]) ** 2).sum().add(c**2).sqrt() - c
            losses.append(distance / (above[k] - below[k]))
    return torch.stack(losses).mean()


def prepared() -> Trainer:
    trainer = Trainer(CONFIG, load(CONFIG.data).train)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.student.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
        for average in trainer.ema.parameters():
            average.copy_(torch.randn(average.shape, generator=generator))
    trainer.step = trainer.guard.skipped = STEP  # the optimizer is at its first update
    return trainer


def test_an_update_follows_its_definition() -> None:
    trainer = prepared()
    parameters = list(trainer.student.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    averages = [average.clone() for average in trainer.ema.parameters()]
    loss = expected_loss(trainer.student, CONFIG, STEP, LEVELS)
    gradients = torch.autograd.grad(loss, parameters)
    trainer.update()
    torch.testing.assert_close(trainer.loss, loss.detach(), rtol=1e-9, atol=0)
    assert trainer.step == STEP + 1
    # RAdam's first update is unrectified: the learning rate times the gradient.
    rows = zip(parameters, before, gradients, trainer.ema.parameters(), averages, strict=True)
    for parameter, old, gradient, average, old_average in rows:
        torch.testing.assert_close(parameter.detach(), old - 0.25 * gradient, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(average, 0.75 * old_average + 0.25 * parameter.detach(), rtol=1e-12, atol=1e-12)


def test_the_seed_changes_all_that_is_sampled() -> None:
    here = prepared()
    there = Trainer(dataclasses.replace(CONFIG, train=dataclasses.replace(TRAIN, seed=4)), load(CONFIG.data).train)
    there.student.load_state_dict(here.student.state_dict())
    there.step = STEP
    assert updated(there) != updated(here)


def test_ten_updates_of_the_minimal_run_follow_their_definition() -> None:
    # K = 40 in eight stages of five steps: N = 11, then 21. torch's own RAdam.
    config = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, precision="float64"))
    trainer = Trainer(config, load(config.data).train)
    model = build_model(config, event=(1, 8, 8), classes=10)
    optimizer = torch.optim.RAdam(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
    ours, theirs = [], []
    for step in range(10):
        loss = expected_loss(model, config, step, 11 if step < 5 else 21)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        theirs.append(float(loss.detach()))
        ours.append(updated(trainer))
    assert ours == pytest.approx(theirs, rel=1e-11)
    # A change of these losses is a change of every run.
    assert ours == pytest.approx(GOLDEN, rel=1e-9)


GOLDEN = [
    4.125801083156214,
    4.761800259624813,
    5.421695228214578,
    6.154865463770208,
    5.733623846133045,
    5.830091002783078,
    6.085162747816732,
    6.477868596967355,
    4.96876498808759,
    7.328728826497317,
]
