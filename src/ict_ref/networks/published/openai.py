"""The UNetModel of openai/consistency_models and openai/guided-diffusion, which is our ADM."""

import re

from jaxtyping import Float
from torch import Tensor

from ict_ref.config import Network
from ict_ref.networks.layout import BlockSpec, has_attention, unet_blocks
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import (
    GROUPS,
    QKV,
    ImportOptions,
    State,
    network,
    parts,
    refuse,
    regrouped,
    renamed,
    shape,
    side,
    translated,
)
from ict_ref.utils.command_line import expect

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
    size = side(import_options, len(_ups(state)) + 1, 64)
    options = _options(state, import_options, width=width, size=size)
    read = _head_last(state, import_options.head_channels) if import_options.qkv == "head-first" else state
    classes = shape(state, "label_emb.weight")[0] if "label_emb.weight" in state else 0
    empty = NetworkCheckpoint(options=options, channels=channels, size=size, classes=classes, state={})
    return translated(read, _names(options, size), empty)


def write_openai(checkpoint: NetworkCheckpoint) -> dict[str, Float[Tensor, "..."]]:
    """Return the state dict that a UNetModel has for this ADM, with attention maps in the order q, k, v.

    It has neither the size of the images nor `time_scale`, `head_channels` and dropout, which `read_openai` is given.

    Raises:
        ValueError: the network is not the UNetModel of any options.
    """
    options = checkpoint.options
    unlike = {
        "adm": options.architecture,
        "positional": options.embedding,
        f"{GROUPS} groups": f"{options.groups} groups",
    }
    expected = "a network of openai's code"
    for wanted, got in unlike.items():
        expect(got == wanted, "--format openai", f"{expected}, {wanted}", got, "Write --format network.")
    names = _names(options, checkpoint.size)
    return {renamed(name, names): _with_kernel(renamed(name, names), value) for name, value in checkpoint.state.items()}


def _with_kernel(key: str, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return the weight of a map of attention with the kernel axes of consistency_models, where it is a convolution."""
    value = value.detach().cpu().contiguous()
    return value[..., None, None] if re.search(r"\.(qkv|proj_out)\.weight$", key) else value


def _names(options: Network, size: int) -> dict[str, str]:
    """Return the UNetModel's names of all modules, by our names."""
    names = dict(ENDS)
    for spec in unet_blocks(options, size):
        block, attention = _modules(spec, options, size)
        names |= parts(spec, block, BLOCK, attention, ATTENTION)
    return names


def _options(state: State, import_options: ImportOptions, *, width: int, size: int) -> Network:
    """Return the options of a UNetModel, from the names and shapes of its tensors."""
    levels = len(_ups(state)) + 1
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


def _ups(state: State) -> list[str]:
    """Return the key of each block that doubles the resolution."""
    return [key for key in state if re.fullmatch(r"output_blocks\.\d+\.[12]\.in_layers\.0\.weight", key)]


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
