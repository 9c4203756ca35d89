import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator
from typing import Literal

import jaxtyping
import numpy as np
import pytest
import torch
from tests.support.networks import PAPER, VARIANTS, configured, filled, inputs, small
from torch import Tensor, nn

from ict_ref.config import Network, minimal
from ict_ref.networks.blocks import ArchitectureVariant, Fir, ResidualBlock, SelfAttention, downsample, joined, upsample
from ict_ref.networks.dropout import draw_masks
from ict_ref.networks.embedding import NoiseFeatures
from ict_ref.networks.model import build_model, build_network
from ict_ref.utils.rng import stream

each_kind = pytest.mark.parametrize("kind", VARIANTS)


def test_the_model_combines_input_and_network_by_equation_2() -> None:
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
    train = dataclasses.replace(minimal().train, precision="float64")
    config = dataclasses.replace(minimal(), method=method, train=train)
    model = filled(build_model(config, event=(1, 8, 8), classes=10))
    x, _, labels = inputs()
    sigma = torch.full((3,), 0.4, dtype=torch.float64)
    expected = 0.5 * x + 0.18 * model.network(2 * x, sigma.log() / 4, labels)
    torch.testing.assert_close(model(x, sigma, labels), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(model(x, torch.full_like(sigma, 0.1), labels), x)


def test_dropping_keeps_the_mean() -> None:
    model = small(dropout=0.5, attention_resolutions=())
    block = model.network.encoder[0].block
    assert isinstance(block, ResidualBlock)
    seen = []
    block.conv1.register_forward_pre_hook(lambda _, received: seen.append(received[0]))
    x, sigma, labels = inputs()
    model(x, sigma, labels)
    masks = draw_masks(model.network.dropout_sites(), 3, 0)
    model(x, sigma, labels, masks)
    # Where the mask keeps, the value is doubled at rate 1/2; elsewhere it is 0.
    torch.testing.assert_close(seen[1], 2 * seen[0] * masks[0])


def test_a_wrong_number_of_masks_is_rejected() -> None:
    model = small(dropout=0.5)
    x, sigma, labels = inputs()
    with pytest.raises(ValueError, match=r"masks: expected \d+ dropout masks"):
        model(x, sigma, labels, draw_masks(model.network.dropout_sites()[:-1], 3, 0))


@pytest.mark.parametrize("gain", [1.0, 2.0, 0.75])
def test_two_branches_are_added_and_scaled(gain: float) -> None:
    x, y = (torch.from_numpy(stream(0, "parameters").standard_normal((2, 3, 4, 4))) + number for number in (0, 1))
    assert np.array_equal(joined(x, y, gain).numpy(), gain * (x.numpy() + y.numpy()))


def test_resampling_averages_and_repeats() -> None:
    x = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    assert downsample(x).tolist() == [[[[4.0]]]]
    assert upsample(torch.tensor([[[[1.0, 2.0]]]])).tolist() == [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]


@each_kind
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_model_returns_its_input_at_sigma_min_bit_for_bit(kind: str, dtype: str) -> None:
    model = small(dtype, **VARIANTS[kind])
    x = inputs(dtype=getattr(torch, dtype))[0]
    masks = draw_masks(model.network.dropout_sites(), 3, 0)
    assert torch.equal(model(x, torch.full((3,), 0.002, dtype=x.dtype), torch.arange(3), masks), x)


@each_kind
def test_under_autocast_the_network_alone_is_in_bfloat16(kind: str) -> None:
    model = small("float32", **VARIANTS[kind])
    x, sigma, labels = inputs(dtype=torch.float32)
    seen = []
    model.network.embedding.features.register_forward_hook(lambda _, __, out: seen.append(out))
    model.network.head[2].register_forward_hook(lambda _, __, out: seen.append(out))
    plain = model(x, sigma, labels)
    with torch.autocast("cpu", torch.bfloat16):
        f = model(x, sigma, labels)
    assert [value.dtype for value in seen] == [torch.float32] * 4
    assert torch.equal(seen[0], seen[2])  # phases are not rounded
    assert f.dtype == torch.float32
    assert torch.equal(f[0], x[0])  # sigma_min
    # c_skip x + c_out F to float32's precision, F being what came out of the head.
    by_hand = 0.25 / (0.698**2 + 0.25) * x[1] + 0.5 * 0.698 / math.sqrt(0.7**2 + 0.25) * seen[3][1]
    torch.testing.assert_close(f[1], by_hand, rtol=1e-5, atol=1e-5)
    assert not torch.equal(f, plain)


@each_kind
def test_under_autocast_the_embedding_is_that_of_full_precision(kind: str) -> None:
    model = small("float32", **VARIANTS[kind])
    seen: list[Tensor] = []
    model.network.embedding.register_forward_hook(lambda _, __, out: seen.append(out))
    model(*inputs(dtype=torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        model(*inputs(dtype=torch.float32))
    assert seen[1].dtype == torch.float32
    assert torch.equal(seen[0], seen[1])


@each_kind
def test_under_autocast_branches_multiply_in_16_bits_and_their_sums_are_in_float32(kind: str) -> None:
    model = small("float32", **VARIANTS[kind])
    seen: dict[type, set[tuple[str, torch.dtype]]] = {}

    def note(name: str) -> Callable[..., None]:
        kind_of = name.rsplit(".", 1)[-1]
        return lambda module, _, out: seen.setdefault(type(module), set()).add((kind_of, out.dtype))

    for name, module in model.network.named_modules():
        if name:
            module.register_forward_hook(note(name))
    x, sigma, labels = inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        model(x, sigma, labels)
    in_16_bits = {name for outputs in seen.values() for name, dtype in outputs if dtype == torch.bfloat16}
    assert in_16_bits == {"conv0", "conv1", "qkv", "projection"}


@each_kind
def test_with_parameters_in_bfloat16_phases_and_combination_stay_in_float32(kind: str) -> None:
    model = small("float32", **VARIANTS[kind])
    x, sigma, labels = inputs(dtype=torch.float32)
    phases = model.network.embedding.features(sigma.log() / 4)
    model = model.to(torch.bfloat16)
    assert model.network.stem.weight.dtype == torch.bfloat16
    assert torch.equal(model.network.embedding.features(sigma.log() / 4), phases)
    f = model(x, sigma, labels)
    assert f.dtype == torch.float32
    assert torch.equal(f[0], x[0])
    rounded = x.bfloat16()
    assert torch.equal(model(rounded, sigma, labels)[0], rounded[0].float())
    with pytest.raises(ValueError, match=r"sigma: expected float32 or better, got torch\.bfloat16"):
        model(x, sigma.bfloat16(), labels)


@each_kind
def test_parameters_depend_on_the_seed_alone(kind: str) -> None:
    config = configured("float32", **VARIANTS[kind])
    torch.manual_seed(1)
    state = build_model(config, event=(1, 8, 8), classes=10).state_dict()
    torch.manual_seed(2)
    again = build_model(config, event=(1, 8, 8), classes=10).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in state.items())
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, seed=1))
    changed = build_model(other, event=(1, 8, 8), classes=10).state_dict()
    drawn = [name for name in state if name.endswith(("linear0.weight", "frequencies", "stem.weight", "qkv.weight"))]
    assert not any(torch.equal(state[name], changed[name]) for name in drawn)


def silent(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts that start (nearly) silent: each block's second convolution, attention's projection, the head."""
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            yield module.conv1
        elif isinstance(module, SelfAttention):
            yield module.projection
        elif isinstance(module, nn.Sequential):
            yield module[-1]


def test_adm_is_drawn_by_torchs_laws_and_its_branches_are_silent() -> None:
    network = build_model(minimal(), event=(1, 8, 8), classes=10).network
    quiet = set(silent(network))
    assert len(quiet) == 10 + 4 + 1
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            for parameter in module.parameters():
                largest = float(parameter.detach().abs().max())
                if module in quiet:
                    assert largest == 0
                else:
                    # Uniform on +-1/sqrt(fan_in), kernel area included: of n values none beyond, the largest near it.
                    assert 0.5 / math.sqrt(fan_in) < largest <= 1 / math.sqrt(fan_in)
    x, sigma, labels = inputs(dtype=torch.float32)
    assert not bool(network(x, sigma.log() / 4, labels).any())


@pytest.mark.parametrize("architecture", ["adm", "ncsnpp"])
def test_images_that_cannot_be_halved_are_rejected(architecture: Literal["adm", "ncsnpp"]) -> None:
    # 12 / 4 is an integer, 12 / 8 is not.
    options = Network(architecture=architecture, width=64, multipliers=(1, 1, 1, 1), blocks=1)
    with pytest.raises(ValueError, match=r"--network\.multipliers: .* images of size 12.* cannot be halved 3 times"):
        build_network(options, channels=1, size=12, classes=0, generator=stream(0, "parameters"))


def test_adm_s_uniform_and_normal_parameters_have_their_variances() -> None:
    options = Network(width=64, multipliers=(1,), blocks=1, attention_resolutions=())
    network = build_network(options, channels=3, size=8, classes=100, generator=stream(0, "parameters"))
    weights = network.embedding.linear1.weight.detach()  # 256 inputs: uniform on +-1/16, variance 1/(3 * 256)
    assert float(weights.abs().max()) == pytest.approx(1 / 16, rel=1e-3)
    assert float(weights.var()) == pytest.approx(1 / 768, rel=0.02)
    assert isinstance(network.embedding.label, nn.Embedding)
    assert float(network.embedding.label.weight.detach().var()) == pytest.approx(1, rel=0.05)


def test_ncsnpp_is_drawn_by_xavier_s_law_and_its_branches_are_nearly_silent() -> None:
    options = dataclasses.replace(PAPER["NCSN++"], blocks=1, width=64)
    network = build_network(options, channels=3, size=32, classes=10, generator=stream(0, "parameters"))
    quiet = set(silent(network))
    assert len(quiet) == 15 + 3 + 1
    joint = {module.qkv for module in network.modules() if isinstance(module, SelfAttention)}
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight = module.weight.detach()
            out, into = weight.shape[:2]
            limit = math.sqrt(6 / ((into + out) * math.prod(weight.shape[2:])))
            if module in joint:
                limit = math.sqrt(0.3 / into)  # queries, keys and values: sqrt(0.1) of the law for C and C
            limit *= 1e-5 if module in quiet else 1
            assert 0.99 * limit < float(weight.abs().max()) <= limit * (1 + 1e-6)
            assert float(weight.double().var()) == pytest.approx(limit**2 / 3, rel=5 / math.sqrt(weight.numel()))
            assert module.bias is None or not bool(module.bias.any())
    frequencies = network.embedding.features.frequencies
    assert len(frequencies) == 64
    assert float(frequencies.std()) == pytest.approx(0.02, rel=5 / math.sqrt(2 * 64))
    generator = torch.Generator().manual_seed(0)
    out = network(torch.randn(2, 3, 32, 32, generator=generator), torch.zeros(2), torch.arange(2)).detach()
    assert 1e-6 < float(out.std()) < 1e-4


@pytest.mark.parametrize(("architecture", "eps"), [("adm", 1e-5), ("ncsnpp", 1e-6)])
def test_every_normalisation_has_its_groups_and_epsilon(architecture: str, eps: float) -> None:
    network = build_model(configured(architecture=architecture), event=(1, 8, 8), classes=10).network
    norms = [module for module in network.modules() if isinstance(module, nn.GroupNorm)]
    assert {norm.eps for norm in norms} == {eps}
    for norm in norms:
        # ADM: 4, as configured. NCSN++: at least four channels in each group.
        assert norm.num_groups == (4 if architecture == "adm" else min(norm.num_channels // 4, 4))


@pytest.mark.parametrize(("architecture", "first"), [("adm", 8), ("ncsnpp", 8)])
def test_dropout_acts_only_where_the_map_is_small(architecture: str, first: int) -> None:
    # At 16x16 with a limit of 8: the blocks on 16x16 have none; the block that makes the 8x8 map has.
    options = configured(
        architecture=architecture, attention_resolutions=(), dropout=0.5, dropout_max_resolution=8
    ).network
    network = build_network(options, channels=1, size=16, classes=0, generator=stream(0, "parameters"))
    # down to 8, one encoder block, two in the middle, two decoder blocks; the block up to 16 works on 16x16.
    assert [site.height for site in network.dropout_sites()] == [8] * 6
    assert [site.channels for site in network.dropout_sites()] == [first, 16, 16, 16, 16, 16]


@each_kind
def test_without_masks_nothing_is_dropped_and_every_mask_matters(kind: str) -> None:
    model = small(**VARIANTS[kind], dropout=0.5)
    x, sigma, labels = inputs()
    masks = draw_masks(model.network.dropout_sites(), 3, 0)
    plain, usual = model(x, sigma, labels), model(x, sigma, labels, masks)
    assert torch.equal(model(x, sigma, labels), plain)
    assert torch.equal(model.eval()(x, sigma, labels, masks), usual)
    assert torch.equal(model.train()(x, sigma, labels), plain)
    assert not torch.equal(usual[1:], plain[1:])
    # Each site's mask alone, emptied, changes the output: no mask is ignored or used for another site.
    for site in range(len(masks)):
        changed = [torch.zeros_like(mask) if number == site else mask for number, mask in enumerate(masks)]
        assert not torch.equal(model(x, sigma, labels, tuple(changed))[1:], usual[1:])


@each_kind
def test_labels_are_needed_if_and_only_if_there_are_classes(kind: str) -> None:
    x, sigma, labels = inputs()
    with pytest.raises(ValueError, match="labels: expected labels, got None"):
        small(**VARIANTS[kind])(x, sigma)
    config = configured(**VARIANTS[kind])
    without = build_model(
        dataclasses.replace(config, data=dataclasses.replace(config.data, labels=False)), event=(1, 8, 8), classes=10
    )
    with pytest.raises(ValueError, match="labels: expected None, got labels"):
        without(x, sigma, labels)


@each_kind
def test_examples_of_a_batch_do_not_affect_each_other(kind: str) -> None:
    model = small(**VARIANTS[kind])
    x, sigma, labels = inputs()
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(x[order], sigma[order], labels[order]), model(x, sigma, labels)[order])


@each_kind
def test_permuting_the_classes_and_the_labels_alike_changes_nothing(kind: str) -> None:
    model = small(**VARIANTS[kind])
    x, sigma, labels = inputs()
    before = model(x, sigma, labels).detach()
    order = torch.from_numpy(np.random.default_rng(0).permutation(10))
    label = model.network.embedding.label
    assert label is not None
    with torch.no_grad():
        # Rows of an embedding, columns of a linear map of one-hot labels.
        label.weight.copy_(label.weight[order] if isinstance(label, nn.Embedding) else label.weight[:, order])
    torch.testing.assert_close(model(x, sigma, order.argsort()[labels]), before, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(model(x, sigma, labels), before)


@each_kind
def test_phases_are_those_of_float32_from_noise_levels_in_bfloat16_and_under_autocast(kind: str) -> None:
    features = small("float32", **VARIANTS[kind], time_scale=1000.0).network.embedding.features
    c = torch.tensor([1.0625, -1.5, 0.25])  # exact in bfloat16; phases go to 10 000
    k = torch.arange(4, dtype=torch.float64)
    if features.fourier:
        angles = 1000 * c.double()[:, None] * 2 * math.pi * features.frequencies.double()
        expected = torch.cat([angles.sin(), angles.cos()], 1)
    else:
        angles = 1000 * c.double()[:, None] * 10000 ** (-k / (3 if kind == "DDPM++" else 4))
        expected = torch.cat([angles.cos(), angles.sin()], 1)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (c, c.bfloat16()):
            torch.testing.assert_close(features(given), expected.float(), rtol=0, atol=2e-3)


def test_ncsnpp_adds_sqrt_of_the_classes_times_its_label_s_column_to_the_noise_features() -> None:
    embedding = small(**VARIANTS["NCSN++"]).network.embedding
    c = torch.tensor([0.3, -0.2], dtype=torch.float64)
    seen: list[Tensor] = []
    embedding.linear0.register_forward_pre_hook(lambda _, received: seen.append(received[0]))
    embedding(c, torch.tensor([4, 7]))
    assert isinstance(embedding.label, nn.Linear)
    added = math.sqrt(10) * embedding.label.weight[:, [4, 7]].T
    torch.testing.assert_close(seen[0], embedding.features(c) + added)


@each_kind
def test_the_noise_level_matters(kind: str) -> None:
    model = small(**VARIANTS[kind])
    x, _, labels = inputs()
    noise = torch.zeros(3, dtype=torch.float64)
    assert not torch.allclose(model.network(x, noise, labels), model.network(x, noise + 1, labels))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Network(embedding="fourier", fourier_scale=16.0, width=4096), 17.8),
        (Network(embedding="fourier", fourier_scale=0.02, width=4096), 0.0222),
        (Network(), 0.043),
        (Network(time_scale=1000.0), 43.0),
    ],
)
def test_embeddings_are_as_sensitive_to_the_noise_level_as_in_figure_1a(options: Network, expected: float) -> None:
    # Root mean square of the derivative by log sigma, over components and levels: for Fourier 2 pi scale / (4 sqrt 2).
    features = NoiseFeatures(options).double()
    if features.fourier:
        features.frequencies.copy_(
            torch.from_numpy(options.fourier_scale * np.random.default_rng(0).standard_normal(options.width))
        )
    c = torch.linspace(math.log(0.002), math.log(80), 101, dtype=torch.float64) / 4
    slope = (features(c + 1e-6 / 4) - features(c - 1e-6 / 4)) / 2e-6
    assert float(slope.square().mean().sqrt()) == pytest.approx(expected, rel=0.05)


def test_frequencies_have_the_dtype_of_the_network_but_at_least_float32() -> None:
    features = NoiseFeatures(Network(embedding="fourier", width=64)).double()
    third = torch.full((64,), 1 / 3, dtype=torch.float64)
    features.frequencies.copy_(third)
    assert torch.equal(features.frequencies, third)
    assert torch.equal(features.float().frequencies, third.float())
    assert torch.equal(features.bfloat16().frequencies, third.float())


@pytest.mark.parametrize("head_channels", [0, 4])
@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_attention_is_a_softmax_average_of_values_in_heads(head_channels: int, gain: float) -> None:
    options = Network(width=8, multipliers=(1,), head_channels=head_channels, groups=2)
    attention = SelfAttention(8, options, ArchitectureVariant(eps=1e-5, gain=gain, fir=False, projects=False)).double()
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heads, d = (1, 8) if head_channels == 0 else (2, 4)
    qkv = attention.qkv(attention.norm(x).flatten(2).transpose(1, 2)).transpose(1, 2).reshape(2, 3, heads, d, 9)
    update = torch.empty(2, heads, d, 9, dtype=torch.float64)
    for b in range(2):
        for head in range(heads):
            q, k, v = qkv[b, :, head]
            for pixel in range(9):
                share = torch.softmax((k * q[:, pixel : pixel + 1]).sum(0) / math.sqrt(d), dim=0)
                update[b, head, :, pixel] = (v * share).sum(1)
    added = attention.projection(update.reshape(2, 8, 9).transpose(1, 2)).transpose(1, 2).reshape(2, 8, 3, 3)
    torch.testing.assert_close(attention(x), (x + added) * gain)


def test_the_filter_is_the_one_of_1_3_3_1_with_zeros_around_the_map() -> None:
    # By loops: filtered[i] = sum_j taps[j] padded[i + j], in both directions.
    taps = np.array([1, 3, 3, 1]) / 8
    x = np.random.default_rng(0).standard_normal((6, 6))

    def filtered(padded: np.ndarray, gain: float) -> np.ndarray:
        rows, columns = (side - 3 for side in padded.shape)
        out = np.zeros((rows, columns))
        for i in range(rows):
            for j in range(columns):
                out[i, j] = gain * taps @ padded[i : i + 4, j : j + 4] @ taps
        return out

    spread = np.zeros((12, 12))
    spread[::2, ::2] = x
    expected = {
        "down": filtered(np.pad(x, 1), 1)[::2, ::2],
        "up": filtered(np.pad(spread, ((2, 1), (2, 1))), 4),
        "smooth": filtered(np.pad(x, 2), 1),
    }
    given = torch.from_numpy(np.stack([x, 2 * x]))[None]  # two channels, filtered apart
    for way, values in expected.items():
        fir = Fir(way).double()  # type: ignore[arg-type]
        torch.testing.assert_close(fir(given), torch.from_numpy(np.stack([values, 2 * values]))[None])


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="torch.compile needs it")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "backend", "multipliers"),
    [
        ("ADM with AdaGN", "aot_eager", (1, 2)),
        ("NCSN++", "aot_eager", (1, 2)),
        pytest.param("NCSN++", "inductor", (1,), marks=pytest.mark.thorough),  # a minute of C++ and more
    ],
)
@pytest.mark.slow
def test_a_compiled_network_returns_the_same_values(kind: str, backend: str, multipliers: object) -> None:
    model = small("float32", **VARIANTS[kind], multipliers=multipliers)
    x, sigma, labels = inputs(dtype=torch.float32)
    masks = draw_masks(model.network.dropout_sites(), 3, 0)
    jaxtyping.config.update("jaxtyping_disable", True)  # its wrappers cannot be compiled
    try:
        with torch.set_grad_enabled(backend == "aot_eager"):  # compiling the gradient too takes inductor a minute
            compiled = torch.compile(model, fullgraph=True, backend=backend)(x, sigma, labels, masks)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    torch.testing.assert_close(compiled, model(x, sigma, labels, masks), rtol=1e-4, atol=1e-4, check_stride=False)
