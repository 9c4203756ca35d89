"""Measure everything and print it as a table: `nox -s bench`, or `python -m benchmarks --only step --json FILE`."""

import argparse
import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import reading, scoring, sharing, steps, updates
from benchmarks.ratio import Ratio, interleaved

SUITES: dict[str, Callable[[int], list[Ratio]]] = {
    "step": steps.measure,
    "options": steps.options,
    "optimizer": updates.measure,
    "sampling": reading.sampling,
    "data": reading.reading,
    "processes": sharing.measure,
    "scoring": scoring.measure,
}


def machine() -> dict[str, Any]:
    """Return what this was measured on, and how fast it multiplies in bfloat16."""
    a = torch.randn(1024, 1024)
    b = a.bfloat16()
    product = interleaved("bfloat16 / float32 product", lambda: b @ b, lambda: a @ a, pairs=9)
    cpu = next((line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine())
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "bfloat16_product_over_float32": round(product.value, 2),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main() -> int:
    """Run the command and return its exit status, which no speed changes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SUITES, default=list(SUITES), help="some of the suites")
    parser.add_argument("--pairs", type=int, default=15, help="interleaved pairs of each ratio (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers to a new file too")
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error(f"argument --pairs: needs an integer >= 1; got {options.pairs}")
    if options.json is not None and options.json.exists():
        parser.error(f"argument --json: {options.json} exists and is not overwritten; choose another name")
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()), flush=True)
    print(f"\n{'ratio':<36}{'median':>8}{'quartiles':>16}{'pairs':>7}{'target':>9}")
    ratios = []
    for suite in options.only:
        for ratio in SUITES[suite](options.pairs):
            ratios.append(ratio)
            print(_row(ratio), flush=True)
    if options.json is not None:
        content = {
            "machine": about,
            "ratios": [dataclasses.asdict(ratio) for ratio in ratios],
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


def _row(ratio: Ratio) -> str:
    sign = ">=" if ratio.more else "<="
    target = "" if ratio.target is None else f"{sign} {ratio.target}"
    missed = "" if ratio.met is not False else "  missed"
    median, low, high = (f"{x:.2f}" if x < 100 else f"{x:.0f}" for x in (ratio.value, ratio.low, ratio.high))
    spread = f"{low} - {high}"
    return f"{ratio.name:<36}{median:>8}{spread:>16}{ratio.pairs:>7}{target:>9}{missed}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    sys.exit(main())
