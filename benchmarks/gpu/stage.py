"""One stage in this process: `python -m benchmarks.gpu.stage NAME FOLDER [--tiny]` writes FOLDER/NAME.json."""

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.gpu.notes import Notes

STAGES: Mapping[str, str] = {
    "device": "rates.measure",
    "compile": "speed.compile_ahead",
    "tests": "cuda_tests.measure",
    "equality": "equality.measure",
    "digits": "digits.measure",
    "speed": "speed.measure",
    "masks": "masks.measure",
    "checkpoint": "checkpoints.measure",
    "kernels": "kernels.measure",
    "rounding": "rounding.measure",
}
"""The function of each stage, by module of this package; a stage imports only its own."""


def function(name: str) -> Callable[..., None]:
    """Return the function of a stage."""
    module, _, attribute = STAGES[name].partition(".")
    found: Callable[..., None] = getattr(importlib.import_module(f"benchmarks.gpu.{module}"), attribute)
    return found


if __name__ == "__main__":
    function(sys.argv[1])(Notes(Path(sys.argv[2]) / f"{sys.argv[1]}.json"), tiny="--tiny" in sys.argv)
