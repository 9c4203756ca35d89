"""Floating-point operations, against layer shapes and against published counts of the forward pass.

Oracle: the operations of each layer by hand, from the shapes that forward hooks see in a real network on the CPU.
"""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ict_ref.config import PRESETS, Config, digits
from ict_ref.networks.blocks import SelfAttention
from ict_ref.networks.model import build_model
from ict_ref.plan.flop import flop_per_image
from ict_ref.plan.meta_step import meta_inputs, meta_loss, meta_model

pytestmark = pytest.mark.usefixtures("unchecked")


def by_hand(config: Config) -> int:
    """Return the operations of a step on one image: a multiplication and an addition are two."""
    model, batch = build_model(config, event=(1, 8, 8), classes=10), 2
    total = 0

    def add(module: Any, given: tuple[Any, ...], returned: Tensor) -> None:
        nonlocal total
        without_input_gradient = module in (model.network.stem, model.network.embedding.linear0)
        if isinstance(module, nn.Conv2d):
            forward = 2 * returned.numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            forward = 2 * returned.numel() * module.in_features
        else:
            # q k^T and the weighted mean: 2 products; backward 5, as a fused kernel computes q k^T again.
            pixels, channels = returned.shape[2] * returned.shape[3], returned.shape[1]
            product = 2 * batch * pixels**2 * channels
            total += (2 + 2 + 5) * product
            return
        # Student, teacher, the gradient of the weights, and that of the input unless it is the network's own.
        total += forward * (3 if without_input_gradient else 4)

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | SelfAttention):
            module.register_forward_hook(add)
    x, sigma = torch.zeros(batch, 1, 8, 8), torch.ones(batch)
    with torch.no_grad():
        model(x, sigma, torch.zeros(batch, dtype=torch.int64))
    return total // batch


@pytest.mark.parametrize("width", [16, 32])
def test_the_count_is_that_of_the_layers(width: int) -> None:
    config = dataclasses.replace(digits(), network=dataclasses.replace(digits().network, width=width))
    assert flop_per_image(config) == by_hand(config)


@pytest.mark.parametrize(("preset", "forward_gflop"), [("cifar10", 42.5), ("imagenet64", 219.3)])
def test_the_paper_s_networks_cost_four_forward_passes(preset: str, forward_gflop: float) -> None:
    # Forward passes were counted by fvcore on the public networks.
    assert flop_per_image(PRESETS[preset]()) / 1e9 == pytest.approx(4 * forward_gflop, rel=0.01)


def test_the_count_is_that_of_torch_s_counter_also_with_recomputation() -> None:
    for recompute in (False, True):
        model = meta_model(digits(), recomputes=recompute)
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(meta_loss(digits(), model, meta_inputs(digits(), model, 3)))
        assert flop_per_image(digits(), recompute=recompute) == counter.get_total_flops() // 3


def test_recomputation_repeats_less_than_the_student_s_forward_pass() -> None:
    once, repeated = (flop_per_image(digits(), recompute=recompute) for recompute in (False, True))
    assert once < repeated < 1.25 * once


def test_precision_batch_and_teacher_change_no_count() -> None:
    config = digits()
    changed = dataclasses.replace(
        config,
        method=dataclasses.replace(config.method, mu0=0.9),
        train=dataclasses.replace(config.train, precision="bfloat16", batch_size=128),
    )
    assert flop_per_image(changed) == flop_per_image(config)


def test_continuous_time_is_counted_too() -> None:
    # The student's value and its derivative replace the student's and the teacher's value.
    config = digits()
    method = dataclasses.replace(config.method, objective="continuous", distance="squared_l2")
    assert flop_per_image(dataclasses.replace(config, method=method)) > flop_per_image(config)


def test_files_are_left_out() -> None:
    config = digits()
    method = dataclasses.replace(config.method, distance="lpips", lpips="no such file")
    distilled = dataclasses.replace(config.method, objective="distillation", denoiser="no such file")
    for each in (method, distilled):
        assert flop_per_image(dataclasses.replace(config, method=each)) == flop_per_image(config)
