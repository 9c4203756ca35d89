"""The share of a GPU's peak that `python -m benchmarks.gpu` measured."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ict_ref.config import PRESETS
from ict_ref.plan.hardware import gpu_of_device
from ict_ref.utils.command_line import expect
from ict_ref.utils.json_file import entry, read_json

ADVICE = "Write it again with python -m benchmarks.gpu."


def measured_share(path: Path, architecture: str, *, compiled: bool) -> float:
    """Return the largest measured fraction of the bfloat16 peak of the GPU that the file names.

    Only measurements of the same architecture count, compiled or not as requested.

    Raises:
        ValueError: the file is damaged, was written without a GPU, or has no such measurement.
        OSError: the file cannot be read.
    """
    stored = read_json(path, ADVICE)
    machine = entry(stored, "machine", Mapping[str, Any])
    name = entry(machine, "gpu", str | None, "machine.")
    gpu = None if name is None else gpu_of_device(name)
    if gpu is None:
        raise ValueError(f"--measured: expected speeds of a known GPU, got {path} of {name or 'a machine without one'}")
    rows = [checked_row(row) for row in entry(stored, "gpu", tuple[Mapping[str, Any], ...])]
    rates = [
        tflops for preset, is_compiled, tflops in rows
        if is_compiled == compiled and preset in PRESETS and PRESETS[preset]().network.architecture == architecture
    ]  # fmt: skip
    kind = f"{'compiled' if compiled else 'eager'} training of {architecture}"
    expect(bool(rates), "--measured", f"a speed of {kind}", f"{path} without one", ADVICE)
    return max(rates) * 1e12 / gpu.bfloat16


def checked_row(row: Mapping[str, Any]) -> tuple[str, bool, float]:
    """Return preset, whether compiled, and TFLOP/s of a measurement.

    Raises:
        ValueError: a value is missing or has another type.
    """
    return entry(row, "preset", str, "gpu."), entry(row, "compiled", bool, "gpu."), entry(row, "tflops", float, "gpu.")
