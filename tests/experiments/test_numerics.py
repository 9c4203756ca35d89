"""The table of rounding errors, at small width, and the loss of one update in each precision."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from ict_ref.config import PRESETS, minimal
from ict_ref.data.dataset import load
from ict_ref.experiments.numerics import DTYPES, Errors, emulation, errors, random_model, significant
from ict_ref.training.trainer import Trainer

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
        assert torch.equal(significant(bits)(x), expected)
    single = x.float()
    assert torch.equal(significant(8)(single), single.bfloat16().float())
    assert torch.equal(significant(11)(single), single.half().float())


@pytest.mark.parametrize("policy", DTYPES)
def test_the_emulation_rounds_as_torch_s_autocast(policy: str) -> None:
    preset = PRESETS["imagenet64"]()
    network = dataclasses.replace(preset.network, width=16, blocks=1, head_channels=16, groups=8, multipliers=(1, 2))
    model = random_model(dataclasses.replace(preset, network=network), (3, 8, 8), CPU)
    x, sigma, labels = torch.randn(2, 3, 8, 8), torch.tensor([0.5, 5.0]), torch.tensor([0, 1])
    with torch.no_grad():
        exact = model(x, sigma, labels)
        model.autocast = DTYPES[policy]
        real = model(x, sigma, labels)
        with emulation(policy, CPU):
            emulated = model(x, sigma, labels)
    assert float((emulated - exact).norm()) == pytest.approx(float((real - exact).norm()), rel=0.15)


GOLDEN = {"float64": 6.15486546, "float32": 6.15486670, "tf32": 6.15486670, "bfloat16": 6.154866, "float16": 6.154867}
"""Loss of the fourth update of preset minimal on a CPU."""


@pytest.mark.parametrize("policy", GOLDEN)
def test_the_loss_of_each_policy_on_a_cpu(policy: Any) -> None:
    train = dataclasses.replace(minimal().train, precision=policy)
    trainer = Trainer(dataclasses.replace(minimal(), train=train), load(minimal().data).train)
    for _ in range(4):
        trainer.update()
    assert float(trainer.loss) == pytest.approx(GOLDEN[policy], rel=1e-6)
