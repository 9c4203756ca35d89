"""Averaged gradients and the layout of their buckets; tests/end_to_end/test_exactness.py has several processes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ict_ref.distributed import gradients
from ict_ref.distributed.gradients import Gradients, split
from ict_ref.distributed.process_group import ProcessGroup


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[None]:
    """Connect this process to itself."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_buckets_hold_the_parameters_in_reverse_order() -> None:
    one, two, three = (nn.Parameter(torch.zeros(n)) for n in (100, 10, 10))
    double = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    names = {id(p): name for name, p in zip("abcd", (one, two, three, double), strict=True)}

    def layout(limit_bytes: int) -> list[str]:
        return ["".join(names[id(p)] for p in some) for some in split([one, two, three, double], limit_bytes)]

    assert layout(80) == ["d", "cb", "a"]
    assert layout(79) == ["d", "c", "b", "a"]
    assert layout(480) == ["d", "cba"]


@pytest.mark.usefixtures("connected")
def test_gradients_add_up_and_are_averaged_in_the_last_backward_pass_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "split", lambda parameters: split(parameters, 1))  # a bucket for each parameter
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3, 1)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sums = Gradients(model.parameters(), ProcessGroup(rank=0, size=2))
    parts = torch.randn(2, 5, 2, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    expected = torch.autograd.grad(sum(model(part).sum() for part in parts), [*model.parameters()])
    for _ in range(2):  # the second time after `clear`
        sums.clear()
        model(parts[0]).sum().backward()
        with sums.averaged():
            model(parts[1]).sum().backward()
        # The sum over this process alone, divided by two.
        for parameter, gradient in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient / 2)
            assert parameter.grad is not None
            assert parameter.grad.stride() == parameter.stride()


@pytest.mark.usefixtures("connected")
def test_buckets_are_sent_in_one_order_and_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "split", lambda parameters: split(parameters, 1))
    first, unused, last = (nn.Parameter(torch.ones(n)) for n in (1, 2, 3))
    sent: list[int] = []
    send = dist.all_reduce

    def recorded(values: Tensor, *, async_op: bool) -> Any:
        sent.append(len(values))
        return send(values, async_op=async_op)

    monkeypatch.setattr(dist, "all_reduce", recorded)
    for order in ((first, last), (last, first)):
        sums = Gradients([first, unused, last], ProcessGroup(rank=0, size=2))
        sums.clear()
        sent.clear()
        with sums.averaged():
            for parameter in order:
                torch.autograd.backward(parameter.sum())
            assert sent == [3]  # the next bucket is not complete, so the last one waits for it
        assert sent == [3, 2, 1]
        assert unused.grad is not None
        assert not unused.grad.any()


def test_alone_a_process_keeps_its_gradients() -> None:
    parameter = nn.Parameter(torch.ones(2))
    sums = Gradients([parameter], ProcessGroup())
    with sums.averaged():
        torch.autograd.backward(parameter.sum())
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1, 1]
    sums.clear()
    assert parameter.grad is None
