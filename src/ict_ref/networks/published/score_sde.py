"""The NCSNpp of yang-song/score_sde_pytorch with residual input pyramid, which is our NCSN++.

Its F gets log(sigma), four times the input of ours, so time_scale is 4. That code divides the output of F by sigma
outside of F. To get its score, divide in the same way.
"""

import torch
from torch import Tensor

from ict_ref.config import Network
from ict_ref.networks.layout import unet_blocks
from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import ImportOptions, State, ncsnpp, parts, refuse, shape, side, translated

BLOCK = {
    "norm0": "GroupNorm_0",
    "conv0": "Conv_0",
    "linear": "Dense_0",
    "norm1": "GroupNorm_1",
    "conv1": "Conv_1",
    "skip": "Conv_2",
}
ATTENTION = {"norm": "GroupNorm_0", "qkv": "qkv", "projection": "NIN_3"}
ENDS = {
    "embedding.features.frequencies": "all_modules.0.W",
    "embedding.linear0": "all_modules.1",
    "embedding.linear1": "all_modules.2",
    "stem": "all_modules.3",
}
FIRST = 4
"""Number of the first block's module, after those of the embedding and the stem."""


def read_score_sde(state: State, import_options: ImportOptions) -> NetworkCheckpoint:
    """Return the NCSN++ in the state dict of an NCSNpp; its table of noise levels is dropped.

    Raises:
        ValueError: the state dict is of another model, or incomplete.
    """
    if "all_modules.0.W" not in state:
        refuse("Fourier frequencies all_modules.0.W", "nothing", "DDPM and positional embeddings cannot be imported.")
    width, channels = shape(state, "all_modules.3.weight")[:2]
    kinds = _kinds(state)
    size = side(import_options, kinds.count("pyramid") + 1, 32)
    options = _options(state, import_options, kinds, width=width, size=size)
    read = {key: value for key, value in state.items() if key != "sigmas"}
    for j, kind in enumerate(kinds):
        if kind == "attention":
            _as_linear(read, f"all_modules.{j}.NIN_3", [f"all_modules.{j}.NIN_3"])
            _as_linear(read, f"all_modules.{j}.qkv", [f"all_modules.{j}.NIN_{i}" for i in range(3)])
    empty = NetworkCheckpoint(options=options, channels=channels, size=size, classes=0, state={})
    return translated(read, _names(options, size), empty)


def _kinds(state: State) -> list[str]:
    """Return the kind of each of NCSNpp's numbered modules."""
    count = len({key.split(".")[1] for key in state if "." in key})
    marks = {"attention": "NIN_0.W", "block": "Conv_0.weight", "pyramid": "Conv2d_0.weight"}
    return [
        next((kind for kind, part in marks.items() if f"all_modules.{j}.{part}" in state), "other")
        for j in range(count)
    ]


def _options(state: State, import_options: ImportOptions, kinds: list[str], *, width: int, size: int) -> Network:
    """Return the options of an NCSNpp with modules of these kinds, from the shapes of its tensors."""
    blocks = _blocks(kinds)
    first = _first_blocks(kinds, blocks)
    return ncsnpp(
        import_options,
        width=width,
        widths=[shape(state, f"all_modules.{j}.Conv_0.weight")[0] for j in first],
        blocks=blocks,
        attention=tuple(size >> stage for stage, j in enumerate(first) if _attends(kinds, j)),
        frequencies=state["all_modules.0.W"],
        time_scale=4.0,
    )


def _blocks(kinds: list[str]) -> int:
    """Return the number of blocks in a stage of the encoder."""
    if "pyramid" in kinds:
        return kinds[: kinds.index("pyramid")].count("block") - 1  # the last one halves the resolution
    # A single stage: n blocks of the encoder, 2 of the middle, and n + 1 of the decoder.
    return (kinds.count("block") - 3) // 2


def _first_blocks(kinds: list[str], blocks: int) -> list[int]:
    """Return the number of the module that is the first block, for each stage of the encoder."""
    first = [FIRST]
    for _ in range(kinds.count("pyramid")):
        modules = blocks * (2 if _attends(kinds, first[-1]) else 1)
        first.append(first[-1] + modules + 2)  # the block that halves the resolution, and the pyramid's map
    return first


def _attends(kinds: list[str], j: int) -> bool:
    """Return whether module j is followed by attention."""
    return kinds[j + 1 : j + 2] == ["attention"]


def _names(options: Network, size: int) -> dict[str, str]:
    """Return NCSNpp's names of all tensors, by our names."""
    names, j = dict(ENDS), FIRST
    for spec in unet_blocks(options, size):
        names |= parts(spec, f"all_modules.{j}", BLOCK, f"all_modules.{j + 1}", ATTENTION)
        if spec.way == "down":
            names[f"pyramid.{spec.stage - 1}"] = f"all_modules.{j + 1}.Conv2d_0"
        j += 2 if spec.attends or spec.way == "down" else 1
    return names | {"head.0": f"all_modules.{j}", "head.2": f"all_modules.{j + 1}"}


def _as_linear(state: dict[str, Tensor], name: str, nins: list[str]) -> None:
    """Replace NINs, whose weights are [in, out], by one linear map with concatenated outputs."""
    weights, biases = [f"{nin}.W" for nin in nins], [f"{nin}.b" for nin in nins]
    if state.keys() >= {*weights, *biases} and all(state[w].ndim == 2 for w in weights):
        state[f"{name}.weight"] = torch.cat([state.pop(w).T for w in weights])
        state[f"{name}.bias"] = torch.cat([state.pop(b) for b in biases])
