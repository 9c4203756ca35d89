import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ict_ref.config import Config, Network, minimal
from ict_ref.networks.adm import ADM, ResidualBlock
from ict_ref.networks.layers import DropoutSite, SelfAttention, downsample, draw_masks, upsample
from ict_ref.networks.model import ConsistencyModel, build_model
from ict_ref.randomness import stream


def filled(model: ConsistencyModel) -> ConsistencyModel:
    """Return the model with random parameters everywhere, so that no part is silent as at the start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def small(dtype: str = "float64", **options: object) -> ConsistencyModel:
    config = minimal()
    network = dataclasses.replace(config.network, **options)  # type: ignore[arg-type]
    train = dataclasses.replace(config.train, dtype=dtype)  # type: ignore[arg-type]
    config = Config(data=config.data, network=network, method=config.method, train=train)
    return filled(build_model(config, event=(1, 8, 8), classes=10))


def inputs(batch: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 1, 8, 8, generator=generator, dtype=dtype)
    return x, torch.tensor([0.002, 0.7, 80.0], dtype=dtype)[:batch], torch.arange(batch)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_returns_its_input_at_sigma_min_bit_for_bit(dtype: str) -> None:
    model = small(dtype)
    x = inputs(dtype=getattr(torch, dtype))[0]
    masks = draw_masks(model.network.dropout_sites(), 3, stream(0, "dropout"))
    assert torch.equal(model(x, torch.full((3,), 0.002, dtype=x.dtype), torch.arange(3), masks), x)


def test_the_model_combines_input_and_network_as_equation_2_says() -> None:
    # At sigma = 2: c_skip = .5^2 / (1.998^2 + .5^2), c_out = .5 * 1.998 / sqrt(4.25), c_in = 1 / sqrt(4.25).
    model = small()
    x, _, labels = inputs()
    two = torch.full((3,), 2.0, dtype=torch.float64)
    free = model.network(x / math.sqrt(4.25), two.log() / 4, labels)
    expected = 0.25 / (1.998**2 + 0.25) * x + 0.5 * 1.998 / math.sqrt(4.25) * free
    torch.testing.assert_close(model(x, two, labels), expected, rtol=1e-12, atol=1e-12)


def test_the_model_has_the_noise_range_and_deviation_of_its_configuration() -> None:
    # sigma_min .1 and sigma_data .3 at sigma = .4: c_skip = .09 / (.09 + .09), c_out = .3 * .3 / .5, c_in = 1 / .5.
    method = dataclasses.replace(minimal().method, sigma_min=0.1, sigma_data=0.3)
    train = dataclasses.replace(minimal().train, dtype="float64")
    config = dataclasses.replace(minimal(), method=method, train=train)
    model = filled(build_model(config, event=(1, 8, 8), classes=10))
    x, _, labels = inputs()
    sigma = torch.full((3,), 0.4, dtype=torch.float64)
    expected = 0.5 * x + 0.18 * model.network(2 * x, sigma.log() / 4, labels)
    torch.testing.assert_close(model(x, sigma, labels), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(model(x, torch.full_like(sigma, 0.1), labels), x)


def test_the_network_is_0_at_the_start_so_that_the_model_is_c_skip_x() -> None:
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    x, sigma, labels = inputs(dtype=torch.float32)
    assert not bool(model.network(x, sigma.log() / 4, labels).any())


def test_parameters_are_drawn_by_torchs_laws_and_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    model = build_model(minimal(), event=(1, 8, 8), classes=10)
    torch.manual_seed(2)
    again = build_model(minimal(), event=(1, 8, 8), classes=10)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    other = dataclasses.replace(minimal(), train=dataclasses.replace(minimal().train, seed=1))
    assert not torch.equal(
        build_model(other, event=(1, 8, 8), classes=10).network.stem.weight, model.network.stem.weight
    )
    network = ADM(
        Network(width=64, multipliers=(1,), blocks=1, attention_resolutions=()),
        channels=3,
        size=8,
        classes=100,
        generator=stream(0, "parameters"),
    )
    weights = network.embedding.linear1.weight  # 256 inputs: uniform on +-1/16, variance 1/(3 * 256)
    assert float(weights.detach().abs().max()) == pytest.approx(1 / 16, rel=1e-3)
    assert float(weights.detach().var()) == pytest.approx(1 / 768, rel=0.02)
    assert network.embedding.label is not None
    assert float(network.embedding.label.weight.detach().var()) == pytest.approx(1, rel=0.05)


def test_every_residual_branch_is_silent_at_the_start_and_the_rest_is_not() -> None:
    network = build_model(minimal(), event=(1, 8, 8), classes=10).network
    silent = [network.head[2]]
    silent += [module.conv1 for module in network.modules() if isinstance(module, ResidualBlock)]
    silent += [module.projection for module in network.modules() if isinstance(module, SelfAttention)]
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            for parameter in module.parameters():
                largest = float(parameter.detach().abs().max())
                if any(module is other for other in silent):
                    assert largest == 0
                else:
                    # Uniform on +-1/sqrt(fan_in), kernel area included: of n values none beyond, the largest near it.
                    assert 0.5 / math.sqrt(fan_in) < largest <= 1 / math.sqrt(fan_in)


def test_every_normalisation_has_the_configured_groups() -> None:
    network = build_model(minimal(), event=(1, 8, 8), classes=10).network
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert {norm.num_groups for norm in norms} == {minimal().network.groups}
    assert {norm.eps for norm in norms} == {1e-5}


def test_the_paper_s_imagenet_network_has_its_number_of_parameters() -> None:
    # 282 168 003 for 3 blocks, no AdaGN and 1000 classes; counted on the meta device, where nothing is stored.
    with torch.device("meta"):
        network = ADM(Network(), channels=3, size=64, classes=1000, generator=Zeros())
    assert sum(parameter.numel() for parameter in network.parameters()) == 282_168_003
    blocks = [module for module in network.modules() if isinstance(module, ResidualBlock)]
    attentions = [module for module in network.modules() if isinstance(module, SelfAttention)]
    assert (len(blocks), len(attentions)) == (36, 22)


class Zeros(np.random.Generator):
    """A generator that makes no numbers: for hundreds of millions it takes seconds."""

    def __init__(self) -> None:
        super().__init__(np.random.Philox())

    def uniform(self, *_: object, size: tuple[int, ...], **__: object) -> np.ndarray:  # type: ignore[override]
        return np.zeros(size)

    def standard_normal(self, size: tuple[int, ...], *_: object) -> np.ndarray:  # type: ignore[override]
        return np.zeros(size)


def test_dropout_acts_only_where_the_map_is_small() -> None:
    # At 16x16 with a limit of 8: the blocks on 16x16 have none; the block that makes the 8x8 map has.
    options = Network(
        width=8,
        multipliers=(1, 2),
        blocks=1,
        attention_resolutions=(),
        head_channels=8,
        groups=4,
        dropout=0.5,
        dropout_max_resolution=8,
    )
    network = ADM(options, channels=1, size=16, classes=0, generator=stream(0, "parameters"))
    # down to 8, one encoder block, two in the middle, two decoder blocks; the block up to 16 works on 16x16.
    assert [site.height for site in network.dropout_sites()] == [8] * 6
    assert [site.channels for site in network.dropout_sites()] == [8, 16, 16, 16, 16, 16]


def test_without_masks_nothing_is_dropped_and_with_them_something_is() -> None:
    model = small(dropout=0.5)
    x, sigma, labels = inputs()
    masks = draw_masks(model.network.dropout_sites(), 3, stream(0, "dropout"))
    others = draw_masks(model.network.dropout_sites(), 3, stream(1, "dropout"))
    plain = model(x, sigma, labels)
    assert torch.equal(model(x, sigma, labels), plain)
    assert torch.equal(model(x, sigma, labels, masks), model(x, sigma, labels, masks))
    assert not torch.equal(model(x, sigma, labels, masks)[1:], plain[1:])
    assert not torch.equal(model(x, sigma, labels, masks)[1:], model(x, sigma, labels, others)[1:])


def test_every_mask_matters() -> None:
    # Each site's mask alone, emptied, changes the output: no mask is ignored or used for another site.
    model = small(dropout=0.5)
    x, sigma, labels = inputs()
    masks = draw_masks(model.network.dropout_sites(), 3, stream(0, "dropout"))
    usual = model(x, sigma, labels, masks)
    for site in range(len(masks)):
        changed = [torch.zeros_like(mask) if number == site else mask for number, mask in enumerate(masks)]
        assert not torch.equal(model(x, sigma, labels, tuple(changed))[1:], usual[1:])


def test_masks_keep_the_configured_share() -> None:
    (mask,) = draw_masks([DropoutSite(10, 100, 100, 0.3)], 1, stream(0, "dropout"))
    # 100 000 draws: five standard deviations of a binomial share are 5 sqrt(.3 * .7 / 1e5) = .0073.
    assert float(mask.double().mean()) == pytest.approx(0.7, abs=0.0073)


def test_masks_are_drawn_apart_for_examples_channels_pixels_and_sites() -> None:
    site = DropoutSite(16, 8, 8, 0.5)
    first, second = draw_masks([site, site], 4, stream(0, "dropout"))
    assert first.shape == (4, 16, 8, 8)
    # Along any axis two neighbouring slices agree in about half of their values, as independent coins do.
    for here, there in [(first, second)] + [(first.select(axis, 0), first.select(axis, 1)) for axis in range(4)]:
        agreement = float((here == there).double().mean())
        assert agreement == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(here.numel()))


def test_dropping_keeps_the_mean() -> None:
    model = small(dropout=0.5, attention_resolutions=())
    block = model.network.encoder[0].block
    assert isinstance(block, ResidualBlock)
    seen = []
    block.conv1.register_forward_pre_hook(lambda _, received: seen.append(received[0]))
    x, sigma, labels = inputs()
    model(x, sigma, labels)
    masks = draw_masks(model.network.dropout_sites(), 3, stream(0, "dropout"))
    model(x, sigma, labels, masks)
    # Where the mask keeps, the value is doubled at rate 1/2; elsewhere it is 0.
    torch.testing.assert_close(seen[1], 2 * seen[0] * masks[0])


def test_a_wrong_number_of_masks_is_refused() -> None:
    model = small(dropout=0.5)
    x, sigma, labels = inputs()
    with pytest.raises(ValueError, match="dropout masks"):
        model(x, sigma, labels, draw_masks(model.network.dropout_sites()[:-1], 3, stream(0, "dropout")))


def test_labels_are_needed_if_and_only_if_there_are_classes() -> None:
    x, sigma, labels = inputs()
    with pytest.raises(ValueError, match="needs labels"):
        small()(x, sigma)
    config = dataclasses.replace(minimal(), data=dataclasses.replace(minimal().data, labels=False))
    without = build_model(config, event=(1, 8, 8), classes=10)
    with pytest.raises(ValueError, match="needs no labels"):
        without(x.float(), sigma.float(), labels)


def test_examples_of_a_batch_do_not_see_each_other() -> None:
    model = small()
    x, sigma, labels = inputs()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(x[order], sigma[order], labels[order]), model(x, sigma, labels)[order])


def test_label_and_noise_level_matter() -> None:
    model = small()
    x, sigma, labels = inputs()
    assert not torch.allclose(model(x, sigma, labels), model(x, sigma, labels + 1))
    noise = torch.zeros(3, dtype=torch.float64)
    assert not torch.allclose(model.network(x, noise, labels), model.network(x, noise + 1, labels))


def test_attention_is_a_softmax_average_of_values_in_heads() -> None:
    attention = SelfAttention(channels=8, head_channels=4, groups=2).double()
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    qkv = attention.qkv(attention.norm(x)).reshape(2, 3, 2, 4, 9)
    update = torch.empty(2, 2, 4, 9, dtype=torch.float64)
    for b in range(2):
        for head in range(2):
            q, k, v = qkv[b, :, head]
            for pixel in range(9):
                share = torch.softmax((k * q[:, pixel : pixel + 1]).sum(0) / math.sqrt(4), dim=0)
                update[b, head, :, pixel] = (v * share).sum(1)
    torch.testing.assert_close(attention(x), x + attention.projection(update.reshape(2, 8, 3, 3)))


def test_resampling_averages_and_repeats() -> None:
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert downsample(x).tolist() == [[[[4.0]]]]
    assert upsample(torch.tensor([[[[1.0, 2.0]]]])).tolist() == [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]
