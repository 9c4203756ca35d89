"""Distance, constant and weight of a step's loss, fitted to the gradients of many examples."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ict_ref.verify.audit.step.coefficients import Difference, Parameterization, per_value, projected
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.step.verdicts import note, result
from ict_ref.verify.checks.result import Result

SPREAD = 0.01
"""Relative spread of the weights, under a form, up to which it is that of the step."""
GAP = "1 / (sigma_{i+1} - sigma_i)"
ONE = "1"
Weight = Callable[[Tensor, Tensor], Tensor]


def weights(settings: Settings) -> dict[str, Weight]:
    """Return forms of the weight of an interval by its upper and lower level, the right ones first."""
    data = settings.sigma_data
    return {
        GAP: lambda high, low: 1 / (high - low),
        ONE: lambda high, low: torch.ones_like(high),
        "sigma_{i+1} - sigma_i": lambda high, low: high - low,
        "1 / (sigma_{i+1} - sigma_i)^2": lambda high, low: (high - low) ** -2,
        "1 / sqrt(sigma_{i+1} - sigma_i)": lambda high, low: (high - low) ** -0.5,
        "1 / sigma_{i+1}": lambda high, low: 1 / high,
        "1 / sigma_i": lambda high, low: 1 / low,
        "1 / sigma_{i+1}^2": lambda high, low: high**-2,
        "1 / sigma_i^2": lambda high, low: low**-2,
        "1 / sigma_{i+1}^2 + 1 / sigma_data^2": lambda high, low: high**-2 + data**-2,
        "1 / sigma_i^2 + 1 / sigma_data^2": lambda high, low: low**-2 + data**-2,
        "1 / sigma_{i+1}^2 + 1": lambda high, low: high**-2 + 1,
        "1 / sigma_i^2 + 1": lambda high, low: low**-2 + 1,
        "1 / (log sigma_{i+1} - log sigma_i)": lambda high, low: 1 / (high / low).log(),
    }


def next_gap(settings: Settings, n: int, by: int) -> Weight:
    """Return 1 / width of the interval `by` places above, or at the end of the grid of the last one."""
    grid = settings.grid(n)
    inverse = 1 / grid.diff()

    def weight(high: Tensor, low: Tensor) -> Tensor:
        index = torch.searchsorted((grid[1:] + grid[:-1]) / 2, low.contiguous()) + by
        return inverse[index.clamp(0, n - 2)]

    return weight


@dataclass(frozen=True)
class Objective:
    """The loss of a step: weight times distance, and a factor."""

    parameterization: Parameterization
    power: float
    """The gradient of the distance is delta (||delta||^2 + c^2)^-power: 1/2 for pseudo-Huber, 0 for squared l2."""
    c: float
    weight: str | None
    """Name of the weight; None if it is unknown."""
    factor: float
    """Factor of weight times distance; that of a distance per value is its mean's."""

    @property
    def distance(self) -> str:
        """Return the name of the distance."""
        if self.parameterization.elementwise:
            return "l1" if self.c == 0 else "elementwise"
        if self.power == 0:
            return "squared l2"
        if self.power == 1:
            return "Cauchy"
        return "l2" if self.c == 0 else "pseudo-Huber"


def strengths(found: Difference, parameterization: Parameterization) -> Tensor:
    """Return for each example the gradient of its loss along f(student) - f(teacher), without c_out and 1 / batch."""
    direction = per_value(found, parameterization.c) if parameterization.elementwise else found.moves
    factor, _ = projected(found, direction)
    return factor / found.out


def shape(found: Difference, power: float, c: Tensor) -> Tensor:
    """Return (||delta||^2 + c^2)^-power: a row for each c, a column for each example."""
    return (found.delta.square().sum(1) + c[:, None] ** 2).clamp_min(1e-300) ** -power


def find_objective(
    found: Difference, parameterization: Parameterization, settings: Settings, batch: int, n: int | None
) -> Objective | None:
    """Return the objective that explains the lengths of all gradients; None if there is none.

    `found` are examples of one number of levels `n` whose distances are far below c and far above it.
    """
    strength = batch * strengths(found, parameterization)
    known = weights(settings)
    if n is not None:
        known |= {f"1 / (sigma_{{i+{2 + k}}} - sigma_{{i+{1 + k}}})": next_gap(settings, n, 1 + k) for k in (0, -2)}
    if parameterization.elementwise:
        strength = strength * settings.dim
        return _of_weights(strength, found, known, parameterization, 0.0, parameterization.c)
    fits = [_fitted(strength, found, known, power, settings) for power in (0.5, 0.0, 1.0)]
    for power, (spread, c, _) in zip((0.5, 0.0, 1.0), fits, strict=True):
        if spread < SPREAD:
            return _of_weights(strength, found, known, parameterization, power, c)
    return _by_interval(strength, found, parameterization, settings) if n is not None else None


def _spread(values: Tensor) -> Tensor:
    """Return the relative spread of each row of positive values; infinite if some have another sign."""
    logs = values.abs().clamp_min(1e-300).log()
    centre = logs.median(-1, keepdim=True).values
    spread = (logs - centre).abs().kthvalue(max(1, int(0.98 * values.shape[-1])), -1).values
    mixed = (values.sign().amin(-1) != values.sign().amax(-1))
    return torch.where(mixed, torch.inf, spread)


def _fitted(
    strength: Tensor, found: Difference, known: Mapping[str, Weight], power: float, settings: Settings
) -> tuple[float, float, str]:
    """Return the least spread over all weights and constants c, with its c and weight."""
    table = torch.stack([weight(found.high, found.low) for weight in known.values()])
    centres, width = settings.constant * 10 ** torch.linspace(-4, 6, 41, dtype=torch.float64), 10**0.25
    best = (math.inf, 0.0, GAP)
    if power == 0:
        centres = torch.zeros(1, dtype=torch.float64)
    while width > 1.0005:
        spreads = _spread(strength / (shape(found, power, centres)[:, None] * table))
        place = int(spreads.argmin())
        row, name = divmod(place, len(table))
        best = min(best, (float(spreads.flatten()[place]), float(centres[row]), [*known][name]))
        width = width**0.5
        centres = best[1] * torch.tensor([1 / width, 1.0, width], dtype=torch.float64)
    spread, c, name = best
    return spread, 0.0 if c < 2e-3 * settings.constant else c, name


def _of_weights(
    strength: Tensor, found: Difference, known: Mapping[str, Weight], parameterization: Parameterization, power: float,
    c: float,
) -> Objective:  # fmt: skip
    """Return the objective with the weight that explains the strengths."""
    base = strength / shape(found, power, torch.tensor([c], dtype=torch.float64))[0]
    spreads = {name: float(_spread(base / weight(found.high, found.low))) for name, weight in known.items()}
    name = next((name for name, spread in spreads.items() if spread < SPREAD), None)
    weight = known[name or GAP]
    return Objective(parameterization, power, c, name, float((base / weight(found.high, found.low)).median()))


def _by_interval(
    strength: Tensor, found: Difference, parameterization: Parameterization, settings: Settings
) -> Objective | None:
    """Return the objective with an unknown weight: in each interval the lengths depend on the distance alone."""
    for power in (0.5, 0.0, 1.0):
        centres = settings.constant * 10 ** torch.linspace(-4, 6, 401, dtype=torch.float64)
        base = strength / shape(found, power, centres)
        rows = [_spread(base[:, found.index == one]) for one in found.index.unique()]
        worst = torch.stack(rows).amax(0)
        best = int(worst.argmin())
        if float(worst[best]) < 3 * SPREAD:
            c = float(centres[best])
            median = float((base[best] * (found.high - found.low)).median())
            return Objective(parameterization, power, c, None, median)
    return None


def value(objective: Objective, found: Difference, settings: Settings, n: int | None) -> Tensor:
    """Return the loss of each example under an objective."""
    squares = found.delta.square()
    c = objective.c
    if objective.parameterization.elementwise:
        distance = (squares / ((squares + c**2).sqrt() + c).clamp_min(1e-300)).mean(1)
    elif objective.power == 0:
        distance = squares.sum(1) / 2
    elif objective.power == 1:
        distance = torch.log1p(squares.sum(1) / c**2) / 2
    else:
        distance = squares.sum(1) / ((squares.sum(1) + c**2).sqrt() + c).clamp_min(1e-300)
    return objective.factor * weight_of(objective, settings, n)(found.high, found.low) * distance


def weight_of(objective: Objective, settings: Settings, n: int | None) -> Weight:
    """Return the weight of an objective on the grid of n levels."""
    known = weights(settings)
    name = objective.weight or GAP
    if name in known or n is None:
        return known.get(name, known[GAP])
    return next_gap(settings, n, 1 if "i+2" in name else -1)


def check_objective(objective: Objective, settings: Settings) -> Iterator[Result]:
    """Compare distance, constant, weight and factor with those of the method."""
    yield _check_distance(objective, settings)
    if objective.distance in ("pseudo-Huber", "elementwise", "Cauchy"):
        yield _check_constant(objective, settings)


def _check_distance(objective: Objective, settings: Settings) -> Result:
    name, dim = objective.distance, settings.dim
    is_mean = math.isclose(objective.factor, 2 / dim, rel_tol=SPREAD)
    is_sum = math.isclose(objective.factor, dim, rel_tol=SPREAD)
    texts = {
        "pseudo-Huber": ("pseudo-Huber", None),
        "squared l2": ("the mean of the squares", "MeanReduction") if is_mean else ("squared l2", None),
        "l2": ("the norm: c is 0", None),
        "Cauchy": ("log(1 + ||x - y||^2 / c^2)", None),
        "elementwise": ("pseudo-Huber of each value, summed", "ElementwiseSum")
        if is_sum
        else ("pseudo-Huber of each value, averaged", "Elementwise"),
        "l1": ("l1", None) if is_sum else ("the mean of the absolute values", "L1MeanReduction"),
    }
    text, deviation = texts[name]
    if settings.method == "ict":
        wrong = None if name == "pseudo-Huber" else f"the distance is {text}; should be pseudo-Huber of the whole example"
        return result("distance", wrong, deviation)
    constant = f", c = {objective.c:.4g}" if objective.c else ""
    return note("distance", f"the distance is {text}{constant}")


def _check_constant(objective: Objective, settings: Settings) -> Result:
    should = settings.constant
    wrong = abs(objective.c / should - 1) > 2 * SPREAD
    deviation = "HardCodedC" if abs(objective.c / 0.06 - 1) < SPREAD else None
    text = f"c = {objective.c:.4g}, should be {should:.4g} = 0.00054 sqrt({settings.dim}) for this shape"
    if settings.method != "ict":
        return note("huber_constant", text.replace("should be", "iCT's is")) if wrong else result("huber_constant")
    return result("huber_constant", text if wrong else None, deviation)


def natural_factor(objective: Objective, settings: Settings) -> float:
    """Return the factor of an objective whose distance is reduced as its name says."""
    if objective.distance == "squared l2":
        return 2 / settings.dim if math.isclose(objective.factor, 2 / settings.dim, rel_tol=SPREAD) else 2.0
    if objective.distance in ("elementwise", "l1"):
        is_sum = math.isclose(objective.factor, settings.dim, rel_tol=SPREAD)
        return float(settings.dim) if is_sum else 1.0
    return 1.0


def check_weight(objective: Objective, found: Difference, strength: Tensor, settings: Settings) -> Result:
    """Compare the weight with that of the method."""
    right = ONE if settings.method == "ct" else GAP
    if objective.weight == right:
        return result("weight")
    if objective.weight is not None:
        text = f"the weight is {objective.weight}"
        if settings.method == "gridless":
            return note("weight", text)
        return result("weight", f"{text}, should be {right}")
    base = strength / shape(found, objective.power, torch.tensor([objective.c], dtype=torch.float64))[0]
    return result("weight", _worst_weight(base, found, weights(settings)[right]), kind="wrong")


def _worst_weight(base: Tensor, found: Difference, right: Weight) -> str:
    """Return the text about the weight that is farthest from the right one, up to a factor."""
    ratio = base / right(found.high, found.low)
    centre = ratio.median()
    worst = int((ratio / centre).abs().log().abs().argmax())
    return (
        f"at sigma_i = {float(found.low[worst]):.4g} the weight is {float(base[worst]):.4g}, should be "
        f"{float(right(found.high, found.low)[worst]):.4g}"
    )


def name_of_factor(factor: float, settings: Settings) -> str:
    """Return the meaning of a factor of the loss, if it is a known one."""
    dim, c = settings.dim, settings.constant
    known = {
        "summed over the batch, not averaged": settings.batch,
        "divided by sqrt(d)": dim**-0.5,
        "divided by d": 1 / dim,
        "multiplied by d": dim,
        "multiplied by sqrt(d)": dim**0.5,
        "divided by c": 1 / c,
        "multiplied by c": c,
        "averaged over the batch twice": 1 / settings.batch,
    }
    return next((f": {name}" for name, value in known.items() if math.isclose(factor, value, rel_tol=SPREAD)), "")
