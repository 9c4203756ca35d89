"""A picture of the scores along the grid."""

from pathlib import Path

from ict_ref.utils.atomic import write_atomically
from ict_ref.utils.chart import files
from ict_ref.utils.panel import Figure, Panel


def write_curve(folder: Path, levels: dict[float, float], *, best: float, without: float, caption: str) -> None:
    """Write curve.png and curve.svg with the scores by level, the best one, and the score without a further step."""
    ordered = tuple(sorted(levels.items()))
    panel = Panel(
        title="score by the level of one more step",
        x="sigma",
        y="Frechet distance",
        curves={
            "scored": ordered,
            "best": ((best, levels[best]),),
            "without it": ((ordered[0][0], without), (ordered[-1][0], without)),
        },
        x_scale="log",
        marks=("scored",),
        dots=("best",),
    )
    for suffix, content in files(Figure("", caption, (panel,))).items():
        if suffix != ".csv":  # scores.csv has the points
            write_atomically(folder / f"curve{suffix}", content)
