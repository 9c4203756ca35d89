"""The SongUNet of NVlabs/edm, in its configurations as NCSN++ and as DDPM++."""

import math
import re

import torch

from ict_ref.config import Network
from ict_ref.networks.layout import unet_blocks
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import (
    QKV,
    ImportOptions,
    State,
    ncsnpp,
    network,
    parts,
    refuse,
    regrouped,
    shape,
    translated,
)

BLOCK = {name: name for name in ("norm0", "conv0", "norm1", "conv1", "skip")} | {"linear": "affine"}
ATTENTION = {"norm": "norm2", "qkv": "qkv", "projection": "proj"}
HALVES = {"encoder": ("enc", "block"), "middle": ("dec", "in"), "decoder": ("dec", "block")}
ENDS = {
    "embedding.features.frequencies": "map_noise.freqs",
    "embedding.linear0": "map_layer0",
    "embedding.linear1": "map_layer1",
    "embedding.label": "map_label",
}


def read_edm(state: State, import_options: ImportOptions) -> NetworkCheckpoint:
    """Return the NCSN++ or the DDPM++ in the state dict of a SongUNet.

    Augmentation labels, which sampling does not use, are dropped. The bias of the label map is added to each of its
    columns. A SongUNet embeds sines before cosines, the DDPM++ here cosines before sines: the maps to and from the
    embedding change with it.

    Raises:
        ValueError: the state dict is of another model, or incomplete.
    """
    size = next((int(m[1]) for key in state if (m := re.fullmatch(r"enc\.(\d+)x\1_conv\.weight", key))), 0)
    width, channels = shape(state, f"enc.{size}x{size}_conv.weight")[:2]
    expected, other = _other_features(state)
    if other:
        refuse(expected, " and ".join(other), "Such networks cannot be imported.")
    options = _options(state, import_options, width=width, size=size)
    read = {key: regrouped(value, (-1, 3)) if QKV.search(key) else value for key, value in state.items()}
    for unused in ["map_augment.weight", *_ending(state, ".resample_filter")]:
        read.pop(unused, None)
    classes = shape(state, "map_label.weight")[1] if "map_label.weight" in state else 0
    if "map_label.bias" in read and classes:
        bias = read.pop("map_label.bias")
        read["map_label.weight"] = read["map_label.weight"] + bias[:, None] / math.sqrt(classes)
    if _is_ddpmpp(state):
        for key, axis in (("map_layer0.weight", 1), ("map_label.weight", 0)):
            if key in read:
                read[key] = read[key].roll(read[key].shape[axis] // 2, axis)
    empty = NetworkCheckpoint(options=options, channels=channels, size=size, classes=classes, state={})
    return translated(read, _names(options, size), empty)


def _options(state: State, import_options: ImportOptions, *, width: int, size: int) -> Network:
    """Return the options of a SongUNet, from the names and shapes of its tensors."""
    sides = [size >> stage for stage in range(16)]
    sides = [side for side in sides if f"enc.{side}x{side}_block0.conv0.weight" in state]
    widths = [shape(state, f"enc.{side}x{side}_block0.conv0.weight")[0] for side in sides]
    blocks = sum(f"enc.{size}x{size}_block{i}.conv0.weight" in state for i in range(1000))
    attention = tuple(side for side in sides if f"enc.{side}x{side}_block0.qkv.weight" in state)
    if _is_ddpmpp(state):
        return network(
            import_options,
            architecture="ddpmpp",
            width=width,
            widths=widths,
            blocks=blocks,
            attention_resolutions=attention,
            head_channels=0,
            time_scale=1.0 if import_options.time_scale is None else import_options.time_scale,
        )
    return ncsnpp(
        import_options,
        width=width,
        widths=widths,
        blocks=blocks,
        attention=attention,
        frequencies=state["map_noise.freqs"],
        time_scale=1.0,
    )


def _names(options: Network, size: int) -> dict[str, str]:
    """Return the SongUNet's names of all tensors, by our names."""
    names = ENDS | {"stem": f"enc.{size}x{size}_conv"}
    names |= {"head.0": f"dec.{size}x{size}_aux_norm", "head.2": f"dec.{size}x{size}_aux_conv"}
    for spec in unet_blocks(options, size):
        side = size >> spec.stage
        half, numbered = HALVES[spec.half]
        role = spec.way if spec.number is None else f"{numbered}{spec.number}"
        block = f"{half}.{side}x{side}_{role}"
        names |= parts(spec, block, BLOCK, block, ATTENTION)
        if spec.way == "down":
            names[f"pyramid.{spec.stage - 1}"] = f"enc.{side}x{side}_aux_residual"
    return names


def _is_ddpmpp(state: State) -> bool:
    """Return whether a SongUNet has DDPM++'s positional embedding, which has no tensor, instead of frequencies."""
    return "map_noise.freqs" not in state


def _other_features(state: State) -> tuple[str, list[str]]:
    """Return the network that a state dict has to be, by its embedding, and the features that this network lacks."""
    if "out_conv.weight" in state:
        return "a SongUNet", ["the DhariwalUNet"]
    halves = any("_down." in key for key in state)
    pyramid = {end: bool(_ending(state, f"_aux_{end}.weight")) for end in ("residual", "skip")}
    if _is_ddpmpp(state):
        name, taps = "DDPM++, as it has no map_noise.freqs", [1.0, 1.0]
        features = {"an encoder with an input pyramid": any(pyramid.values())}
    else:
        name, taps = "NCSN++", [1.0, 3.0, 3.0, 1.0]
        features = {"an encoder without the residual input pyramid": halves and not pyramid["residual"]}
    weights = torch.tensor(taps) / sum(taps)
    filters = [state[key].squeeze().float() for key in _ending(state, ".resample_filter")]
    features |= {
        "a decoder that adds up images of all resolutions": len(_ending(state, "_aux_conv.weight")) > 1,
        f"a resampling filter other than {[round(tap) for tap in taps]}": not all(
            torch.equal(value, torch.outer(weights, weights)) for value in filters
        ),
    }
    return f"a SongUNet configured as {name}", [feature for feature, present in features.items() if present]


def _ending(state: State, end: str) -> list[str]:
    """Return the keys with this end."""
    return [key for key in state if key.endswith(end)]
