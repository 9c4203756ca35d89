"""c_skip and c_out of a step, decoded from the gradient of each example.

The gradient of the loss with respect to an output of the network has the direction of f(student) - f(teacher), a
combination of the two noisy points and of the two outputs. Its coefficients are c_skip and c_out of both levels, at
high noise as well as at low noise.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from ict_ref.verify.audit.step.decode import DecodedStep, Forms
from ict_ref.verify.audit.step.network_spy import Answer, column, wild
from ict_ref.verify.audit.step.observe import Side
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.step.verdicts import result
from ict_ref.verify.checks.result import Result

DIRECTION = 1e-3
"""Relative error of the gradient's direction up to which coefficients are right."""
ROUNDING = 3e-7
"""Rounding of f in float32, relative to its larger term."""
Coefficients: TypeAlias = Callable[[Tensor, Settings], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Form:
    """A form of f(x, sigma) = c_skip(sigma) x + c_out(sigma) F."""

    text: str
    of: Coefficients
    deviation: str | None = None
    scaled: bool = False
    """Whether c_skip multiplies the network's input, not x."""
    clamped: bool = False


def _coefficients(
    sigma: Tensor, settings: Settings, *, skip_from: float | None = None, out_from: float | None = None,
    skip_data: float | None = None, out_data: float | None = None, factor: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return c_skip and c_out with other constants than sigma_min and sigma_data in one of them."""
    low, data = settings.sigma_min, settings.sigma_data
    skip_low, out_low = (low if one is None else one for one in (skip_from, out_from))
    skip_data, out_data = (data if one is None else one for one in (skip_data, out_data))
    c_skip = skip_data**2 / ((sigma - skip_low) ** 2 + skip_data**2)
    return c_skip, factor * out_data * (sigma - out_low) / (sigma**2 + out_data**2).sqrt()


def _diffusers(sigma: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    c_skip, c_out = _coefficients(sigma, settings, skip_from=0.0, out_from=0.0)
    return c_skip, c_out / settings.sigma_data


def _without_skip(sigma: Tensor, _: Settings) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(sigma), torch.ones_like(sigma)


def _swapped(sigma: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    c_skip, c_out = _coefficients(sigma, settings)
    return c_out, c_skip


RIGHT = Form("c_skip x + c_out F", _coefficients)


def _forms(settings: Settings) -> Iterator[Form]:
    """Yield the right form, and then those of known deviations."""
    yield RIGHT
    change = partial(partial, _coefficients)
    yield Form("c_skip and c_out have no sigma_min", change(skip_from=0.0, out_from=0.0), "EdmCoefficients")
    yield Form("c_skip has no sigma_min", change(skip_from=0.0), "EdmSkip")
    yield Form("c_out has no sigma_min", change(out_from=0.0), "SigmaInCOut")
    yield Form("neither has sigma_min, and c_out has no factor sigma_data", _diffusers, "DiffusersScalings")
    yield Form("c_out is half of the right one", change(factor=0.5))
    yield Form("c_out has no factor sigma_data", change(factor=1 / settings.sigma_data))
    yield Form("c_out has the other sign", change(factor=-1.0))
    yield Form("c_skip has sigma_data = 1", change(skip_data=1.0))
    yield Form("c_out has sigma_data = 1", change(out_data=1.0))
    yield Form("c_skip and c_out have sigma_data = 1", change(skip_data=1.0, out_data=1.0))
    for low in (0.001, 0.003, 0.02):
        yield Form(f"c_skip and c_out have sigma_min = {low}", change(skip_from=low, out_from=low))
    yield Form("f is the network's output", _without_skip)
    yield Form("c_skip and c_out are swapped", _swapped)


def forms(settings: Settings) -> list[Form]:
    """Return all forms that are recognised, the right one first."""
    plain = [*_forms(settings)]
    scaled = [Form("c_skip multiplies the network's input, not x", RIGHT.of, scaled=True)]
    clamped = [
        Form(_and(form, "f is cut to [-1, 1]"), form.of, _and_deviation(form), clamped=True) for form in plain[:8]
    ]
    return plain + scaled + clamped


def _and(form: Form, text: str) -> str:
    return text if form is RIGHT else f"{form.text}, and {text}"


def _and_deviation(form: Form) -> str:
    return " and ".join(filter(None, (form.deviation, "ClampedOutput")))


@dataclass(frozen=True)
class Difference:
    """f(student) - f(teacher) of examples under a form, and the gradient with respect to the student's output."""

    delta: Tensor
    moves: Tensor
    """The part of it that changes with the student's output: 0 where f is cut."""
    gradient: Tensor
    out: Tensor
    """c_out of the student."""
    high: Tensor
    low: Tensor
    index: Tensor
    """A number for each interval of each grid; 0 without a grid."""
    above: Tensor
    """1 / width of the interval above; 1 without a grid."""
    below: Tensor
    rounding: Tensor
    """Rounding error of delta, relative to its length."""


DIFFERENCES = tuple(field.name for field in fields(Difference))


def difference(form: Form, step: DecodedStep, settings: Settings, lower_is_student: bool = False) -> Difference:
    """Return the difference of student and teacher of a step under a form."""
    sides = ((step.seen.upper, step.x_high, step.high), (step.seen.lower, step.x_low, step.low))
    student, teacher = reversed(sides) if lower_is_student else sides
    raw, out, size = _f(form, *student, settings)
    other, _, other_size = _f(form, *teacher, settings)
    inside = (raw.abs() <= 1) if form.clamped else torch.ones_like(raw, dtype=torch.bool)
    raw, other = (raw.clamp(-1, 1), other.clamp(-1, 1)) if form.clamped else (raw, other)
    delta = (raw - other).flatten(1)
    return Difference(
        delta,
        delta * inside.flatten(1),
        student[0].gradient.flatten(1),
        out,
        step.high,
        step.low,
        *_intervals(step),
        ROUNDING * torch.maximum(size, other_size) / delta.norm(dim=1).clamp_min(1e-30),
    )


def _intervals(step: DecodedStep) -> tuple[Tensor, Tensor, Tensor]:
    """Return a number for each interval, and 1 / width of those above and below, or of the last and the first."""
    if step.n is None or step.lower is None or step.grid is None:
        return torch.zeros(len(step.high), dtype=torch.int64), torch.ones_like(step.high), torch.ones_like(step.high)
    inverse = 1 / step.grid.diff()
    above, below = ((step.lower + by).clamp(0, step.n - 2) for by in (1, -1))
    return 10_000 * step.n + step.lower, inverse[above], inverse[below]


def _f(form: Form, side: Side, x: Tensor, sigma: Tensor, settings: Settings) -> tuple[Tensor, Tensor, Tensor]:
    """Return f before it is cut, c_out, and the length of the larger term of f."""
    c_skip, c_out = form.of(sigma, settings)
    terms = column(c_skip, x) * (side.x if form.scaled else x), column(c_out, x) * side.output
    return terms[0] + terms[1], c_out, torch.stack([term.flatten(1).norm(dim=1) for term in terms]).amax(0)


def joined(parts: Sequence[Difference]) -> Difference:
    """Return the examples of several steps, of which the gradient reaches some value."""
    whole = Difference(*(torch.cat([getattr(part, name) for part in parts]) for name in DIFFERENCES))
    return _chosen(whole, (whole.gradient != 0).any(1) & (whole.moves != 0).any(1) & (whole.out.abs() > 1e-7))


def exact(found: Difference) -> Difference:
    """Return the examples whose difference is hardly rounded."""
    return _chosen(found, found.rounding < 2.5 * DIRECTION)


def projected(found: Difference, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each example the factor of the gradient along a direction, and its relative distance from it."""
    factor = (found.gradient * direction).sum(1) / direction.square().sum(1).clamp_min(1e-300)
    rest = (found.gradient - factor[:, None] * direction).norm(dim=1)
    return factor, rest / found.gradient.norm(dim=1).clamp_min(1e-300)


@dataclass(frozen=True)
class Parameterization:
    """The form of f of a step, and whether its distance is taken per value."""

    form: Form
    elementwise: bool
    c: float = 0.0
    """c of a distance per value."""


def find_parameterization(
    steps: Sequence[DecodedStep], settings: Settings, lower_is_student: bool
) -> Parameterization | None:
    """Return the form that explains the direction of all gradients; None if not even one does."""
    known = forms(settings)
    found = [joined([difference(form, step, settings, lower_is_student) for step in steps]) for form in known]
    found[0] = _above(found[0], settings.sigma_min)
    for form, one in zip(known, found, strict=True):
        if len(one.delta) and bool((projected(one, one.moves)[1] <= DIRECTION + one.rounding).all()):
            return Parameterization(form, False)
    for form, one in zip(known, found, strict=True):
        c = fitted_c(one, settings)
        error = projected(one, per_value(one, c))[1]
        is_bent = bool((error < projected(one, one.moves)[1]).double().mean() > 0.9)
        if len(one.delta) and is_bent and bool((error <= 30 * DIRECTION + one.rounding).all()):
            return Parameterization(form, True, c)
    return None


def _above(found: Difference, sigma_min: float) -> Difference:
    """Return the examples without those at sigma_min, whose f `check_boundary` checks."""
    return _chosen(found, found.low > sigma_min * (1 + 1e-4))


def _chosen(found: Difference, rows: Tensor) -> Difference:
    return Difference(*(getattr(found, name)[rows] for name in DIFFERENCES))


def per_value(found: Difference, c: float) -> Tensor:
    """Return the gradient of the sum of sqrt(delta^2 + c^2) - c over the values."""
    return found.moves / (found.delta.square() + c**2).sqrt().clamp_min(1e-300)


def fitted_c(found: Difference, settings: Settings) -> float:
    """Return the c of a distance per value that explains the gradient's direction best."""
    best, width = settings.constant, 1e4 ** (1 / 8)
    tries = [settings.constant * width**k for k in range(-8, 9)]
    while width > 1.0005:
        best = min(tries, key=lambda c: float(projected(found, per_value(found, c))[1].mean()))
        width = width**0.5
        tries = [best / width, best, best * width]
    return best if best > 2e-3 * settings.constant else 0.0


def check_parameterization(
    found: Parameterization | None, steps: Sequence[DecodedStep], settings: Settings, lower_is_student: bool
) -> Result:
    """Compare c_skip and c_out with Eq. (2)."""
    if found is None:
        return result("coefficients", _unknown(steps, settings, lower_is_student))
    form = found.form
    return result("coefficients", None if form is RIGHT else form.text, form.deviation)


def _unknown(steps: Sequence[DecodedStep], settings: Settings, lower_is_student: bool) -> str:
    """Return the level at which c_skip / c_out of the student is farthest from the right ratio."""
    worst, text = 0.01, "the gradient of an example does not have the direction of f(student) - f(teacher)"
    for step in steps:
        coefficients, error = _solved(step, lower_is_student)
        sigma = step.low if lower_is_student else step.high
        right_skip, right_out = RIGHT.of(sigma, settings)
        ratio, should = coefficients[:, 1] / coefficients[:, 0], right_out / right_skip
        off = (ratio / should - 1).abs().nan_to_num(0.0, posinf=0.0) * (error < 0.01)
        row = int(off.argmax())
        if float(off[row]) > worst:
            worst = float(off[row])
            text = (
                f"at sigma = {float(sigma[row]):.4g}: c_out / c_skip is {float(ratio[row]):.4g}, "
                f"should be {float(should[row]):.4g}"
            )
    return text


def _solved(step: DecodedStep, lower_is_student: bool) -> tuple[Tensor, Tensor]:
    """Return the coefficients of the student's point and output and of the teacher's in each gradient, and errors."""
    parts = [step.x_high, step.seen.upper.output, step.x_low, step.seen.lower.output]
    parts = parts[2:] + parts[:2] if lower_is_student else parts
    gradient = (step.seen.lower if lower_is_student else step.seen.upper).gradient.flatten(1)
    columns = torch.stack([part.flatten(1) for part in parts], 2)
    solution = torch.linalg.lstsq(columns, gradient[..., None]).solution
    error = (columns @ solution)[..., 0] - gradient
    return solution[..., 0], error.norm(dim=1) / gradient.norm(dim=1).clamp_min(1e-300)


def quiet(form: Form, known: Forms) -> Answer:
    """Return an answer for which f is a vector of length from 0.01 c to 100 c, differently long for each example."""
    settings = known.settings

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        _, c_skip, c_out, factor = _at(form, known, noise)
        place = torch.arange(settings.dim, device=x.device, dtype=x.dtype)
        direction = 0.2 + 1.8 * (0.618034 * place).frac()
        direction = (direction / direction.norm()).reshape(settings.shape)
        chance = (1e3 * x.flatten(1).sum(1)).abs().frac()
        wanted = column(settings.constant * 10 ** (4 * chance - 2), x) * direction
        noisy = x if form.scaled else x / column(factor, x)
        missing = wanted - column(c_skip, x) * noisy
        return torch.where(column(c_out.abs(), x) > 1e-9, missing / column(c_out, x), 0)

    return answer


def loud(known: Forms) -> Answer:
    """Return an answer that is 10 000 at sigma_min, where c_out = 0 hides it from the loss, and wild elsewhere."""
    least, other = known.settings.sigma_min, wild(1.0)

    def answer(x: Tensor, noise: Tensor) -> Tensor:
        sigma = _at(RIGHT, known, noise)[0]
        return other(x, noise) + 1e4 * column(((sigma - least).abs() < 1e-4 * least).to(x), x)

    return answer


def _at(form: Form, known: Forms, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return sigma, c_skip, c_out and the factor of the input for given c_noise."""
    if known.noise is None or known.input is None:
        raise ValueError("known: expected forms that decode, got unknown ones. Check `decodes` first.")
    sigma = known.noise.inverse(noise)
    return sigma, *form.of(sigma, known.settings), known.input.factor(sigma, known.settings)


def check_boundary(step: DecodedStep, found: Parameterization, settings: Settings, lower_is_student: bool) -> Result:
    """Check that a large output at sigma_min does not change f; `step` has the answer `loud`."""
    examples = joined([difference(found.form, step, settings, lower_is_student)])
    at_end = examples.low <= settings.sigma_min * (1 + 1e-4)
    _, error = projected(examples, per_value(examples, found.c) if found.elementwise else examples.moves)
    wrong = bool((error[at_end] > 30 * DIRECTION + examples.rounding[at_end]).any())
    return result("boundary", "f(x, sigma_min) depends on the network's output, should be x" if wrong else None)
