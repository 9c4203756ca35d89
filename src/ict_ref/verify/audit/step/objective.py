"""Distance, constant and weight of a step's loss, fitted to the gradients of many examples."""

import math
from collections.abc import Callable, Iterator, Mapping
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
POWERS = (0.0, 0.5, 1.0)
Weight = Callable[[Difference], Tensor]


def weights(settings: Settings) -> dict[str, Weight]:
    """Return forms of the weight of an interval by their names, the right ones first."""
    data = settings.sigma_data
    return {
        GAP: lambda at: 1 / (at.high - at.low),
        ONE: lambda at: torch.ones_like(at.high),
        "1 / (sigma_{i+2} - sigma_{i+1})": lambda at: at.above,
        "1 / (sigma_i - sigma_{i-1})": lambda at: at.below,
        "sigma_{i+1} - sigma_i": lambda at: at.high - at.low,
        "1 / (sigma_{i+1} - sigma_i)^2": lambda at: (at.high - at.low) ** -2,
        "1 / sqrt(sigma_{i+1} - sigma_i)": lambda at: (at.high - at.low) ** -0.5,
        "1 / sigma_{i+1}": lambda at: 1 / at.high,
        "1 / sigma_i": lambda at: 1 / at.low,
        "1 / sigma_{i+1}^2": lambda at: at.high**-2,
        "1 / sigma_i^2": lambda at: at.low**-2,
        "1 / sigma_{i+1}^2 + 1 / sigma_data^2": lambda at: at.high**-2 + data**-2,
        "1 / sigma_i^2 + 1 / sigma_data^2": lambda at: at.low**-2 + data**-2,
        "1 / sigma_{i+1}^2 + 1": lambda at: at.high**-2 + 1,
        "1 / sigma_i^2 + 1": lambda at: at.low**-2 + 1,
        "1 / (log sigma_{i+1} - log sigma_i)": lambda at: 1 / (at.high / at.low).log(),
    }


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


def strengths(found: Difference, parameterization: Parameterization, settings: Settings) -> Tensor:
    """Return for each example the length of its loss's gradient along that of the distance.

    The gradient is that with respect to f(student); the loss is the mean over the batch, and a distance per value the
    mean over the values.
    """
    direction = per_value(found, parameterization.c) / settings.dim if parameterization.elementwise else found.moves
    factor, _ = projected(found, direction)
    return settings.batch * factor / found.out


def shape(found: Difference, power: float, c: Tensor) -> Tensor:
    """Return (||delta||^2 + c^2)^-power: a row for each c, a column for each example."""
    return (found.delta.square().sum(1) + c[:, None] ** 2).clamp_min(1e-300) ** -power


def find_objective(found: Difference, parameterization: Parameterization, settings: Settings) -> Objective | None:
    """Return the objective that explains the lengths of all gradients; None if it is unknown.

    The distances of the examples are far below c and far above it.
    """
    strength = strengths(found, parameterization, settings)
    known = weights(settings)
    if parameterization.elementwise:
        return _of_weights(strength, found, known, parameterization, 0.0, parameterization.c)
    for power in POWERS:
        spread, c = _fitted(strength, found, known, power, settings)
        if spread < SPREAD:
            return _of_weights(strength, found, known, parameterization, power, c)
    return None if settings.method == "gridless" else _by_interval(strength, found, parameterization, settings)


def _spread(values: Tensor) -> Tensor:
    """Return the relative spread of each row of positive values; infinite if some have another sign."""
    logs = values.abs().clamp_min(1e-300).log()
    centre = logs.median(-1, keepdim=True).values
    spread = (logs - centre).abs().kthvalue(max(1, int(0.98 * values.shape[-1])), -1).values
    mixed = values.sign().amin(-1) != values.sign().amax(-1)
    return torch.where(mixed, torch.inf, spread).nan_to_num(torch.inf)


def _fitted(
    strength: Tensor, found: Difference, known: Mapping[str, Weight], power: float, settings: Settings
) -> tuple[float, float]:
    """Return the least spread over all weights and constants c, and its c."""
    table = torch.stack([weight(found) for weight in known.values()])
    centres, width = settings.constant * 10 ** torch.linspace(-4, 6, 41, dtype=torch.float64), 10**0.25
    best = (math.inf, 0.0)
    if power == 0:
        centres = torch.zeros(1, dtype=torch.float64)
    while width > 1.0005:
        spreads = _spread(strength / (shape(found, power, centres)[:, None] * table))
        place = int(spreads.argmin())
        best = min(best, (float(spreads.flatten()[place]), float(centres[place // len(table)])))
        width = width**0.5
        centres = best[1] * torch.tensor([1 / width, 1.0, width], dtype=torch.float64)
    spread, c = best
    return spread, 0.0 if c < 2e-3 * settings.constant else c


def _of_weights(
    strength: Tensor, found: Difference, known: Mapping[str, Weight], parameterization: Parameterization, power: float,
    c: float,
) -> Objective:  # fmt: skip
    """Return the objective with the weight that explains the strengths."""
    base = strength / shape(found, power, torch.tensor([c], dtype=torch.float64))[0]
    spreads = {name: float(_spread(base / weight(found))) for name, weight in known.items()}
    name = next((name for name, spread in spreads.items() if spread < SPREAD), None)
    weight = known[name or GAP]
    return Objective(parameterization, power, c, name, float((base / weight(found)).median()))


def _by_interval(
    strength: Tensor, found: Difference, parameterization: Parameterization, settings: Settings
) -> Objective | None:
    """Return the objective with an unknown weight: in each interval the lengths depend on the distance alone."""
    for power in POWERS:
        centres = settings.constant * 10 ** torch.linspace(-4, 6, 401, dtype=torch.float64)
        base = strength / shape(found, power, centres)
        rows = [_spread(base[:, found.index == one]) for one in sorted(set(found.index.tolist()))]
        worst = torch.stack(rows).amax(0)
        best = int(worst.argmin())
        if float(worst[best]) < 3 * SPREAD:
            c = float(centres[best])
            median = float((base[best] * (found.high - found.low)).median())
            return Objective(parameterization, power, c, None, median)
    return None


def value(objective: Objective, found: Difference, settings: Settings) -> Tensor:
    """Return the loss of each example under an objective."""
    squares = found.delta.square()
    c, sums = objective.c, squares.sum(1)
    if objective.parameterization.elementwise:
        distance = (squares / ((squares + c**2).sqrt() + c).clamp_min(1e-300)).mean(1)
    elif objective.power == 0:
        distance = sums / 2
    elif objective.power == 1:
        distance = torch.log1p(sums / c**2) / 2
    else:
        distance = sums / ((sums + c**2).sqrt() + c).clamp_min(1e-300)
    return objective.factor * weights(settings)[objective.weight or GAP](found) * distance


def lengths(objective: Objective, found: Difference) -> Tensor:
    """Return the gradient's length that the distance gives."""
    if objective.parameterization.elementwise:
        return torch.ones_like(found.high)
    return shape(found, objective.power, torch.tensor([objective.c], dtype=torch.float64))[0]


def check_objective(objective: Objective, settings: Settings) -> Iterator[Result]:
    """Compare distance, constant, weight and factor with those of the method."""
    yield _check_distance(objective, settings)
    if objective.distance in ("pseudo-Huber", "elementwise"):
        yield _check_constant(objective, settings)


def _check_distance(objective: Objective, settings: Settings) -> Result:
    name, dim = objective.distance, settings.dim
    is_mean = math.isclose(objective.factor, 2 / dim, rel_tol=SPREAD)
    is_sum = math.isclose(objective.factor, dim, rel_tol=SPREAD)
    texts = {
        "pseudo-Huber": ("pseudo-Huber", None),
        "squared l2": ("the mean of the squares", "MeanReduction") if is_mean else ("squared l2", None),
        "l2": ("the norm: c is 0", None),
        "Cauchy": (f"log(1 + ||x - y||^2 / (2 c^2)) with c = {objective.c / 2**0.5:.3g}", None),
        "elementwise": ("pseudo-Huber of each value, summed", "ElementwiseSum")
        if is_sum
        else ("pseudo-Huber of each value, averaged", "Elementwise"),
        "l1": ("l1", None) if is_sum else ("the mean of the absolute values", "L1MeanReduction"),
    }
    text, deviation = texts[name]
    if settings.method == "ict":
        wrong = (
            None if name == "pseudo-Huber" else f"the distance is {text}; should be pseudo-Huber of the whole example"
        )
        return result("distance", wrong, deviation)
    constant = f", c = {objective.c:.3g}" if objective.c else ""
    return note("distance", f"the distance is {text}{constant}")


def _check_constant(objective: Objective, settings: Settings) -> Result:
    should = settings.constant
    wrong = abs(objective.c / should - 1) > 2 * SPREAD
    deviation = "HardCodedC" if abs(objective.c / 0.06 - 1) < SPREAD else None
    text = f"c = {objective.c:.3g}, should be {should:.3g} = 0.00054 sqrt({settings.dim}) for this shape"
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
    return objective.factor if objective.distance == "Cauchy" else 1.0


def check_weight(objective: Objective, found: Difference, settings: Settings) -> Result:
    """Compare the weight with that of the method."""
    right = ONE if settings.method == "ct" else GAP
    if objective.weight == right:
        return result("weight")
    if objective.weight is None:
        return result("weight", _worst_weight(objective, found, settings, weights(settings)[right]))
    text = f"the weight is {objective.weight}"
    return note("weight", text) if settings.method == "gridless" else result("weight", f"{text}, should be {right}")


def _worst_weight(objective: Objective, found: Difference, settings: Settings, right: Weight) -> str:
    """Return the text about the weight that is farthest from the right one, up to a factor."""
    base = strengths(found, objective.parameterization, settings) / lengths(objective, found)
    ratio = base / right(found)
    worst = int((ratio / ratio.median()).abs().log().abs().argmax())
    return (
        f"at sigma_i = {float(found.low[worst]):.4g} the weight is {float(base[worst]):.4g}, should be "
        f"{float(right(found)[worst]):.4g}"
    )


def worst_later(objective: Objective, found: Difference, settings: Settings) -> str | None:
    """Return the text about the weight that differs most from that of an objective; None if none does."""
    base = strengths(found, objective.parameterization, settings) / lengths(objective, found)
    right = objective.factor * weights(settings)[objective.weight or GAP](found)
    error = (base / right - 1).abs() * (found.rounding < SPREAD / 4)
    if not len(error) or float(error.max()) <= 2 * SPREAD:
        return None
    worst = int(error.argmax())
    return (
        f"at sigma_i = {float(found.low[worst]):.4g} the weight is {float(base[worst]):.5g}, should be "
        f"{float(right[worst]):.5g}"
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
