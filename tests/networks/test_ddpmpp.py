"""DDPM++. Oracle: its structure in Song et al. 2021 and EDM, Table 7, counted and written out by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from tests.support.networks import PAPER, count, inputs, small, stored_nowhere

from ict_ref.config import Network
from ict_ref.networks.blocks import Fir, ResidualBlock, SelfAttention
from ict_ref.networks.embedding import NoiseFeatures


def convolution(before: int, after: int, side: int = 3) -> int:
    """Return the parameters of a convolution."""
    return before * after * side**2 + after


def block(before: int, after: int, *, attends: bool = False, resamples: bool = False) -> int:
    """Return the parameters of a residual block: norms, convolutions, the embedding's map, the skip connection."""
    total = 2 * before + convolution(before, after) + 512 * after + after + 2 * after + convolution(after, after)
    total += convolution(before, after, 1) if resamples or before != after else 0
    return total + (2 * after + convolution(after, 3 * after, 1) + convolution(after, after, 1) if attends else 0)


def test_it_has_the_55_7_million_parameters_of_edm_s_table() -> None:
    total = 128 * 512 + 512 + 512 * 512 + 512 + convolution(3, 128)
    skips, before = [128], 128
    for stage in range(3):
        if stage > 0:
            total += block(256, 256, resamples=True)
            skips.append(256)
        for _ in range(4):
            total += block(before, 256, attends=stage == 1)
            before = 256
            skips.append(256)
    total += block(256, 256, attends=True) + block(256, 256)
    for stage in (2, 1, 0):
        total += block(256, 256, resamples=True) if stage < 2 else 0
        total += sum(block(256 + skips.pop(), 256, attends=stage == 1 and place == 4) for place in range(5))
    total += 2 * 256 + convolution(256, 3)
    network = stored_nowhere(PAPER["DDPM++"], size=32, classes=0)
    assert count(network) == total == 55_732_739
    # EDM's network has 9 * 128 more, of its augmentation labels: 55 733 891.
    kinds = [type(module) for module in network.modules()]
    assert (kinds.count(ResidualBlock), kinds.count(SelfAttention), kinds.count(Fir)) == (33, 6, 0)


def test_the_lowest_frequency_of_its_embedding_is_one_in_ten_thousand() -> None:
    """f_k = 10000^(-(k-1)/(h-1)) for h frequencies; ADM divides by h"""
    options = Network(architecture="ddpmpp", width=8, multipliers=(1,), head_channels=0, attention_resolutions=())
    c = torch.tensor([-1.5, 0.3], dtype=torch.float64)
    for architecture, last in (("ddpmpp", 3), ("adm", 4)):
        chosen = dataclasses.replace(options, architecture=architecture, groups=1)  # type: ignore[arg-type]
        frequencies = np.array([10_000 ** (-k / last) for k in range(4)])
        angles = c.numpy()[:, None] * frequencies
        expected = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
        np.testing.assert_allclose(NoiseFeatures(chosen)(c).numpy(), expected, rtol=0, atol=1e-12)


def test_a_map_that_changes_resolution_is_averaged_or_repeated_and_projected() -> None:
    network = small(architecture="ddpmpp", head_channels=0).network
    resampling = [module for module in network.modules() if isinstance(module, ResidualBlock) and module.way != "none"]
    assert {module.way for module in resampling} == {"down", "up"}
    h = torch.arange(16.0, dtype=torch.float64).reshape(1, 1, 4, 4)
    for module in resampling:
        assert isinstance(module.skip, torch.nn.Conv2d)
        assert module.gain == pytest.approx(math.sqrt(0.5))
        assert module.resample is not None
        made = module.resample(h)[0, 0]
        if module.way == "down":
            assert made.tolist() == [[2.5, 4.5], [10.5, 12.5]]
        else:
            assert torch.equal(made[::2, ::2], h[0, 0])
            assert torch.equal(made[1::2, 1::2], h[0, 0])


def test_its_boundary_condition_holds_bit_for_bit() -> None:
    x, sigma, labels = inputs()
    model = small(architecture="ddpmpp", head_channels=0)
    value = model(x, sigma, labels)
    assert torch.equal(value[0], x[0])
    assert not torch.equal(value[1], x[1])
