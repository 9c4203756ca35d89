"""Readers of networks that others have published: each converts a state dict into a `NetworkCheckpoint`.

openai     UNetModel of openai/consistency_models and openai/guided-diffusion: ADM
edm        SongUNet of NVlabs/edm, configured as NCSN++ or DDPM++
score_sde  NCSNpp of yang-song/score_sde_pytorch

The readers are pure functions of a state dict and of `ImportOptions`. Each key is used exactly once, or an error names
it. Names are facts about those codebases; none of their code is here.
"""

from collections.abc import Callable

from ict_ref.networks.network_checkpoint import NetworkCheckpoint
from ict_ref.networks.published.common import ImportOptions, State, refuse, some
from ict_ref.networks.published.container import MARKS
from ict_ref.networks.published.edm import read_edm
from ict_ref.networks.published.openai import read_openai
from ict_ref.networks.published.score_sde import read_score_sde

FORMATS: dict[str, Callable[[State, ImportOptions], NetworkCheckpoint]] = {
    "openai": read_openai,
    "edm": read_edm,
    "score_sde": read_score_sde,
}


def read(state: State, import_options: ImportOptions, form: str = "auto") -> NetworkCheckpoint:
    """Return the network in a state dict of this format; by default the format is detected from its keys.

    Raises:
        ValueError: the state dict is of another model, is incomplete, or has features that our networks lack.
    """
    for prefix in ("module.", "model."):  # of DataParallel, and of EDM's preconditioner
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return FORMATS[_detected(state) if form == "auto" else form](state, import_options)


def _detected(state: State) -> str:
    found = [form for form, start in MARKS.items() if any(key.startswith(start) for key in state)]
    if len(found) != 1:
        refuse(f"a network of {', '.join(FORMATS)}", f"keys {some(list(state))}", "Give the right file, or --format.")
    return found[0]
