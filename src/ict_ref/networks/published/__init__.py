"""Networks that others have published, their state dicts read into ours.

openai     UNetModel of openai/consistency_models and openai/guided-diffusion: ADM
edm        SongUNet of NVlabs/edm, configured as NCSN++
score_sde  NCSNpp of yang-song/score_sde_pytorch

Pure functions, from a state dict and what it does not tell to `Weights`. Nothing is half-loaded: each key is used once,
or an error names it. Names are facts about those codebases; none of their code is here.
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


def read(state: State, unseen: ImportOptions, form: str | None = None) -> NetworkCheckpoint:
    """Return the network in a state dict of this format, or of the one that its keys look like.

    Raises ValueError for what is no such network, is incomplete, or has features that ours does not have.
    """
    for prefix in ("module.", "model."):  # of DataParallel, and of EDM's preconditioner
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return FORMATS[form or _detected(state)](state, unseen)


def state_dict_in(content: object, average: bool) -> dict[str, Tensor]:
    """Return the state dict in what a file holds: the content itself, or the averaged or the trained network in it.

    Containers are score_sde_pytorch's {"model": ..., "ema": {"shadow_params": [...]}} and those that hold a state dict
    as "ema", "model" or "state_dict". Raises ValueError if there is none.
    """
    if not isinstance(content, Mapping):
        refuse("a state dict", f"a {type(content).__name__}", "save network.state_dict()")
    model = content.get("model", content.get("state_dict"))
    found = content if model is None or isinstance(model, Tensor) else model
    ema = content.get("ema")
    if average and isinstance(ema, Mapping):
        shadow = ema.get("shadow_params")
        if not isinstance(shadow, list | tuple) or not isinstance(found, Mapping):
            found = ema
        else:
            # The parameters that are trained, in their order; frequencies and buffers have no average.
            trained = [key for key in found if not re.search(r"(^|\.)(all_modules\.0\.W|sigmas)$", key)]
            if len(trained) != len(shadow):
                refuse(f"{len(trained)} averaged tensors, as many as parameters", f"{len(shadow)}", "use --no-average")
            found = {**found, **dict(zip(trained, shadow, strict=True))}
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        refuse("a state dict: names and tensors", f"keys {some(list(content))}", "save network.state_dict()")
    for key, value in found.items():
        if not isinstance(key, str):
            refuse("names as keys", f"{key!r}", "save network.state_dict()")
        if value.layout is not torch.strided or value.is_meta:
            kind = "on the meta device" if value.is_meta else "sparse"
            refuse("tensors that hold every value", f"{key} {kind}", "save the tensors themselves")
    return dict(found)


def _detected(state: State) -> str:
    starts = {"openai": "input_blocks.", "edm": "map_layer0.", "score_sde": "all_modules."}
    found = [form for form, start in starts.items() if any(key.startswith(start) for key in state)]
    if len(found) != 1:
        refuse(f"a network of {', '.join(FORMATS)}", f"keys {some(list(state))}", "none of them has such keys")
    return found[0]
