"""Vectors for TCM: the function of two stages, the law of the level, and the weights of both losses."""

from tools.vectors.arrays import Array, array
from tools.vectors.callbacks import callback
from tools.vectors.case import INF, NAN, Argument, Case, draw, elsewhere, flags, invalid, valid

F, F0 = callback("bend", a=1.5, b=0.25), callback("bend", a=0.75, b=-0.5)
LEVELS = array([0.2, 0.999, 1.0, 1.5, 80.0])


def functions() -> list[Case]:
    """Vectors for the function of two stages."""

    def at(seed: int, *shape: int, **changed: Argument) -> dict[str, Argument]:
        levels = Array((shape[0],), LEVELS.values[: shape[0]])
        return {"f": F, "f0": F0, "x": draw(seed, *shape), "sigma": levels, **changed}

    tight: dict[str, float] = {"rtol": 1e-12, "atol": 1e-14}
    return [
        valid("both sides of the cut, and the cut itself", **tight, **at(601, 5, 3)),
        valid("no event axes", **tight, **at(602, 4)),
        valid("images", **tight, **at(603, 3, 3, 2, 2)),
        valid("another cut", **tight, **at(604, 5, 2, sigma_cut=1.25)),
        elsewhere(valid("a cut below all levels: f alone", **tight, **at(605, 5, 2, sigma_cut=0.002))),
        elsewhere(valid("a cut above all levels: f0 alone", **tight, **at(606, 5, 2, sigma_cut=100.0))),
        invalid("sigma_cut = 0", **at(607, 2, 2, sigma_cut=0.0)),
        invalid("sigma_cut < 0", **at(607, 2, 2, sigma_cut=-1.0)),
        invalid("sigma_cut is NaN", **at(607, 2, 2, sigma_cut=NAN)),
        invalid("sigma = 0", **at(607, 1, 2, sigma=array([0.0]))),
        invalid("sigma is NaN", **at(607, 1, 2, sigma=array([NAN]))),
        invalid("one level for two examples", **at(607, 2, 2, sigma=array([1.0]))),
    ]


U = array([0.05, 0.25, 0.5, 0.75, 0.95])
Y = array([0.0, 0.1, 0.5, 1.0, 4.0])
WIDE: dict[str, Argument] = {"loc": -1.1, "scale": 2.0, "dof": 2.0, "sigma_min": 0.002}


def laws(symbol: str, values: Array) -> list[Case]:
    """Vectors for the level and for its density."""
    given: dict[str, Argument] = {symbol: values}
    return [
        valid("TCM's numbers", rtol=1e-12, **given),
        valid("nu = 2", rtol=1e-11, dof=2.0, **given),
        elsewhere(valid("a wide law", rtol=1e-10, **given, **WIDE)),
        elsewhere(valid("nu = 30, near a normal law", rtol=1e-10, **given, **{**WIDE, "dof": 30.0})),
        elsewhere(valid("a range in the upper tail", rtol=1e-10, **given, loc=-3.0, dof=4.0)),
        invalid("dof = 0", dof=0.0, **given),
        invalid("scale < 0", scale=-0.2, **given),
        invalid("loc is NaN", loc=NAN, **given),
        invalid("sigma_min > sigma_max", sigma_min=80.0, sigma_max=1.0, **given),
        invalid("sigma_max is infinite", sigma_max=INF, **given),
        invalid("sigma_min = 0", sigma_min=0.0, **given),
    ]


LEVEL: list[Case] = [
    *laws("u", U),
    valid("small and large u", u=array([1e-9, 1e-4, 0.9999]), rtol=1e-11),
    invalid("u = 0: the end of the range", u=array([0.5, 0.0])),
    invalid("u = 1 is out of range", u=array([1.0])),
    invalid("u is NaN", u=array([NAN])),
]
DENSITY: list[Case] = [
    *laws("log_sigma", Y),
    elsewhere(valid("out of range: 0", log_sigma=array([-0.01, 4.39]))),
    valid("no axes", log_sigma=array(0.25), rtol=1e-12),
    invalid("log_sigma is NaN", log_sigma=array([NAN])),
    invalid("log_sigma is infinite", log_sigma=array([INF])),
]
WEIGHTS: list[Case] = [
    valid("a quarter of eight", boundary=flags([True, True, *[False] * 6])),
    valid("one of four, not the first", boundary=flags([False, True, False, False])),
    valid("one of three", boundary=flags([True, False, False])),
    valid("one of two", boundary=flags([False, True])),
    elsewhere(valid("w_b = 1", boundary=flags([True, False, False]), boundary_weight=1.0)),
    elsewhere(valid("w_b = 0", boundary=flags([True, False, False]), boundary_weight=0.0)),
    invalid("no example at the cut: too few", boundary=flags([False, False])),
    invalid("no example inside: too few", boundary=flags([True, True])),
    invalid("boundary_weight < 0", boundary=flags([True, False]), boundary_weight=-0.1),
    invalid("boundary_weight is NaN", boundary=flags([True, False]), boundary_weight=NAN),
]

CASES: dict[str, list[Case]] = {
    "truncated": functions(),
    "log_student_t_level": LEVEL,
    "log_student_t_density": DENSITY,
    "truncated_weights": WEIGHTS,
}
