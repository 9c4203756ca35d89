"""RAdam in Adam's fused kernel takes the steps of torch's own RAdam.

Oracle: torch.optim.RAdam, and its printed update by hand for two steps.
"""

import copy
import math
import pickle
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ict_ref.training.radam import HUGE, RAdam, rate_and_eps


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
    unrectified = [rate_and_eps(t, beta1=0.9, beta2=0.999, eps=1e-8)[1] > 1 for t in range(1, 8)]
    assert unrectified == [True] * 5 + [False] * 2


def test_late_updates_are_those_of_adam() -> None:
    # r_t -> 1 and 1 - beta2^t -> 1.
    assert rate_and_eps(10**6, beta1=0.9, beta2=0.999, eps=1e-8) == pytest.approx((1.0, 1e-8), rel=1e-12)
    # t = 100 by hand: rho = 1999, beta2^100 = .9047921471, beta1^100 = 2.66e-5.
    power = math.exp(100 * math.log(0.999))
    rho_t = 1999 - 200 * power / (1 - power)
    r = math.sqrt((rho_t - 4) * (rho_t - 2) * 1999 / (1995 * 1997 * rho_t))
    factor = r * math.sqrt(1 - power) / (1 - math.exp(100 * math.log(0.9)))
    assert rate_and_eps(100, beta1=0.9, beta2=0.999, eps=1e-8) == pytest.approx((factor, 1e-8))
    assert rate_and_eps(2, beta1=0.9, beta2=0.999, eps=1e-8) == pytest.approx((HUGE / 0.19, HUGE))


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


def pair(**options: Any) -> list[tuple[list[nn.Parameter], torch.optim.RAdam]]:
    """Return equal parameters with our optimizer and with that of torch."""
    mine, theirs = parameters(torch.float64), parameters(torch.float64)
    return [(mine, RAdam(mine, **options)), (theirs, torch.optim.RAdam(theirs, **options))]


def updated(one: tuple[list[nn.Parameter], torch.optim.RAdam], steps: Iterable[int], *, without: int = 0) -> None:
    """Make updates with the gradients of these steps; every third leaves out the last `without` parameters."""
    chosen, optimizer = one
    for t in steps:
        for place, parameter in enumerate(chosen):
            left_out = t % 3 == 0 and place >= len(chosen) - without
            parameter.grad = None if left_out else gradient(t, parameter, 1.0)
        optimizer.step()


def assert_equal(one: Iterable[Tensor], other: Iterable[Tensor]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(mine.detach(), theirs.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_weight_decay_and_maximize_are_those_of_torch(decay: float, decoupled: bool, maximize: bool) -> None:
    mine, theirs = pair(lr=1e-2, weight_decay=decay, decoupled_weight_decay=decoupled, maximize=maximize)
    for one in (mine, theirs):
        updated(one, range(1, 20))
    assert_equal(mine[0], theirs[0])


def test_a_parameter_without_a_gradient_neither_moves_nor_counts() -> None:
    mine, theirs = pair(lr=1e-2)
    for one in (mine, theirs):
        updated(one, range(1, 20), without=2)
    assert_equal(mine[0], theirs[0])
    counts = [[float(one[1].state[parameter]["step"]) for parameter in one[0]] for one in (mine, theirs)]
    assert counts == [[19, 13, 13]] * 2


@pytest.mark.parametrize(
    "schedule",
    [
        partial(torch.optim.lr_scheduler.StepLR, step_size=4, gamma=0.5),
        partial(torch.optim.lr_scheduler.LambdaLR, lr_lambda=lambda t: 1 / (1 + t)),
        partial(torch.optim.lr_scheduler.OneCycleLR, max_lr=0.1, total_steps=30),
    ],
)
def test_schedulers_change_the_rate(schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler]) -> None:
    mine, theirs = pair(lr=1e-2)
    for one in (mine, theirs):
        scheduler = schedule(one[1])
        for t in range(1, 13):
            updated(one, [t])
            scheduler.step()
    assert_equal(mine[0], theirs[0])


def test_groups_have_options_of_their_own() -> None:
    for_groups = [({"lr": 1e-1}, {"betas": (0.5, 0.9), "eps": 1e-3}, {"weight_decay": 0.1})] * 2
    mine, theirs = parameters(torch.float64), parameters(torch.float64)
    both = []
    for kind, chosen, options in zip((RAdam, torch.optim.RAdam), (mine, theirs), for_groups, strict=True):
        optimizer = kind([{"params": [chosen[0]], **options[0]}, {"params": [chosen[1]], **options[1]}], lr=1e-2)
        optimizer.add_param_group({"params": [chosen[2]], **options[2]})
        both.append((chosen, optimizer))
    for one in both:
        updated(one, range(1, 20))
    assert_equal(mine, theirs)


@pytest.mark.parametrize("ours_first", [True, False])
def test_the_state_of_one_is_resumed_by_the_other(ours_first: bool) -> None:
    whole, first = pair(lr=1e-2), pair(lr=1e-2)[0 if ours_first else 1]
    updated(whole[1], range(1, 20))
    updated(first, range(1, 10))
    second = (first[0], (torch.optim.RAdam if ours_first else RAdam)(first[0], lr=1.0))
    second[1].load_state_dict(copy.deepcopy(first[1].state_dict()))
    updated(second, range(10, 20))
    assert_equal(second[0], whole[1][0])


def test_a_closure_is_evaluated_with_gradients_and_its_loss_is_returned() -> None:
    (parameter, *_) = parameters(torch.float64)
    optimizer = RAdam([parameter], lr=0.1)
    before = parameter.detach().clone()

    def closure() -> float:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    assert optimizer.step(closure) == pytest.approx(float(before.square().sum()))
    # The first update is lr g, and g = 2 theta.
    torch.testing.assert_close(parameter.detach(), before - 0.1 * 2 * before)


def test_hooks_copies_and_pickles_are_those_of_any_optimizer() -> None:
    mine, theirs = pair(lr=1e-2)
    calls: list[str] = []
    mine[1].register_step_pre_hook(lambda *_: calls.append("before"))
    mine[1].register_step_post_hook(lambda *_: calls.append("after"))
    updated(mine, range(1, 10))
    assert calls == ["before", "after"] * 9
    chosen, optimizer = pickle.loads(pickle.dumps((mine[0], pickled(mine[1]))))  # noqa: S301 - our own
    updated((chosen, optimizer), range(10, 20))
    updated(theirs, range(1, 20))
    assert_equal(chosen, theirs[0])


def pickled(optimizer: torch.optim.RAdam) -> torch.optim.RAdam:
    """Return an optimizer without its hooks, which cannot be pickled here."""
    optimizer._optimizer_step_pre_hooks.clear()
    optimizer._optimizer_step_post_hooks.clear()
    return optimizer


def test_the_rate_may_be_a_tensor() -> None:
    mine, theirs = parameters(torch.float32), parameters(torch.float32)
    for kind, chosen in ((RAdam, mine), (torch.optim.RAdam, theirs)):
        optimizer = kind(chosen, lr=torch.tensor(1e-2))
        for t in range(1, 20):
            for parameter in chosen:
                parameter.grad = gradient(t, parameter, 1.0)
            optimizer.step()
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "decoupled_weight_decay": True}])
def test_where_found_inf_holds_1_nothing_changes(options: dict[str, Any]) -> None:
    one = pair(lr=1e-2, **options)[0]
    updated(one, range(1, 8))
    before = [parameter.detach().clone() for parameter in one[0]]
    moments = copy.deepcopy(one[1].state_dict()["state"])
    optimizer = one[1]
    assert isinstance(optimizer, RAdam)
    optimizer.found_inf = torch.ones(())
    updated(one, [8])
    optimizer.updates -= 1
    assert all(torch.equal(old, new) for old, new in zip(before, one[0], strict=True))
    after = optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i][name], after[i][name]) for i in moments for name in moments[i])


def test_wrong_options_and_parameters_are_rejected() -> None:
    for options in ({"lr": -1.0}, {"eps": -1.0}, {"betas": (1.0, 0.9)}, {"weight_decay": -1.0}):
        with pytest.raises(ValueError, match="Invalid"):
            RAdam(parameters(torch.float64), **options)
    parameter = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    parameter.grad = torch.zeros_like(parameter)
    with pytest.raises(TypeError, match="expected real parameters with dense gradients"):
        RAdam([parameter]).step()
