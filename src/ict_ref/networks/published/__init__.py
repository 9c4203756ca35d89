"""Readers of networks that others have published: each converts a state dict into a `NetworkCheckpoint`.

openai     UNetModel of openai/consistency_models and openai/guided-diffusion: ADM
edm        SongUNet of NVlabs/edm, configured as NCSN++
score_sde  NCSNpp of yang-song/score_sde_pytorch

The readers are pure functions of a state dict and of `ImportOptions`. Each key is used exactly once, or an error names
it. Names are facts about those codebases; none of their code is here.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import ImportOptions, State, refuse, some
from ict_ref.networks.published.edm import read_edm
from ict_ref.networks.published.openai import read_openai
from ict_ref.networks.published.score_sde import read_score_sde

FORMATS: dict[str, Callable[[State, ImportOptions], NetworkCheckpoint]] = {
    "openai": read_openai,
    "edm": read_edm,
    "score_sde": read_score_sde,
}


def read(state: State, import_options: ImportOptions, form: str | None = None) -> NetworkCheckpoint:
    """Return the network in a state dict of this format; by default the format is detected from its keys.

    Raises:
        ValueError: the state dict is of another model, is incomplete, or has features that our networks lack.
    """
    for prefix in ("module.", "model."):  # of DataParallel, and of EDM's preconditioner
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return FORMATS[form or _detected(state)](state, import_options)


def state_dict_in(content: object, average: bool) -> dict[str, Tensor]:
    """Return the state dict in the content of a file; with `average` the EMA weights, if the file has both.

    The content is a state dict, a container with one under "ema", "model" or "state_dict", or a checkpoint of
    score_sde_pytorch, {"model": ..., "ema": {"shadow_params": [...]}}.

    Raises:
        ValueError: the content has no state dict.
    """
    if not isinstance(content, Mapping):
        refuse("a mapping of names to tensors", f"a {type(content).__name__}", "Save network.state_dict().")
    model = content.get("model", content.get("state_dict"))
    found = content if model is None or isinstance(model, Tensor) else model
    ema = content.get("ema")
    if average and isinstance(ema, Mapping):
        found = _averaged(found, ema)
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        refuse("a mapping of names to tensors", f"keys {some(list(content))}", "Save network.state_dict().")
    for key, value in found.items():
        _check_entry(key, value)
    return dict(found)


def _averaged(trained: object, ema: Mapping[object, object]) -> object:
    """Return the EMA weights: `ema` itself, or the trained state dict with the parameters that `ema` lists."""
    shadow = ema.get("shadow_params")
    if not isinstance(shadow, list | tuple) or not isinstance(trained, Mapping):
        return ema
    # The trained parameters in their order; frequencies and buffers have no EMA weights.
    names = [key for key in trained if not re.search(r"(^|\.)(all_modules\.0\.W|sigmas)$", key)]
    if len(names) != len(shadow):
        refuse(f"EMA weights for {len(names)} parameters", f"{len(shadow)}", "Use --no-average.")
    return {**trained, **dict(zip(names, shadow, strict=True))}


def _check_entry(key: object, value: Tensor) -> None:
    """Reject an entry of a state dict whose key is not a name, or whose tensor is not dense.

    Raises:
        ValueError: the entry is not usable.
    """
    if not isinstance(key, str):
        refuse("names as keys", f"{key!r}", "Save network.state_dict().")
    if value.layout is not torch.strided or value.is_meta:
        kind = "on the meta device" if value.is_meta else "sparse"
        refuse("dense tensors with values", f"{key} {kind}", "Save the tensors themselves.")


def _detected(state: State) -> str:
    starts = {"openai": "input_blocks.", "edm": "map_layer0.", "score_sde": "all_modules."}
    found = [form for form, start in starts.items() if any(key.startswith(start) for key in state)]
    if len(found) != 1:
        refuse(f"a network of {', '.join(FORMATS)}", f"keys {some(list(state))}", "Give the right file, or --format.")
    return found[0]
