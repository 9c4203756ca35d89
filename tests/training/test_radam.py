"""RAdam in Adam's fused kernel takes the steps of torch's own RAdam.

Oracle: torch.optim.RAdam, and its printed update by hand for two steps.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from ict_ref.training.radam import RAdam, adam_numbers


def parameters(dtype: torch.dtype) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in ((3, 4), (5,), ())]


def gradient(t: int, like: Tensor, scale: float) -> Tensor:
    """Return another gradient for each step, some of it exactly 0."""
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(t)).to(like.dtype)
    return scale * noise * (noise > -0.5)


def after(steps: int, dtype: torch.dtype, scale: float, *, ours: bool, **options: float) -> list[Tensor]:
    chosen = parameters(dtype)
    mine = RAdam(chosen, lr=options["lr"], eps=options["eps"])
    theirs = torch.optim.RAdam(chosen, lr=options["lr"], betas=(0.9, 0.999), eps=options["eps"], foreach=True)
    for t in range(1, steps + 1):
        for parameter in chosen:
            parameter.grad = gradient(t, parameter, scale)
        if ours:
            mine.step()
        else:
            theirs.step()
    return [parameter.detach() for parameter in chosen]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e3])
def test_a_thousand_updates_are_those_of_the_radam_of_torch(scale: float) -> None:
    options = {"lr": 1e-3, "eps": 1e-8}
    pairs = zip(*(after(1000, torch.float64, scale, ours=ours, **options) for ours in (True, False)), strict=True)
    for mine, theirs in pairs:
        assert float((mine - theirs).abs().max()) < 1e-12


@pytest.mark.parametrize("steps", [1, 5, 6, 50])
def test_in_float32_they_agree_to_its_rounding(steps: int) -> None:
    options = {"lr": 1e-2, "eps": 1e-8}
    pairs = zip(*(after(steps, torch.float32, 1.0, ours=ours, **options) for ours in (True, False)), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=2e-6, atol=1e-7)


def test_the_first_updates_are_momentum_without_a_variance() -> None:
    # beta1 = .9: m_1 = .1 g, and m_1 / (1 - .9) = g; rho_5 = 4.996 < 5 < rho_6.
    parameter = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    optimizer = RAdam([parameter], lr=0.5)
    parameter.grad = torch.tensor([0.2, 1e-9], dtype=torch.float64)
    optimizer.step()
    torch.testing.assert_close(parameter.detach(), torch.tensor([0.9, -2.0 - 5e-10], dtype=torch.float64), rtol=1e-15,
                               atol=0)  # fmt: skip
    unrectified = [adam_numbers(t, lr=1.0, beta2=0.999, eps=1e-8)[1] > 1 for t in range(1, 8)]
    assert unrectified == [True] * 5 + [False] * 2


def test_late_updates_are_those_of_adam() -> None:
    # r_t -> 1 and 1 - beta2^t -> 1.
    lr, eps = adam_numbers(10**6, lr=0.1, beta2=0.999, eps=1e-8)
    assert lr == pytest.approx(0.1, rel=1e-12)
    assert eps == pytest.approx(1e-8, rel=1e-12)
    # t = 100 by hand: rho = 1999, beta2^100 = .9047921471.
    power = math.exp(100 * math.log(0.999))
    rho_t = 1999 - 200 * power / (1 - power)
    r = math.sqrt((rho_t - 4) * (rho_t - 2) * 1999 / (1995 * 1997 * rho_t))
    assert adam_numbers(100, lr=1.0, beta2=0.999, eps=1e-8) == pytest.approx((r, 1e-8 / math.sqrt(1 - power)))


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_the_defaults_are_those_of_the_radam_of_torch(scale: float) -> None:
    # Gradients of 1e-9 are below the default eps, gradients of 1 show both betas.
    results = []
    for kind in (RAdam, torch.optim.RAdam):
        (parameter, *_) = parameters(torch.float64)
        optimizer = kind([parameter], lr=1e-3)
        for t in range(1, 41):
            parameter.grad = gradient(t, parameter, scale)
            optimizer.step()
        results.append(parameter.detach())
    torch.testing.assert_close(*results, rtol=1e-9, atol=0)
