"""The environment of a computation: what its rounding depends on, beside its options."""

import platform
from pathlib import Path

import torch

from ict_ref.utils.version import __version__


def environment(device: torch.device | str) -> dict[str, str]:
    """Return the versions, the instructions that torch uses on this CPU, and the model of the device, by name."""
    return {
        "ict_ref": __version__,
        "torch": torch.__version__,
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "device": _model(torch.device(device)),
    }


def _model(device: torch.device) -> str:
    """Return the model of a GPU, or of this CPU as far as the system names it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
