"""The NCSNpp of yang-song/score_sde_pytorch with residual input pyramid, which is our NCSN++.

Its F gets log(sigma), four times the input of ours, so time_scale is 4. That code divides the output of F by sigma
outside of F. To get its score, divide in the same way.
"""

import torch
from torch import Tensor

from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import ImportOptions, State, ncsnpp, parts, places, refuse, shape, translated

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


def read_score_sde(state: State, import_options: ImportOptions) -> NetworkCheckpoint:
    """Return the NCSN++ in the state dict of an NCSNpp; its table of noise levels is dropped.

    Raises:
        ValueError: the state dict is of another model, or incomplete.
    """
    if "all_modules.0.W" not in state:
        refuse("Fourier frequencies all_modules.0.W", "nothing", "DDPM and positional embeddings cannot be imported.")
    kinds = [_kind(state, f"all_modules.{j}") for j in range(len({key.split(".")[1] for key in state if "." in key}))]
    middle = kinds[4:]
    levels = middle.count("pyramid") + 1
    # Blocks of a stage and the one after it; with a single stage, n of the encoder, 2, and n + 1 of the decoder.
    before = middle[: middle.index("pyramid")].count("block") - 1 if levels > 1 else None
    blocks = (middle.count("block") - 3) // 2 if before is None else before
    first, j = [], 4
    for level in range(levels):
        j += 2 if level > 0 else 0
        first.append(j)
        j += blocks * (2 if kinds[j + 1 : j + 2] == ["attention"] else 1)
    size = import_options.size or 32
    width, channels = shape(state, "all_modules.3.weight")[:2]
    options = ncsnpp(
        import_options,
        width=width,
        widths=[shape(state, f"all_modules.{j}.Conv_0.weight")[0] for j in first],
        blocks=blocks,
        attention=tuple(size >> level for level, j in enumerate(first) if kinds[j + 1 : j + 2] == ["attention"]),
        frequencies=state["all_modules.0.W"],
        time_scale=4.0,
    )
    names, j = dict(ENDS), 4
    for place in places(options, size):
        block, attention = f"all_modules.{j}", f"all_modules.{j + 1}"
        names |= parts(place, block, BLOCK, attention, ATTENTION)
        shows = place.half == "encoder" and place.block is None
        if shows:
            names[f"pyramid.{place.level - 1}"] = f"all_modules.{j + 1}.Conv2d_0"
        j += 2 if place.attends or shows else 1
    names |= {"head.0": f"all_modules.{j}", "head.2": f"all_modules.{j + 1}"}
    read = {key: value for key, value in state.items() if key != "sigmas"}
    for j, kind in enumerate(kinds):
        if kind == "attention":
            _as_linear(read, f"all_modules.{j}.NIN_3", [f"all_modules.{j}.NIN_3"])
            _as_linear(read, f"all_modules.{j}.qkv", [f"all_modules.{j}.NIN_{i}" for i in range(3)])
    return translated(
        read, names, NetworkCheckpoint(options=options, channels=channels, size=size, classes=0, state={})
    )


def _kind(state: State, module: str) -> str:
    """Return the kind of one of NCSNpp's numbered modules."""
    for kind, part in (("attention", "NIN_0.W"), ("block", "Conv_0.weight"), ("pyramid", "Conv2d_0.weight")):
        if f"{module}.{part}" in state:
            return kind
    return "other"


def _as_linear(state: dict[str, Tensor], name: str, nins: list[str]) -> None:
    """Replace NINs, whose weights are [in, out], by one linear map with concatenated outputs."""
    parts = [(state.get(f"{nin}.W"), state.get(f"{nin}.b")) for nin in nins]
    if all(w is not None and b is not None and w.ndim == 2 for w, b in parts):
        for nin in nins:
            del state[f"{nin}.W"], state[f"{nin}.b"]
        state[f"{name}.weight"] = torch.cat([w.T for w, _ in parts if w is not None])
        state[f"{name}.bias"] = torch.cat([b for _, b in parts if b is not None])
