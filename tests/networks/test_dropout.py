import math
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from ict_ref.config import PRESETS
from ict_ref.networks import dropout
from ict_ref.networks.dropout import DropoutSite, draw_masks, draw_shard_masks, mask_keys
from ict_ref.plan.launches import Launches
from ict_ref.plan.meta_step import META, meta_model

KEY = 0x0123456789ABCDEF


STRIDE = 0x9E3779B97F4A7C15
WORD = 1 << 64


def mix(x: int) -> int:
    """Return splitmix64's output for this state, by Python's integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def reference(site: int, position: int, key: int, threshold: int) -> bool:
    """Return a mask's value, by Python's integers."""
    block, counter = divmod(position // 4, 1 << 15)
    of_site = mix(site * STRIDE % WORD ^ key)
    bits = mix(counter * STRIDE % WORD ^ mix(of_site ^ block * STRIDE % WORD))
    number = bits >> (16 * (position % 4)) & 0xFFFF
    return (number + 32768) % 65536 >= threshold


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_a_rate_that_is_not_a_fraction_is_rejected(rate: float) -> None:
    with pytest.raises(ValueError, match="0 <= rate < 1"):
        draw_masks([DropoutSite(1, 2, 2, rate)], 1, 0)


def test_words_are_mixed_as_splitmix64_does() -> None:
    # The first outputs from seed 0, as published with the generator and used by Java, NumPy and others to test theirs.
    states = torch.tensor([STRIDE - WORD, 2 * STRIDE % WORD, 3 * STRIDE % WORD - WORD])
    assert [word % WORD for word in dropout._mix(states).tolist()] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


@pytest.mark.parametrize("key", [0, KEY, (1 << 64) - 1])
def test_a_mask_is_a_function_of_key_site_and_position_alone(key: int) -> None:
    # The second site has more than two blocks of 2^15 words, and neither is a multiple of four values.
    sites = [DropoutSite(1, 3, 3, 0.25), DropoutSite(3, 17, 19, 0.25)]
    masks = draw_masks(sites, 300, key)
    for site, mask in enumerate(masks):
        values = mask.flatten()
        edges = [0, 1, 2, 3, 4, 131071, 131072, 262143, 262144, len(values) - 1]
        for position in [p for p in edges if p < len(values)]:
            assert bool(values[position]) == reference(site, position, key, 16384)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.5, 0.9])
def test_masks_keep_the_configured_fraction(rate: float) -> None:
    (mask,) = draw_masks([DropoutSite(10, 100, 100, rate)], 10, KEY)
    # A million masks: five standard deviations of a binomial fraction.
    assert float(mask.double().mean()) == pytest.approx(1 - rate, abs=5 * math.sqrt(rate * (1 - rate) / 1e6))


def test_every_quarter_of_a_word_keeps_the_configured_fraction() -> None:
    (mask,) = draw_masks([DropoutSite(10, 100, 100, 0.3)], 10, KEY)
    shares = mask.reshape(-1, 4).double().mean(0)
    assert float((shares - 0.7).abs().max()) < 5 * math.sqrt(0.3 * 0.7 / 2.5e5)


def test_rates_next_to_0_and_1_keep_all_and_almost_nothing() -> None:
    all_kept, few = draw_masks([DropoutSite(16, 64, 64, 1e-7), DropoutSite(16, 64, 64, 1 - 1e-7)], 4, KEY)
    assert bool(all_kept.all())
    assert int(few.sum()) <= 20  # 262 144 values, each kept with probability 1/65536: 4 expected


def test_masks_are_drawn_apart_for_examples_channels_pixels_and_sites() -> None:
    site = DropoutSite(16, 8, 8, 0.5)
    first, second = draw_masks([site, site], 4, KEY)
    assert first.shape == (4, 16, 8, 8)
    # Along any axis two neighbouring slices agree in about half of their values, as independent coins do.
    for here, there in [(first, second)] + [(first.select(axis, 0), first.select(axis, 1)) for axis in range(4)]:
        agreement = float((here == there).double().mean())
        assert agreement == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(here.numel()))


@pytest.mark.parametrize("bit", [0, 1, 31, 32, 62, 63])
def test_keys_that_differ_in_one_bit_give_independent_masks(bit: int) -> None:
    site = DropoutSite(32, 32, 32, 0.5)
    (here,), (there,) = draw_masks([site], 8, KEY), draw_masks([site], 8, KEY ^ 1 << bit)
    agreement = float((here == there).double().mean())
    assert agreement == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(here.numel()))


def test_values_at_all_small_distances_are_uncorrelated() -> None:
    (mask,) = draw_masks([DropoutSite(64, 64, 64, 0.5)], 2, KEY)
    coins = mask.flatten().double().numpy() * 2 - 1
    n = len(coins)
    correlations = np.array([coins[:-lag] @ coins[lag:] / math.sqrt(n - lag) for lag in range(1, 257)])
    # Standard normals: the largest of 256 stays below 5 but once in 7000 keys, their mean square is 1 +- 5 sqrt(2/256).
    assert np.abs(correlations).max() < 5
    assert np.mean(correlations**2) == pytest.approx(1, abs=5 * math.sqrt(2 / 256))


def test_the_numbers_of_masks_kept_in_common_are_those_of_chance() -> None:
    # Values in runs of 16: counts are binomial, so their variance is 16/4.
    (mask,) = draw_masks([DropoutSite(64, 64, 64, 0.5)], 2, KEY)
    counts = mask.reshape(-1, 16).double().sum(1)
    assert float(counts.var()) == pytest.approx(4, rel=5 * math.sqrt(2 / len(counts)))


def test_the_same_key_gives_the_same_masks_and_another_batch_the_same_first_examples() -> None:
    site = DropoutSite(4, 4, 4, 0.5)
    assert torch.equal(draw_masks([site], 5, KEY)[0], draw_masks([site], 5, KEY)[0])
    assert torch.equal(draw_masks([site], 5, KEY)[0], draw_masks([site], 9, KEY)[0][:5])


def test_masks_are_made_on_the_device_of_the_network() -> None:
    # The meta device has shapes only, and rejects tensors of another device.
    masks = draw_masks([DropoutSite(4, 4, 4, 0.5), DropoutSite(2, 3, 1, 0.25)], 5, KEY, device=torch.device("meta"))
    assert [mask.device.type for mask in masks] == ["meta", "meta"]
    assert [mask.shape for mask in masks] == [(5, 4, 4, 4), (5, 2, 3, 1)]


def test_without_sites_there_are_no_masks() -> None:
    assert draw_masks([], 5, KEY) == ()


@pytest.mark.parametrize("key", [-1, 1 << 64])
def test_a_key_of_more_than_64_bits_is_rejected(key: int) -> None:
    with pytest.raises(ValueError, match=r"key: expected 0 <= key < 2\^64, got"):
        draw_masks([DropoutSite(1, 1, 1, 0.5)], 1, key)


KEYS = (0, KEY, 1 << 63, (1 << 64) - 1)
# Values of an example: odd, half a word, more than one block of 2^15 words in a shard of 150, a multiple of 16.
SHAPES = [DropoutSite(*shape) for shape in ((1, 3, 3, 0.25), (2, 1, 1, 0.5), (3, 17, 19, 0.1), (16, 8, 8, 0.3))]


@pytest.mark.parametrize("batch", [1, 3, 150])
def test_the_masks_of_several_shards_are_those_of_each_key(batch: int) -> None:
    together = draw_shard_masks(SHAPES, batch, mask_keys(KEYS))
    apart = [draw_masks(SHAPES, batch, key) for key in KEYS]
    for mask, *parts in zip(together, *apart, strict=True):
        assert torch.equal(mask, torch.cat(parts))


def equals_the_cpu(of_site: Callable[[Tensor, int, int, int], Tensor], batch: int) -> None:
    """Assert that a function makes the masks of all shards with the bits of the CPU's."""
    keys = mask_keys(KEYS)
    expected = draw_shard_masks(SHAPES, batch, keys)
    for number, (site, mask) in enumerate(zip(SHAPES, expected, strict=True)):
        made = of_site(keys, number, batch * site.values, dropout._threshold(site.rate))
        assert torch.equal(made.view_as(mask), mask)


@pytest.mark.parametrize("batch", [1, 3, 150])
def test_torch_s_operations_make_the_same_bits(batch: int) -> None:
    equals_the_cpu(dropout._functional, batch)


@pytest.mark.parametrize("batch", [1, 3, 150])
def test_triton_makes_the_same_bits(batch: int, triton_kernel: Callable[[str], ModuleType]) -> None:
    equals_the_cpu(triton_kernel("mask_kernel").mask_of_site, batch)


@pytest.mark.usefixtures("unchecked")
def test_compiled_masks_have_the_same_bits_and_are_compiled_once_for_all_keys() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()
    compiled = torch.compile(draw_shard_masks, backend=counter, fullgraph=True)
    for keys in (mask_keys(KEYS), mask_keys(KEYS[::-1]), mask_keys([5, 6, 7, 8])):
        masks, expected = compiled(SHAPES, 3, keys), draw_shard_masks(SHAPES, 3, keys)
        assert all(torch.equal(mask, other) for mask, other in zip(masks, expected, strict=True))
    assert counter.frame_count == 1
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
def test_masks_compiled_by_inductor_have_the_same_bits() -> None:
    torch._dynamo.reset()
    compiled, keys = torch.compile(draw_shard_masks, fullgraph=True), mask_keys(KEYS)
    masks, expected = compiled(SHAPES, 3, keys), draw_shard_masks(SHAPES, 3, keys)
    assert all(torch.equal(mask, other) for mask, other in zip(masks, expected, strict=True))
    torch._dynamo.reset()


def test_a_gpu_makes_all_masks_of_a_step_by_one_kernel_per_site() -> None:
    sites = meta_model(PRESETS["cifar10"]()).network.dropout_sites()
    keys = torch.empty(64, dtype=torch.int64, device=META)
    with Launches() as counted:
        masks = draw_shard_masks(sites, 16, keys)
    assert counted.launches == len(sites) <= 40
    assert [mask.shape for mask in masks] == [(1024, *site[:3]) for site in sites]


def test_dropout_on_a_gpu_is_one_kernel_in_each_pass_with_the_values_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(2, 3, 4, 4, generator=generator) > 0.3
    expected = dropout.drop(h, mask, 0.3)
    monkeypatch.setattr(dropout, "runs_kernels", lambda _: True)
    with Launches(torch.device("cpu")) as counted:
        dropped = dropout.drop(h, mask, 0.3)
        (gradient,) = torch.autograd.grad(dropped, h, torch.ones_like(dropped))
    assert counted.names == {"native_dropout_backward": 2, "ones_like": 1}
    torch.testing.assert_close(dropped, expected, rtol=1e-15, atol=0)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), h)[0], rtol=1e-15, atol=0)
    assert torch.autograd.gradgradcheck(lambda value: dropout.drop(value, mask, 0.3), h)
