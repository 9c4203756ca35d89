"""The command: `python -m ict_ref.search RUN --reference REFERENCE`."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from ict_ref.evaluate.processes import in_processes
from ict_ref.search.options import EPILOG, SearchOptions
from ict_ref.utils.command_line import guarded, leave
from ict_ref.utils.option_parser import parse_options

# torch is imported after the arguments are checked, so that help and errors appear at once.
if TYPE_CHECKING:
    from ict_ref.search.find import Found

NAME = "ict_ref.search"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return guarded(
        NAME,
        lambda: _dispatched(parse_options(SearchOptions, given, NAME, EPILOG), given),
        stopped="stopped; the same command resumes",
    )


def _dispatched(options: SearchOptions, given: Sequence[str]) -> int:
    """Search in this process, or in several as the options require."""
    return in_processes(NAME, given, options, lambda: search(options))


def search(options: SearchOptions) -> int:
    """Search as one process of the command, print the table in the first one, and return the exit status.

    Raises:
        ValueError: The model, the reference, the levels or the folder cannot be used.
        OSError: A file cannot be read or written.
    """
    from ict_ref.search.find import find

    found = find(options)
    if found is None:
        return 0  # the first process has the result
    print(table(found))
    print(f"\n{options.folder}: scores.csv, search.json{_drawn(options, found)}")
    return 0


def _drawn(options: SearchOptions, found: "Found") -> str:
    """Draw the curve if matplotlib is installed, and return the end of the list of files."""
    try:
        from ict_ref.search.curve import write_curve
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("matplotlib"):
            raise
        return "; to draw the curve, install 'ict_ref[figures]' with pip and run the same command"
    caption = (
        f"Frechet distance ({options.features}) of {options.count} samples of {options.model} to {options.reference}, "
        f"by the level of one more step than {[*found.before, *found.after]}."
    )
    write_curve(options.folder, found.levels, best=found.sigma, without=found.without, caption=caption)
    return ", curve.png, curve.svg"


def table(found: "Found") -> str:
    """Return a table of the scored noise levels in descending order, with the best one marked, and the result."""
    lines = [f"{'sigma':>12}{'Frechet distance':>20}"]
    for sigma, value in sorted(found.levels.items(), reverse=True):
        mark = "  <- best" if sigma == found.sigma else ""
        lines.append(f"{sigma:>12.5g}{value:>20.5f}{mark}")
    if not falls_then_rises([found.levels[sigma] for sigma in sorted(found.levels)]):
        lines.append(
            "\nThe scores have more than one minimum, so another level may be better. Increase --count to reduce noise."
        )
    steps = len(found.before) + len(found.after)
    lines.append(
        f"\n{steps + 1} steps with sigma = {found.sigma:.6g} (node {found.node} of {found.nodes}): "
        f"{found.frechet_distance:.5f}; {steps} without it: {found.without:.5f}"
    )
    return "\n".join(lines)


def falls_then_rises(scores: Sequence[float]) -> bool:
    """Return whether the scores have one minimum, as the ternary search assumes."""
    best = scores.index(min(scores))
    descends = all(a >= b for a, b in pairwise(scores[: best + 1]))
    return descends and all(a <= b for a, b in pairwise(scores[best:]))


if __name__ == "__main__":
    leave(main())
