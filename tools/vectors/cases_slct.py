"""Vectors for the Cauchy distance."""

from tools.vectors.arrays import array
from tools.vectors.case import INF, NAN, Case, draw, elsewhere, invalid, marked, valid
from tools.vectors.cases_model import X, Y, distances

CAUCHY: list[Case] = [
    *distances(c=0.03),
    valid("ones, c = 1/2", x=array([[1.0] * 4]), y=array([[0.0] * 4]), c=0.5),
    valid("images", x=draw(701, 2, 3, 2, 2), y=draw(702, 2, 3, 2, 2), c=0.2),
    marked(
        valid("tiny differences", x=array([[1e-8], [3e-5]]), y=array([[0.0], [0.0]]), c=1.0),
        "Elsewhere",
        "Cancellation",
    ),
    elsewhere(valid("c far above the difference", x=X, y=Y, c=1e4)),
    elsewhere(valid("c far below the difference", x=X, y=Y, c=1e-12)),
    invalid("c = 0", x=X, y=Y, c=0.0),
    invalid("c < 0", x=X, y=Y, c=-0.03),
    invalid("c is NaN", x=X, y=Y, c=NAN),
    invalid("c is infinite", x=X, y=Y, c=INF),
]
CASES: dict[str, list[Case]] = {"cauchy": CAUCHY}
