"""The UNetModel of openai/consistency_models and openai/guided-diffusion, which is our ADM."""

import re

from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import (
    ImportOptions,
    State,
    network,
    parts,
    places,
    refuse,
    regrouped,
    shape,
    translated,
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
ENDS = {
    "embedding.linear0": "time_embed.0",
    "embedding.linear1": "time_embed.2",
    "embedding.label": "label_emb",
    "stem": "input_blocks.0.0",
    "head.0": "out.0",
    "head.2": "out.2",
}


def read_openai(state: State, import_options: ImportOptions) -> NetworkCheckpoint:
    """Return the ADM in the state dict of a UNetModel.

    Raises:
        ValueError: the state dict is of another model, or incomplete.
    """
    if any(re.search(r"\.(op|conv)\.weight$", key) for key in state):
        advice = "Such networks cannot be imported."
        refuse("a UNetModel with resblock_updown", "plain resampling convolutions", advice)
    width = shape(state, "time_embed.0.weight")[1]
    ups = [key for key in state if re.fullmatch(r"output_blocks\.\d+\.[12]\.in_layers\.0\.weight", key)]
    levels = len(ups) + 1
    blocks = len({key.split(".")[1] for key in state if key.startswith("output_blocks.")}) // levels - 1
    first = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    channels, outputs = shape(state, "input_blocks.0.0.weight")[1], shape(state, "out.2.weight")[0]
    if outputs != channels:
        refuse(f"{channels} output channels", f"{outputs}", "Networks with learn_sigma cannot be imported.")
    size = import_options.size or 64
    widths = [shape(state, f"{name}.0.out_layers.3.weight")[0] for name in first]
    attends = [f"{name}.1.qkv.weight" in state for name in first]
    options = network(
        import_options,
        architecture="adm",
        width=width,
        widths=widths,
        blocks=blocks,
        attention_resolutions=tuple(size >> level for level in range(levels) if attends[level]),
        head_channels=import_options.head_channels,
        adaptive_norm=shape(state, f"{first[0]}.0.emb_layers.1.weight")[0] == 2 * widths[0],
        time_scale=1000.0 if import_options.time_scale is None else import_options.time_scale,
    )
    names = dict(ENDS)
    for place in places(options, size):
        after = (levels - 1 - place.level) * (blocks + 1)
        if place.half == "middle":
            block, attention = f"middle_block.{2 * (place.block or 0)}", "middle_block.1"
        elif place.half == "encoder":
            index = place.level * (blocks + 1) + (0 if place.block is None else 1 + place.block)
            block, attention = f"input_blocks.{index}.0", f"input_blocks.{index}.1"
        elif place.block is None:  # the last child of the block before it, after attention if that has it
            above = place.level + 1
            block, attention = f"output_blocks.{after - 1}.{2 if attends[above] else 1}", ""
        else:
            block, attention = f"output_blocks.{after + place.block}.0", f"output_blocks.{after + place.block}.1"
        names |= parts(place, block, BLOCK, attention, ATTENTION)
    read = dict(state)
    if import_options.qkv == "head-first":
        for key in read:
            if re.search(r"\.qkv\.(weight|bias)$", key):
                d = import_options.head_channels or len(read[key]) // 3
                read[key] = regrouped(read[key], (-1, 3, d))
    classes = shape(state, "label_emb.weight")[0] if "label_emb.weight" in state else 0
    empty = NetworkCheckpoint(options=options, channels=channels, size=size, classes=classes, state={})
    return translated(read, names, empty)
