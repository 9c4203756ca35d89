"""The fused normalisation, SiLU and dropout, against torch's own operations and their gradients."""

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.support.networks import VARIANTS, inputs, small
from torch import Tensor, nn

from ict_ref.networks import norm as module
from ict_ref.networks.dropout import draw_masks
from ict_ref.networks.model import recompute
from ict_ref.networks.norm import norm_silu_drop

pytestmark = pytest.mark.usefixtures("unchecked")
DOUBLE = torch.float64
CASES: dict[str, dict[str, Any]] = {
    "norm": {"silu": False},
    "norm and SiLU": {},
    "shift": {"shift": True},
    "mask": {"mask": True, "rate": 0.3},
    "offset": {"offset": True},
    "all": {"shift": True, "offset": True, "mask": True, "rate": 0.3},
    # Three channels a group and 63 pixels, neither a power of 2; one pixel; more pixels than a tile of 2048 values.
    "odd": {"shift": True, "mask": True, "rate": 0.3, "shape": (2, 6, 7, 9), "groups": 2},
    "one pixel": {"shift": True, "shape": (3, 8, 1, 1), "groups": 2},
    "several tiles": {"shift": True, "mask": True, "rate": 0.3, "shape": (1, 6, 40, 41), "groups": 2},
}
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the fused operation on the CPU."""
    monkeypatch.setattr(module, "fuses", lambda _, __: True)


@pytest.fixture
def by_triton(monkeypatch: pytest.MonkeyPatch, triton_kernel: Callable[[str], ModuleType]) -> None:
    """Use the fused operation on the CPU, by Triton's interpreter."""
    kernels = triton_kernel("norm_kernel")
    monkeypatch.setattr(module, "fuses", lambda _, __: True)
    monkeypatch.setattr(module, "_FORWARD", kernels.forward)
    monkeypatch.setattr(module, "_BACKWARD", kernels.backward)


@dataclasses.dataclass
class Given:
    """A normalisation and its arguments."""

    norm: nn.GroupNorm
    x: Tensor
    options: dict[str, Any]

    def result(self) -> Tensor:
        return norm_silu_drop(self.norm, self.x, **self.options)

    def expected(self) -> Tensor:
        """Return the result by the definition, in the dtype of the parameters."""
        shift, offset, mask = (self.options.get(name) for name in ("shift", "offset", "mask"))
        h = self.x.to(self.norm.weight.dtype) + (0 if shift is None else shift[:, :, None, None])
        h = h + (0 if offset is None else offset[:, None, None])
        n, channels, height, width = h.shape
        of_groups = h.reshape(n, self.norm.num_groups, -1)
        center, var = of_groups.mean(-1, keepdim=True), of_groups.var(-1, keepdim=True, unbiased=False)
        h = ((of_groups - center) / (var + self.norm.eps).sqrt()).reshape(n, channels, height, width)
        h = h * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]
        h = h * torch.sigmoid(h) if self.options.get("silu", True) else h
        return h if mask is None else torch.where(mask, h / (1 - self.options["rate"]), 0)

    @property
    def leaves(self) -> list[Tensor]:
        added = [self.options[name] for name in ("shift", "offset") if name in self.options]
        return [self.x, self.norm.weight, self.norm.bias, *added]


def given(case: str, dtype: torch.dtype = DOUBLE, x_dtype: torch.dtype | None = None) -> Given:
    options = dict(CASES[case])
    shape, groups = options.pop("shape", (3, 8, 4, 4)), options.pop("groups", 4)
    generator = torch.Generator().manual_seed(0)
    norm = nn.GroupNorm(groups, shape[1], eps=1e-5, dtype=dtype)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE))
    x = (2 * torch.randn(shape, generator=generator, dtype=DOUBLE) + 1).to(x_dtype or dtype).requires_grad_()
    for name, size in (("shift", shape[:2]), ("offset", shape[1:2])):
        if options.get(name):
            options[name] = torch.randn(size, generator=generator, dtype=DOUBLE).to(dtype).requires_grad_()
    if options.get("mask"):
        options["mask"] = torch.rand(shape, generator=generator) > options["rate"]
    return Given(norm, x, options)


def agrees(found: Given) -> None:
    """Assert that result and gradients are those of the definition."""
    expected, made = found.expected(), found.result()
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)
    direction = torch.randn(made.shape, generator=torch.Generator().manual_seed(1), dtype=made.dtype)
    for ours, theirs in zip(
        torch.autograd.grad(made, found.leaves, direction),
        torch.autograd.grad(expected, found.leaves, direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@each_case
def test_the_parts_are_those_of_the_definition(case: str) -> None:
    agrees(given(case))


@each_case
def test_the_fused_operation_has_the_values_and_gradients_of_the_definition(case: str, fused: None) -> None:
    agrees(given(case))


@each_case
def test_triton_has_the_values_and_gradients_of_the_definition(case: str, by_triton: None) -> None:
    agrees(given(case))


def last_channels(found: Given) -> Given:
    x = found.x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    return dataclasses.replace(found, x=x)


@pytest.mark.parametrize("case", ["all", "odd", "several tiles"])
def test_triton_keeps_channels_last(case: str, by_triton: None) -> None:
    found = last_channels(given(case))
    agrees(found)
    made = found.result()
    assert made.is_contiguous(memory_format=torch.channels_last)
    (gradient,) = torch.autograd.grad(made.sum(), [found.x])
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def in_16_bits(found: Given, dtype: torch.dtype, rounding: float = 0.51) -> None:
    """Assert that statistics are in float32: one rounding of the result, and one of the gradient."""
    with torch.autocast("cpu", dtype):
        made = found.result()
    expected = found.expected()
    assert made.dtype == dtype
    assert expected.dtype == torch.float32
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(made.float(), expected, rtol=rounding * eps, atol=1e-5)
    (ours,) = torch.autograd.grad(made, [found.x], torch.ones_like(made))
    (theirs,) = torch.autograd.grad(expected, [found.x], torch.ones_like(expected))
    assert ours.dtype == found.x.dtype
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=1.1 * eps, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("x_dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_under_autocast_the_result_is_rounded_once_to_16_bits(
    dtype: torch.dtype, x_dtype: torch.dtype, fused: None
) -> None:
    in_16_bits(given("all", torch.float32, x_dtype), dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_triton_rounds_once_to_16_bits(dtype: torch.dtype, by_triton: None) -> None:
    # The interpreter cuts off the bits of bfloat16, which a GPU rounds.
    rounding = 1.01 if dtype == torch.bfloat16 else 0.51
    for x_dtype in (dtype, torch.float32):
        in_16_bits(given("all", torch.float32, x_dtype), dtype, rounding)


@pytest.mark.parametrize("case", ["norm", "all"])
def test_the_gradient_can_be_differentiated_again(case: str, fused: None) -> None:
    found = given(case)

    def function(*leaves: Tensor) -> Tensor:
        x, weight, bias = leaves[:3]
        norm = nn.GroupNorm(4, 8, eps=1e-5)
        del norm.weight, norm.bias
        norm.weight, norm.bias = weight, bias  # type: ignore[assignment]
        options = found.options | dict(zip(("shift", "offset"), leaves[3:], strict=len(leaves) > 3))
        return norm_silu_drop(norm, x, **options)

    leaves = [leaf.detach().requires_grad_() for leaf in found.leaves]
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


def test_in_forward_mode_and_under_transforms_the_operations_are_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    # As on a GPU: the device alone would choose the fused operation, which has no derivative in forward mode.
    x, norm = torch.empty(3, 8, 4, 4, device="meta"), nn.GroupNorm(4, 8, device="meta")
    calls: list[Tensor] = []

    def called(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
        calls.append(x)
        return x, x, x

    monkeypatch.setattr(module, "_FORWARD", called)

    def function(value: Tensor) -> Tensor:
        return norm_silu_drop(norm, value)

    torch.func.jvp(function, (x,), (x,))
    torch.func.vmap(function, in_dims=0)(x[None])
    with torch.autograd.forward_ad.dual_level():
        function(torch.autograd.forward_ad.make_dual(x, x))  # type: ignore[no-untyped-call]
    assert calls == []
    function(x)
    assert len(calls) == 1


@pytest.mark.parametrize("recomputes", [False, True])
@pytest.mark.parametrize("kind", VARIANTS)
def test_a_network_has_the_same_values_and_gradients(
    kind: str, recomputes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small(**VARIANTS[kind], dropout=0.3)
    if recomputes:
        recompute(model)
    x, sigma, labels = inputs()
    masks = draw_masks(model.network.dropout_sites(), len(x), 5)
    found = []
    for fuses in (False, True):
        monkeypatch.setattr(module, "fuses", lambda _, __, fuses=fuses: fuses)
        y = model(x, sigma, labels, masks)
        found.append([y, *torch.autograd.grad(y.square().sum(), [*model.parameters()])])
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", VARIANTS)
def test_under_autocast_a_network_is_as_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(**VARIANTS[kind], dropout=0.3)
    x, sigma, labels = inputs()
    masks = draw_masks(model.network.dropout_sites(), len(x), 5)
    exact = model(x, sigma, labels, masks).detach()
    model = model.float()
    errors = []
    for fuses in (False, True):
        monkeypatch.setattr(module, "fuses", lambda _, __, fuses=fuses: fuses)
        with torch.autocast("cpu", torch.bfloat16):
            y = model(x.float(), sigma.float(), labels, masks)
        errors.append(float((y - exact).detach().norm()))
    assert errors[1] <= 1.1 * errors[0]


def test_the_operation_is_dropout_of_silu() -> None:
    found = given("all")
    shift, offset, mask = (found.options[name] for name in ("shift", "offset", "mask"))
    h = F.silu(found.norm(found.x + offset[:, None, None] + shift[:, :, None, None]))
    assert torch.equal(found.result(), h * mask / (1 - 0.3))
