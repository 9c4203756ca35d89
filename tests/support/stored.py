"""The descriptions and tensors of safetensors files, as any other program reads them."""

import json
from pathlib import Path
from typing import Any

import safetensors
from jaxtyping import Shaped
from torch import Tensor


def read_stored(path: Path | str) -> tuple[dict[str, Any], dict[str, Shaped[Tensor, "..."]]]:
    """Return the description in a checkpoint or a network file, and its tensors."""
    with safetensors.safe_open(path, framework="pt") as file:
        names = list(file.keys())
        return json.loads(file.metadata()["ict_ref"]), {name: file.get_tensor(name) for name in names}
