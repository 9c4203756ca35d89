"""Counts of launches, copies and host reads, against operations that are counted by hand."""

import dataclasses

import pytest
import torch

from ict_ref.config import PRESETS
from ict_ref.plan.launches import Launches, pass_launches
from ict_ref.plan.meta_step import META

pytestmark = pytest.mark.usefixtures("unchecked")
CPU = torch.device("cpu")


def test_views_and_allocations_launch_nothing() -> None:
    x = torch.ones(4, 6)
    with Launches(CPU) as counted:
        x.t()[1:].unsqueeze(0).expand(3, -1, -1).unbind()
        x.detach().view(24).chunk(2)
        torch.empty_like(x)
    assert counted.launches == counted.host_reads == counted.copies == 0


def test_operations_launch_once_each() -> None:
    x = torch.ones(4, 6, requires_grad=True)
    with Launches(CPU) as counted:
        y = (2 * x).exp().sum()  # 3 launches; backward: 1 gives the gradient's first 1, exp and 2 x have a product each
        torch.autograd.backward(y)
        x.detach().add_(1)
    assert dict(counted.names) == {"mul": 3, "exp": 1, "sum": 1, "ones_like": 1, "add_": 1}


def test_copies_between_devices_and_host_reads_are_counted_apart() -> None:
    x = torch.ones(3)
    with Launches(CPU) as counted:
        x.to(META)
        x.double()  # a copy on one device is a launch
        float(x[0])
        x.nonzero()
    assert (counted.launches, counted.copies, counted.host_reads) == (1, 1, 2)


def test_operations_on_another_device_are_not_counted() -> None:
    with Launches() as counted:
        torch.ones(3).sum().item()
    assert counted.launches == counted.host_reads == counted.copies == 0


@pytest.mark.parametrize(("preset", "limit"), [("cifar10", 1800), ("imagenet64", 2400)])
def test_the_passes_of_the_paper_s_networks_in_16_bits(preset: str, limit: int) -> None:
    base = PRESETS[preset]()
    config = dataclasses.replace(base, train=dataclasses.replace(base.train, precision="float16"))
    counted = pass_launches(config)
    assert counted.launches <= limit
    assert counted.host_reads == counted.copies == 0


def test_the_number_of_images_changes_no_count() -> None:
    assert pass_launches(PRESETS["digits"](), 3).names == pass_launches(PRESETS["digits"](), 5).names
