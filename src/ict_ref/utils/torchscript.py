"""Loading of TorchScript files that users provide."""

from pathlib import Path
from typing import Any

import torch


def load_torchscript(path: Path | str, device: torch.device | str = "cpu") -> Any:
    """Return the module in a TorchScript file, in evaluation mode with frozen parameters; None for any other file.

    A TorchScript file is a program, and calling the module runs it. A pickle is not opened.
    """
    try:
        module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
    except (OSError, RuntimeError, ValueError):
        return None
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module
