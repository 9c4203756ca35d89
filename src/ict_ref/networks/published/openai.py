"""The UNetModel of openai/consistency_models and openai/guided-diffusion, which is our ADM."""

import re

from ict_ref.config import Network
from ict_ref.networks.layout import BlockSpec, has_attention, unet_blocks
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import (
    QKV,
    ImportOptions,
    State,
    network,
    parts,
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
    channels, outputs = shape(state, "input_blocks.0.0.weight")[1], shape(state, "out.2.weight")[0]
    if outputs != channels:
        refuse(f"{channels} output channels", f"{outputs}", "Networks with learn_sigma cannot be imported.")
    size = import_options.size or 64
    options = _options(state, import_options, width=width, size=size)
    names = dict(ENDS)
    for spec in unet_blocks(options, size):
        block, attention = _modules(spec, options, size)
        names |= parts(spec, block, BLOCK, attention, ATTENTION)
    read = _head_last(state, import_options.head_channels) if import_options.qkv == "head-first" else state
    classes = shape(state, "label_emb.weight")[0] if "label_emb.weight" in state else 0
    empty = NetworkCheckpoint(options=options, channels=channels, size=size, classes=classes, state={})
    return translated(read, names, empty)


def _options(state: State, import_options: ImportOptions, *, width: int, size: int) -> Network:
    """Return the options of a UNetModel, from the names and shapes of its tensors."""
    ups = [key for key in state if re.fullmatch(r"output_blocks\.\d+\.[12]\.in_layers\.0\.weight", key)]
    levels = len(ups) + 1
    blocks = len({key.split(".")[1] for key in state if key.startswith("output_blocks.")}) // levels - 1
    first = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    widths = [shape(state, f"{name}.0.out_layers.3.weight")[0] for name in first]
    return network(
        import_options,
        architecture="adm",
        width=width,
        widths=widths,
        blocks=blocks,
        attention_resolutions=tuple(
            size >> level for level, name in enumerate(first) if f"{name}.1.qkv.weight" in state
        ),
        head_channels=import_options.head_channels,
        adaptive_norm=shape(state, f"{first[0]}.0.emb_layers.1.weight")[0] == 2 * widths[0],
        time_scale=1000.0 if import_options.time_scale is None else import_options.time_scale,
    )


def _modules(spec: BlockSpec, options: Network, size: int) -> tuple[str, str]:
    """Return the names of the UNetModel's residual block and attention that are a block of ours."""
    if spec.half == "middle":
        return f"middle_block.{2 * spec.index}", "middle_block.1"
    if spec.half == "encoder":
        return f"input_blocks.{1 + spec.index}.0", f"input_blocks.{1 + spec.index}.1"
    # A block that upsamples is the last child of the block before it, after attention if that has it.
    ups = len(options.multipliers) - 1 - spec.stage
    module = f"output_blocks.{spec.index - ups}"
    child = 0 if spec.way == "none" else 1 + has_attention(options, size, spec.stage + 1)
    return f"{module}.{child}", f"{module}.1"


def _head_last(state: State, head_channels: int) -> State:
    """Return the state with the rows of each attention map in the order (q, k, v; head; channel)."""
    return {
        key: regrouped(value, (-1, 3, head_channels or len(value) // 3)) if QKV.search(key) else value
        for key, value in state.items()
    }
