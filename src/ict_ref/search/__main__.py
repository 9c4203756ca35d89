"""The command: `python -m ict_ref.search RUN --reference REFERENCE`."""

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ict_ref.utils.command_line import Parser, guarded

NAME = "ict_ref.search"
DESCRIPTION = """\
Find the noise level of the second step: the node of the training grid at which two-step samples have the smallest
Frechet distance to a reference, by the ternary search of the consistency models paper (Section 3), with the same noise
for every level. The paper's levels were found so (iCT, Appendix B: 0.821 on CIFAR-10, 1.526 on ImageNet 64x64).

The search finds the best node if the score falls, then rises along the grid; of another curve its result is a guess.
The folder that it leaves has every score (scores.csv), their curve (curve.png, curve.svg) and what was found
(search.json). Stopped, the same command goes on; no level is scored twice.
"""
EPILOG = """\
exit status: 0 found; 2 refused, one line says why; 130 stopped by Ctrl-C

examples:
  python -m ict_ref.search runs/digits-c86323d6 --reference digits:held-out --count 2000
  python -m ict_ref.search RUN --reference cifar10.npz --features inception-2015-12-05.pt --device cuda
  python -m ict_ref.search RUN --reference REF --before 80 0.821   the third step, once the second is known
"""
COUNT = 10_000


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    line = Parser(f"python -m {NAME}", DESCRIPTION, EPILOG)
    line.add_argument("model", type=Path, metavar="RUN|FILE", help="a run's folder or a network file")
    line.add_argument("--reference", required=True, metavar="REFERENCE", help="as python -m ict_ref.evaluate takes it")
    line.add_argument(
        "--features", default="pixels", metavar="NAME|FILE", help="pixels (default), digits, or a TorchScript file"
    )
    line.add_argument("--count", type=int, default=COUNT, help=f"samples of each level (default: {COUNT})")
    line.add_argument("--before", type=float, nargs="+", default=[], help="levels before it (default: sigma_max)")
    line.add_argument("--after", type=float, nargs="+", default=[], help="levels after it (default: none)")
    line.add_argument("--nodes", type=int, help="nodes of the grid (default: those at the end of training, s1 + 1)")
    line.add_argument("--labels", type=int, nargs="+", default=[], help="classes, in turn (default: all)")
    line.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    line.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: cpu")
    line.add_argument("--out", type=Path, metavar="FOLDER", help="what to write or go on with (default: MODEL-search)")
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return guarded(NAME, lambda: _searched(parser().parse_args(arguments)), stopped="stopped; the same command goes on")


def _searched(options: argparse.Namespace) -> int:
    if options.seed < 0:
        raise ValueError(f"--seed needs an integer >= 0; got {options.seed}")
    if options.nodes is not None and options.nodes < 3:
        raise ValueError(f"--nodes needs an integer >= 3; got {options.nodes}")
    out = options.out or Path(f"{options.model.resolve().name.removesuffix('.safetensors')}-search")
    from ict_ref.search.find import find

    found = find(options, out)
    steps = len(options.before) + len(options.after)
    levels = {key[len(options.before)]: value for key, value in found["scores"].items() if len(key) > steps}
    print(table(levels, found, steps))
    print(f"\n{out}: scores.csv, search.json{_drawn(out, levels, found, options)}")
    return 0


def _drawn(out: Path, levels: dict[float, float], found: dict[str, Any], options: argparse.Namespace) -> str:
    """Draw the curve where that can be, and return what to say of it."""
    try:
        from ict_ref.search.curve import write_curve
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("matplotlib"):
            raise
        return "; for a picture of the curve: pip install 'ict_ref[figures]', and the same command"
    caption = (
        f"Frechet distance ({options.features}) of {options.count} samples of {options.model} to {options.reference}, "
        f"by the level of one more step than {[*options.before, *options.after]}."
    )
    write_curve(out, levels, best=found["sigma"], without=found["frechet_distance_without"], caption=caption)
    return ", curve.png, curve.svg"


def table(levels: dict[float, float], found: dict[str, Any], steps: int) -> str:
    """Return the scored levels, from the highest, the best marked, and what it means."""
    lines = [f"{'sigma':>12}{'Frechet distance':>20}"]
    for sigma, value in sorted(levels.items(), reverse=True):
        mark = "  <- best" if sigma == found["sigma"] else ""
        lines.append(f"{sigma:>12.5g}{value:>20.5f}{mark}")
    if not falls_then_rises([levels[sigma] for sigma in sorted(levels)]):
        lines.append(
            "\nThe scores do not only fall, then rise: the best may be another; more samples tell levels apart."
        )
    lines.append(
        f"\n{steps + 1} steps with sigma = {found['sigma']:.6g} (node {found['node']} of {found['nodes']}): "
        f"{found['frechet_distance']:.5f}; {steps} without it: {found['frechet_distance_without']:.5f}"
    )
    return "\n".join(lines)


def falls_then_rises(scores: Sequence[float]) -> bool:
    """Return whether the scores have one valley, as the search takes for granted."""
    best = scores.index(min(scores))
    descends = all(a >= b for a, b in pairwise(scores[: best + 1]))
    return descends and all(a <= b for a, b in pairwise(scores[best:]))


if __name__ == "__main__":
    sys.exit(main())
