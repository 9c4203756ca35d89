"""The loss of a step: parameterization, distance, weight, reduction and value, for all numbers of levels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from ict_ref.verify.audit.step import coefficients, objective
from ict_ref.verify.audit.step.coefficients import RIGHT, Difference, Parameterization, difference, joined
from ict_ref.verify.audit.step.decode import DecodedStep, Forms
from ict_ref.verify.audit.step.network_spy import Answer, wild
from ict_ref.verify.audit.step.objective import Objective
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.step.verdicts import result, skipped
from ict_ref.verify.checks.result import Result

VALUE = 2e-3
"""Relative error up to which the loss is right; that of float32 is 1e-5, that of bfloat16 up to 4e-3."""
RUNS = 4
"""Number of steps for each of the answers from which the loss is decoded."""
Run: TypeAlias = Callable[[int, Answer], DecodedStep]


def check_loss(
    run: Run, steps: Sequence[DecodedStep], forms: Forms, settings: Settings, lower_is_student: bool
) -> Iterator[Result]:
    """Check the loss by its gradients; `run` observes a step of the first stage with an answer."""
    loud = [run(number, wild(size)) for number in range(RUNS) for size in (20.0, 1.0)]
    found = coefficients.find_parameterization(loud, settings, lower_is_student)
    yield coefficients.check_parameterization(found, loud, settings, lower_is_student)
    if found is None:
        yield skipped("distance", "it needs f; correct c_skip and c_out first")
        return
    if found.form is RIGHT and settings.sigma_min > 0:
        yield _boundary(run, found, forms, settings, lower_is_student)
    quiet = [run(100 + number, coefficients.quiet(found.form, forms)) for number in range(RUNS)]
    sample = _Sample(found, settings, lower_is_student)
    yield from sample.results(loud + quiet, steps)


def _boundary(run: Run, found: Parameterization, forms: Forms, settings: Settings, lower_is_student: bool) -> Result:
    checked = [
        coefficients.check_boundary(run(200 + number, coefficients.loud(forms)), found, settings, lower_is_student)
        for number in range(2)
    ]
    return next((one for one in checked if one.status == "fail"), checked[0])


@dataclass(frozen=True)
class _Sample:
    """The objective that explains some examples, and the checks of all others with it."""

    parameterization: Parameterization
    settings: Settings
    lower_is_student: bool

    def difference(self, step: DecodedStep) -> Difference:
        return difference(self.parameterization.form, step, self.settings, self.lower_is_student)

    def results(self, first: Sequence[DecodedStep], steps: Sequence[DecodedStep]) -> Iterator[Result]:
        """Yield the findings about distance, constant, weight, loss and gradient."""
        examples = coefficients.exact(joined([self.difference(step) for step in first]))
        parameterization = self.parameterization
        if parameterization.elementwise:
            parameterization = replace(parameterization, c=coefficients.fitted_c(examples, self.settings))
        found = objective.find_objective(examples, parameterization, self.settings)
        if found is None:
            yield result("distance", "the gradient does not have the length of a pseudo-Huber or squared distance")
            return
        yield from objective.check_objective(found, self.settings)
        weight = objective.check_weight(found, examples, self.settings)
        later = self._later(found, steps) if found.weight else None
        yield result("weight", later) if later and weight.status == "pass" else weight
        if found.weight:
            yield from self._values(found, first if later else [*first, *steps])

    def _later(self, found: Objective, steps: Sequence[DecodedStep]) -> str | None:
        """Return the text about the weights that differ at other numbers of levels."""
        for step in steps:
            text = objective.worst_later(found, joined([self.difference(step)]), self.settings)
            if text:
                return f"at N = {step.n}, {text}" if step.n else text
        return None

    def _values(self, found: Objective, steps: Sequence[DecodedStep]) -> Iterator[Result]:
        """Yield the findings about the loss's value and the gradient's factor."""
        natural = objective.natural_factor(found, self.settings)
        unit = replace(found, factor=natural)
        ratios = torch.stack([self._ratio(unit, step) for step in steps])
        typical = float(ratios.median())
        if not _constant(ratios, typical):
            yield result("loss", self._text(ratios, typical, steps))
            return
        yield result("loss", _factor_text(typical, self.settings))
        gradient = found.factor / natural / typical
        wrong = None if abs(gradient - 1) < VALUE * 5 else f"the gradient is {gradient:.4g} times that of the loss"
        yield result("gradient", wrong)

    def _ratio(self, unit: Objective, step: DecodedStep) -> torch.Tensor:
        expected = objective.value(unit, self.difference(step), self.settings)
        loss = step.seen.loss
        return (loss / (expected if loss.ndim else expected.mean())).mean()

    def _text(self, ratios: torch.Tensor, typical: float, steps: Sequence[DecodedStep]) -> str:
        losses = torch.stack([step.seen.loss for step in steps])
        rounded = [dtype for dtype in (torch.bfloat16, torch.float16) if torch.equal(losses.to(dtype).double(), losses)]
        worst = int((ratios / typical - 1).abs().argmax())
        error = float(ratios[worst] / typical - 1)
        if rounded:
            return f"the loss is rounded to {str(rounded[0]).removeprefix('torch.')}: it is off by {abs(error):.1e}"
        return f"at step {steps[worst].seen.at} the loss is {float(ratios[worst]):.5g} times what its gradient says"


def _constant(ratios: torch.Tensor, typical: float) -> bool:
    return bool(((ratios / typical - 1).abs() < VALUE).all())


def _factor_text(factor: float, settings: Settings) -> str | None:
    if abs(factor - 1) < VALUE:
        return None
    return f"the loss is {factor:.4g} times that of Eq. (5){objective.name_of_factor(factor, settings)}"


def check_value(steps: Sequence[DecodedStep], settings: Settings) -> Iterator[Result]:
    """Compare the value of the loss with Eq. (5), where gradients cannot show more."""
    right = Objective(Parameterization(RIGHT, False), 0.5, settings.constant, objective.GAP, 1.0)
    if settings.method != "ict":
        return
    for step in steps:
        found = difference(RIGHT, step, settings)
        expected = objective.value(right, found, settings)
        loss = step.seen.loss
        got, should = float(loss.mean()), float(expected.mean())
        if abs(got / should - 1) > VALUE:
            yield result("loss", f"at step {step.seen.at}: got {got:.6g}, should be {should:.6g}")
            return
    yield result("loss")
