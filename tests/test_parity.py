"""Our ADM equals the authors': what their public module returned in float64, on weights made by a rule, ours returns.

fixtures/adm_small.npz has outputs of openai/consistency_models cm/unet.py UNetModel (commit e32b69e), numbers only:
16x16, 32 channels, multipliers (1, 2, 3), 2 blocks, attention at 8, heads of 16, no AdaGN, 1000 log(sigma) / 4.
"""

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ict_ref.config import Network
from ict_ref.networks.adm import ADM
from ict_ref.networks.model import ConsistencyModel
from ict_ref.randomness import stream

FIXTURE = np.load(Path(__file__).parent / "fixtures" / "adm_small.npz")
OPTIONS = Network(
    width=32,
    multipliers=(1, 2, 3),
    blocks=2,
    attention_resolutions=(8,),
    head_channels=16,
    groups=32,
    dropout=0.2,
    dropout_max_resolution=8,
    time_scale=1000.0,
)

BLOCK = {
    "norm0": "in_layers.0",
    "conv0": "in_layers.2",
    "linear": "emb_layers.1",
    "norm1": "out_layers.0",
    "conv1": "out_layers.3",
    "skip": "skip_connection",
}
ATTENTION = {"norm": "norm", "qkv": "qkv", "projection": "proj_out"}


def names(network: ADM) -> Iterator[tuple[str, str]]:
    """Yield our name and the authors' for every part that has parameters."""
    yield from (("embedding.linear0", "time_embed.0"), ("embedding.linear1", "time_embed.2"))
    yield from (
        ("embedding.label", "label_emb"),
        ("stem", "input_blocks.0.0"),
        ("head.0", "out.0"),
        ("head.2", "out.2"),
    )
    places = [
        (f"encoder.{i}", f"input_blocks.{i + 1}.0", f"input_blocks.{i + 1}.1") for i in range(len(network.encoder))
    ]
    places += [("middle.0", "middle_block.0", "middle_block.1"), ("middle.1", "middle_block.2", "")]
    count = -1
    for i, stage in enumerate(network.decoder):
        if stage.upsamples:
            # The authors put the upsampling block last into the list of the block before it.
            attends = network.decoder[i - 1].attention is not None
            places.append((f"decoder.{i}", f"output_blocks.{count}.{2 if attends else 1}", ""))
        else:
            count += 1
            places.append((f"decoder.{i}", f"output_blocks.{count}.0", f"output_blocks.{count}.1"))
    for ours, block, attention in places:
        yield from ((f"{ours}.block.{part}", f"{block}.{theirs}") for part, theirs in BLOCK.items())
        yield from ((f"{ours}.attention.{part}", f"{attention}.{theirs}") for part, theirs in ATTENTION.items())


def weight(key: str, shape: tuple[int, ...]) -> Tensor:
    """Return the parameter that the fixture's rule gives the authors' key."""
    values = np.random.default_rng([0, zlib.crc32(key.encode())]).standard_normal(shape)
    if key.startswith("label_emb"):
        return torch.from_numpy(values)
    if len(shape) > 1:
        return torch.from_numpy(values / np.sqrt(np.prod(shape[1:])))
    return torch.from_numpy(1 + 0.1 * values if key.endswith("weight") else 0.1 * values)


def model() -> ConsistencyModel:
    """Return our model with the fixture's parameters, every one of the authors' keys used once."""
    network = ADM(OPTIONS, channels=3, size=16, classes=10, generator=stream(0, "parameters")).double()
    theirs = dict(names(network))
    shapes = dict(zip(FIXTURE["keys"].tolist(), FIXTURE["shapes"].tolist(), strict=True))
    state = {}
    for name, value in network.state_dict().items():
        part, kind = name.rsplit(".", 1)
        key = f"{theirs[part]}.{kind}"
        shape = tuple(int(side) for side in shapes.pop(key).strip("()[]").replace(",", " ").split())
        state[name] = weight(key, shape).reshape(value.shape)
    assert shapes == {}
    network.load_state_dict(state)
    return ConsistencyModel(network, sigma_min=0.002, sigma_data=0.5)


def given(name: str) -> Tensor:
    return torch.from_numpy(FIXTURE[name])


def relative(ours: Tensor, name: str) -> float:
    return float((ours.detach() - given(name)).abs().max() / given(name).abs().max())


def test_the_network_s_output_and_gradient_are_the_authors() -> None:
    network = model().network
    x = given("x").requires_grad_()
    out = network(x, given("sigma").log() / 4, given("y"))
    assert relative(out, "out") < 1e-12
    (gradient,) = torch.autograd.grad((out * given("v")).sum(), x)
    assert relative(gradient, "dx") < 1e-12


def test_the_consistency_function_is_the_authors_and_the_identity_at_sigma_min() -> None:
    f = model()(given("x_t"), given("sigma"), given("y"))
    assert relative(f, "f") < 1e-12
    lowest = given("sigma") == 0.002
    assert bool(lowest.any())
    assert torch.equal(f[lowest], given("x_t")[lowest])


def test_dropout_acts_in_the_authors_places_and_order() -> None:
    network = model().network
    masks = []
    for site in network.dropout_sites():
        shape = (3, site.channels, site.height, site.width)
        flat = np.arange(np.prod(shape)) * 0.6180339887498949 % 1 >= site.rate
        masks.append(torch.from_numpy(flat.reshape(shape)))
    acting = FIXTURE["dropout_shapes"][FIXTURE["dropout_rates"] > 0]
    assert [list(mask.shape) for mask in masks] == acting.tolist()
    out = network(given("x"), given("sigma").log() / 4, given("y"), tuple(masks))
    assert relative(out, "out_dropout") < 1e-12
