"""Sizes of the authors' networks, counted on their public modules: Score SDE and EDM for NCSN++, CM for ADM."""

import dataclasses
from typing import Any

import pytest
import torch
from tests.support.networks import PAPER, count, stored_nowhere
from torch.utils.flop_counter import FlopCounterMode

from ict_ref.networks.blocks import ResidualBlock, SelfAttention


@pytest.mark.parametrize(
    ("name", "changed", "parameters", "gflop", "blocks", "attentions"),
    [
        ("NCSN++", {}, 56_395_523, 42.8, 33, 6),
        ("NCSN++", {"blocks": 8}, 97_610_499, 76.7, 57, 10),
        ("NCSN++", {"multipliers": (1, 2, 2, 2)}, 62_758_787, 22.02, 44, 6),
        ("NCSN++", {"multipliers": (1, 2, 2, 2), "blocks": 8}, 107_586_947, 37.42, 76, 10),
        ("ADM", {}, 282_168_003, 219.3, 36, 22),
        ("ADM", {"blocks": 6}, 472_767_555, 362.8, 60, 40),
        ("ADM", {"adaptive_norm": True}, 295_899_267, 219.31, 36, 22),
        ("ADM", {"adaptive_norm": True, "blocks": 6}, 495_357_699, 362.89, 60, 40),
    ],
)
def test_the_papers_networks_have_their_sizes(
    name: str, changed: dict[str, Any], parameters: int, gflop: float, blocks: int, attentions: int
) -> None:
    size, classes = (32, 0) if name == "NCSN++" else (64, 1000)
    network = stored_nowhere(dataclasses.replace(PAPER[name], **changed), size=size, classes=classes)
    assert count(network) == parameters
    kinds = [type(module) for module in network.modules()]
    assert (kinds.count(ResidualBlock), kinds.count(SelfAttention)) == (blocks, attentions)
    with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
        labels = torch.zeros(1, dtype=torch.int64) if classes else None
        network(torch.zeros(1, 3, size, size), torch.zeros(1), labels)
    # 2 operations per multiplication. EDM filters the small pyramid after its convolution, at four times the cost: on
    # the networks of few operations that is 1.2 %.
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=0.01 if gflop > 40 else 0.013)


def test_attention_is_among_the_counted_operations() -> None:
    # Per attention of p pixels and C channels: 4 maps of 2 p C^2 operations; q k^T and the mean have 2 p^2 C each.
    with_it = stored_nowhere(PAPER["NCSN++"], size=32, classes=0)
    without = stored_nowhere(dataclasses.replace(PAPER["NCSN++"], attention_resolutions=()), size=32, classes=0)
    total = []
    for network in (with_it, without):
        with FlopCounterMode(display=False) as counter, torch.device("meta"), torch.no_grad():
            network(torch.zeros(1, 3, 32, 32), torch.zeros(1))
        total.append(counter.get_total_flops())
    pixels, channels = 16 * 16, 256
    assert total[0] - total[1] == 5 * (4 * 2 * pixels * channels**2 + 2 * 2 * pixels**2 * channels)


def test_the_noise_frequencies_are_not_parameters() -> None:
    network = stored_nowhere(PAPER["NCSN++"], size=32, classes=0)
    extra = {name: value.shape for name, value in network.named_buffers() if name in network.state_dict()}
    assert extra == {"embedding.features.frequencies": torch.Size([128])}
