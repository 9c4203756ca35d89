"""TorchScript files: programs of the user's, loaded in one place."""

from pathlib import Path
from typing import Any

import torch


def load_torchscript(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """Return the module in a TorchScript file, for evaluation, its parameters frozen; None if it is not TorchScript.

    Such a file is a program: calling the module runs it. A pickle is not opened.
    """
    try:
        module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError, ValueError):
        return None
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module
