"""The SongUNet of NVlabs/edm, in its configuration as NCSN++."""

import math
import re
from collections.abc import Iterator

import torch

from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import (
    ImportOptions,
    State,
    ncsnpp,
    parts,
    places,
    refuse,
    regrouped,
    shape,
    translated,
)

BLOCK = {name: name for name in ("norm0", "conv0", "norm1", "conv1", "skip")} | {"linear": "affine"}
ATTENTION = {"norm": "norm2", "qkv": "qkv", "projection": "proj"}
ENDS = {
    "embedding.features.frequencies": "map_noise.freqs",
    "embedding.linear0": "map_layer0",
    "embedding.linear1": "map_layer1",
    "embedding.label": "map_label",
}


def read_edm(state: State, import_options: ImportOptions) -> NetworkCheckpoint:
    """Return the NCSN++ in the state dict of a SongUNet.

    Augmentation labels, which sampling does not use, are dropped. The bias of the label map is added to each of its
    columns.

    Raises:
        ValueError: the state dict is of another model, or incomplete.
    """
    size = next((int(m[1]) for key in state if (m := re.fullmatch(r"enc\.(\d+)x\1_conv\.weight", key))), 0)
    stem = f"enc.{size}x{size}"
    width, channels = shape(state, f"{stem}_conv.weight")[:2]
    if lacks := list(_beyond_ncsnpp(state)):
        refuse("a SongUNet configured as NCSN++", " and ".join(lacks), "Such networks cannot be imported.")
    sides = [
        size >> level for level in range(16) if f"enc.{size >> level}x{size >> level}_block0.conv0.weight" in state
    ]
    first = [f"enc.{side}x{side}_block0" for side in sides]
    blocks = sum(f"{stem}_block{i}.conv0.weight" in state for i in range(1000))
    options = ncsnpp(
        import_options,
        width=width,
        widths=[shape(state, f"{name}.conv0.weight")[0] for name in first],
        blocks=blocks,
        attention=tuple(side for side, name in zip(sides, first, strict=True) if f"{name}.qkv.weight" in state),
        frequencies=state["map_noise.freqs"],
        time_scale=1.0,
    )
    names = ENDS | {"stem": f"{stem}_conv"}
    names |= {"head.0": f"dec.{size}x{size}_aux_norm", "head.2": f"dec.{size}x{size}_aux_conv"}
    for place in places(options, size):
        side = size >> place.level
        half = "enc" if place.half == "encoder" else "dec"
        role = f"in{place.block}" if place.half == "middle" else f"block{place.block}"
        if place.block is None:
            role = "down" if half == "enc" else "up"
        block = f"{half}.{side}x{side}_{role}"
        names |= parts(place, block, BLOCK, block, ATTENTION)
        if role == "down":
            names[f"pyramid.{place.level - 1}"] = f"enc.{side}x{side}_aux_residual"
    read = {key: value for key, value in state.items() if not key.endswith(".resample_filter")}
    read.pop("map_augment.weight", None)
    for key in read:
        if re.search(r"\.qkv\.(weight|bias)$", key):
            read[key] = regrouped(read[key], (-1, 3))
    classes = shape(state, "map_label.weight")[1] if "map_label.weight" in state else 0
    if "map_label.bias" in read and classes:
        bias = read.pop("map_label.bias")
        read["map_label.weight"] = read["map_label.weight"] + bias[:, None] / math.sqrt(classes)
    empty = NetworkCheckpoint(options=options, channels=channels, size=size, classes=classes, state={})
    return translated(read, names, empty)


def _beyond_ncsnpp(state: State) -> Iterator[str]:
    """Yield the features of a SongUNet or a DhariwalUNet that NCSN++ lacks."""
    if "out_conv.weight" in state:
        yield "the DhariwalUNet"
        return
    if "map_noise.freqs" not in state:
        yield "DDPM++'s positional embedding, whose last frequency is 1/10000"
    if not any(key.endswith("_aux_residual.weight") for key in state) and any("_down." in key for key in state):
        yield "an encoder without the residual input pyramid"
    if sum(key.endswith("_aux_conv.weight") for key in state) > 1:
        yield "a decoder that adds up images of all resolutions"
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for key, value in state.items():
        if key.endswith(".resample_filter") and not torch.equal(value.squeeze().float(), torch.outer(taps, taps)):
            yield "a resampling filter other than [1, 3, 3, 1]"
            return
