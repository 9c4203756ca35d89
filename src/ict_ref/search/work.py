"""One run of the command: the search, its table and its picture."""

from collections.abc import Sequence
from itertools import pairwise

from ict_ref.search.find import Found, find
from ict_ref.search.options import SearchOptions
from ict_ref.utils.printable import printable_lines


def search(options: SearchOptions) -> int:
    """Search as one process of the command, print the table in the first one, and return the exit status.

    Raises:
        ValueError: The model, the reference, the levels or the folder cannot be used.
        OSError: A file cannot be read or written.
    """

    def show(found: Found) -> None:
        print(table(found))
        print(printable_lines(f"\n{options.folder}: scores.csv, search.json{_drawn(options, found)}"))

    find(options, show)  # in the first process, which has the result
    return 0


def _drawn(options: SearchOptions, found: Found) -> str:
    """Draw the curve if matplotlib is installed, and return the end of the list of files."""
    try:
        from ict_ref.search.curve import write_curve
    except ModuleNotFoundError as error:
        if not str(error.name).startswith("matplotlib"):
            raise
        return "; to draw the curve, run pip install matplotlib and then the same command"
    caption = (
        f"Frechet distance ({options.features}) of {options.count} samples of {options.model} to {options.reference}, "
        f"by the level of one more step than {[*found.before, *found.after]}."
    )
    write_curve(options.folder, found.levels, best=found.sigma, without=found.without, caption=caption)
    return ", curve.png, curve.svg"


def table(found: Found) -> str:
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
