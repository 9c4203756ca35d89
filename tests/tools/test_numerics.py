"""The table of rounding errors, at small width, and the loss of one update in each precision."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from benchmarks.emulation import DTYPES, emulation, rounds_to, significant
from benchmarks.numerics import Errors, errors, random_model

from ict_ref.config import PRESETS, minimal
from ict_ref.data.dataset import load
from ict_ref.networks.precision import use_precision
from ict_ref.training.trainer import Trainer
from ict_ref.utils.tf32 import without_tf32

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def found() -> Errors:
    """Return the errors of a narrow NCSN++ on images of 16x16."""
    preset = PRESETS["cifar10"]()
    network = dataclasses.replace(preset.network, width=16, blocks=1, attention_resolutions=(8,))
    return errors(dataclasses.replace(preset, network=network), (3, 16, 16), CPU, lambda: None)


def test_noise_levels_are_those_of_the_central_998_per_mille(found: Errors) -> None:
    # Quantiles of log sigma ~ N(-1.1, 2^2) within [0.002, 80], by integrating the density.
    grid = torch.linspace(math.log(0.002), math.log(80), 200_001, dtype=torch.float64)
    cumulative = torch.exp(-((grid + 1.1) ** 2) / 8).cumsum(0)
    cumulative = cumulative / cumulative[-1]
    for sigma, quantile in zip(found.sigmas, (0.001, 0.1, 0.5, 0.9, 0.999), strict=True):
        expected = float(grid[int((cumulative < quantile).sum())].exp())
        assert sigma == pytest.approx(expected, rel=0.02)


def test_errors_are_ordered_as_the_significant_bits(found: Errors) -> None:
    assert found.worst("float32") < 0.1
    assert found.worst("float32") < 0.01 * found.worst("tf32")
    assert found.worst("bfloat16") > 4 * found.worst("float16")
    # Rounded results of convolutions add to rounded operands.
    for k in range(len(found.sigmas)):
        ratio = found.errors["float16"][k] / found.errors["operands of 11 bits"][k]
        assert 0.7 < ratio < 1.4


def test_rounding_keeps_the_given_number_of_significant_bits() -> None:
    x = torch.randn(1000, dtype=torch.float64)
    for bits in (8, 11):
        mantissa, exponent = torch.frexp(x)
        expected = torch.ldexp(torch.round(mantissa * 2**bits) / 2**bits, exponent)
        assert torch.equal(significant(x, bits), expected)
    single = x.float()
    assert torch.equal(significant(single, 8), single.bfloat16().float())
    assert torch.equal(significant(single, 11), single.half().float())


@pytest.mark.parametrize("policy", DTYPES)
def test_the_emulation_rounds_as_torch_s_autocast(policy: str) -> None:
    preset = PRESETS["imagenet64"]()
    network = dataclasses.replace(preset.network, width=16, blocks=1, head_channels=16, groups=8, multipliers=(1, 2))
    model = random_model(dataclasses.replace(preset, network=network), (3, 8, 8), CPU)
    generator = torch.Generator().manual_seed(0)
    x, sigma, labels = torch.randn(32, 3, 8, 8, generator=generator), torch.linspace(0.5, 5.0, 32), torch.arange(32)
    with torch.no_grad():
        exact = model(x, sigma, labels)
        model.autocast = DTYPES[policy]
        real = model(x, sigma, labels)
        with emulation(policy, CPU):
            emulated = model(x, sigma, labels)
    assert float((emulated - exact).norm()) == pytest.approx(float((real - exact).norm()), rel=0.15)


@pytest.mark.parametrize("policy", DTYPES)
def test_the_emulation_rounds_gradients_as_torch_s_autocast(policy: str) -> None:
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Conv2d(8, 16, 3), torch.nn.SiLU(), torch.nn.Conv2d(16, 8, 3))
    x = torch.randn(4, 8, 8, 8)

    def gradients(low: bool, emulated: bool) -> torch.Tensor:
        with (
            torch.autocast("cpu", dtype=DTYPES[policy], enabled=low),
            emulation(policy if emulated else "float32", CPU),
        ):
            loss = layers(x).float().pow(2).sum()
        return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, [*layers.parameters()])])

    exact = gradients(low=False, emulated=False)
    real, emulated = (gradients(low=True, emulated=each) - exact for each in (False, True))
    assert float(emulated.norm()) == pytest.approx(float(real.norm()), rel=0.1)


def test_the_emulation_of_tf32_rounds_operands_of_both_passes_where_torch_may_use_it() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(5, 7, requires_grad=True), torch.randn(3, 7, requires_grad=True)
    gradient = torch.randn(5, 3)
    expected = {
        policy: (rounded(x) @ rounded(weight).T, rounded(gradient) @ rounded(weight), rounded(gradient).T @ rounded(x))
        for policy, rounded in (("float32", torch.Tensor.float), ("tf32", rounds_to(torch.float16)))
    }
    for policy in expected:
        with without_tf32(), emulation("tf32", CPU):
            use_precision(policy)
            y = torch.nn.functional.linear(x, weight)
            found = (y, *torch.autograd.grad(y, [x, weight], gradient))
        for value, other in zip(found, expected[policy], strict=True):
            torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-6)


GOLDEN = {"float64": 6.15486546, "float32": 6.15486670, "tf32": 6.15486670, "bfloat16": 6.154866, "float16": 6.154867}
"""Loss of the fourth update of preset minimal on a CPU."""


@pytest.mark.parametrize("policy", GOLDEN)
def test_the_loss_of_each_policy_on_a_cpu(policy: Any) -> None:
    train = dataclasses.replace(minimal().train, precision=policy)
    trainer = Trainer(dataclasses.replace(minimal(), train=train), load(minimal().data).train)
    for _ in range(4):
        trainer.update()
    assert float(trainer.loss) == pytest.approx(GOLDEN[policy], rel=1e-6)
