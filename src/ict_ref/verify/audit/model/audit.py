"""An audit of a consistency model f(x, sigma) as it is: a function, a module, or what a builder returns.

f is computed at several noise levels. Hooks find the network F inside it, and replace its outputs by known numbers. So
f = c_skip x + c_out F(c_in x, c_noise) gives its four coefficients. They are compared with those of Eq. (2) in training
and in evaluation mode. Where there is no F, f alone is checked.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn

from ict_ref.verify.audit.model import coefficients
from ict_ref.verify.audit.model import conduct as model_conduct
from ict_ref.verify.audit.model.call import CallError, built
from ict_ref.verify.audit.model.coefficients import NAMES, Measured, Reading
from ict_ref.verify.audit.model.explain_coefficients import Explanation, explained
from ict_ref.verify.audit.model.free_form_network import without_zeros
from ict_ref.verify.audit.model.inner_network import name_of
from ict_ref.verify.audit.model.subject import Subject, subject_of
from ict_ref.verify.audit.options import ModelOptions
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result

EQ_2 = "iCT, Section 2, Eq. (2)"
SOURCES = {
    "c_skip": "iCT, Section 2, below Eq. (2)",
    "c_out": "iCT, Section 2, below Eq. (2)",
    "c_in": "CM, Appendix C",
    "c_noise": "CM, Appendix C; iCT, Section 2",
}
# A change of x's data part is divided by 160 in F's input at sigma_max, and by 25 600 in c_skip x.
FAR = 0.5
# From sigma_min to 1.01 sigma_min f moves 1 % as far as to 2 sigma_min; with a boundary at 0 it moves half as far.
NEAR = 0.1
Readings: TypeAlias = dict[str, Reading]
"""The coefficients in each mode, where they can be measured."""
Explanations: TypeAlias = dict[str, dict[str, Explanation]]
"""The explanations of the wrong coefficients in each mode."""


def audit(target: Callable[..., object], options: ModelOptions) -> list[Result]:
    """Return the findings about a model.

    Raises:
        TargetError: A builder fails, or f cannot be called.
    """
    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        f = built(target, options.checkpoint)
        if isinstance(f, nn.Module):
            f.to(options.device)
        with torch.no_grad():
            return list(_findings(subject_of(f, options), options.labels))


def _findings(subject: Subject, classes: int) -> Iterator[Result]:
    readings = {name: found for name, train in subject.modes.items() if (found := subject.reading(train))}
    explanations = {name: explained(found, subject.settings) for name, found in readings.items()}
    yield _called(subject)
    for coefficient in NAMES:
        yield from _coefficient(subject, coefficient, readings, explanations)
    for name in subject.modes:
        yield _boundary(subject, name, readings.get(name), explanations.get(name, {}))
    if readings:
        yield from _modes(readings)
        yield _clipping(readings)
        yield _rounding(readings)
    else:
        yield from _without_network(subject)
    yield from model_conduct.side_effects(subject)
    yield from model_conduct.labels(subject, classes)
    yield model_conduct.autocast(subject, readings.get("eval"))
    yield from model_conduct.dropout(subject)
    yield model_conduct.sensitivity(subject)


def _called(subject: Subject) -> Result:
    """Return the note about how f is called and what was taken as F."""
    call, inner = subject.call, subject.inner
    labels = f", labels as {call.labels}" if call.labels else ""
    if inner is None:
        found = "F was not found: f is checked alone"
    elif inner.is_whole:
        found = f"F is {name_of(inner.module, subject.modules)}"
    else:
        found = f"F is known by its output only, that of {name_of(inner.module, subject.modules)}"
    return observation("model:call", f"levels as {call.levels}{labels}; {found}")


def _boundary(subject: Subject, name: str, reading: Reading | None, explanations: dict[str, Explanation]) -> Result:
    """Check that f(x, sigma_min) is x, bit for bit, but for a clip of f, which is a result of its own."""
    level, steps = subject.at(subject.settings.sigma_min), torch.linspace(-1, 1, len(subject.x)).to(subject.x)
    x = subject.x[0] * steps.reshape(-1, *[1] * (subject.x.ndim - 1))
    with subject.in_mode(subject.modes[name]), without_zeros(subject.modules, subject.seed):
        try:
            got = _at(subject, x, level)
        except CallError as error:
            return verdict("model:boundary", EQ_2, f"at sigma_min f raised {error}", mode=name)
    expected = x if reading is None or reading.clipped is None else x.clamp(*reading.clipped)
    if bool((got == expected.to(got.dtype)).all()):
        return verdict("model:boundary", EQ_2, None, mode=name)
    worst = float((got.double() - expected.double()).abs().max())
    text = f"in {name}(): f(x, {subject.settings.sigma_min:g}) differs from x by up to {worst:.2g}"
    if worst <= 1e-6 * float(x.abs().max()):
        return verdict("model:boundary", EQ_2, text, kind="precision", mode=name)
    of_coefficients = [explanations[one].names for one in ("c_out", "c_skip") if one in explanations]
    names = next(filter(None, of_coefficients), ())
    return verdict("model:boundary", EQ_2, text, deviation=" and ".join(names) or None, mode=name)


def _at(subject: Subject, x: Tensor, sigma: Tensor) -> Tensor:
    """Return f with large outputs of F, or f as it is if F was not found."""
    if subject.inner is None:
        return subject.call(x.clone(), sigma.clone())
    return subject.inner.answered(subject.call, x, sigma, 10.0).f


def _coefficient(subject: Subject, name: str, readings: Readings, explanations: Explanations) -> Iterator[Result]:
    """Yield the results of one coefficient in each mode, or the reason why it cannot be checked."""
    for of_mode, reading in readings.items():
        shown = f"in {of_mode}(): " if len(subject.modes) > 1 else ""
        if name not in reading.found:
            yield _not_measured(name, reading, of_mode, shown)
            continue
        why = explanations[of_mode].get(name)
        if why is None:
            yield verdict(f"model:{name}", SOURCES[name], None, mode=of_mode)
            continue
        wrong = f"{shown}{coefficients.example(name, reading, subject.settings)}"
        wrong += f" ({why.text})" if why.text else ""
        if not why.names and subject.inner is not None and not subject.inner.is_whole:
            reason = f"F's last layer is not F, perhaps; {wrong}"
            yield not_checked(f"model:{name}", SOURCES[name], reason, mode=of_mode)
        else:
            yield verdict(
                f"model:{name}", SOURCES[name], wrong, deviation=" and ".join(why.names) or None, mode=of_mode
            )
    if not readings:
        yield not_checked(f"model:{name}", SOURCES[name], "F was not found inside f")


def _not_measured(name: str, reading: Reading, of_mode: str, shown: str) -> Result:
    """Return the result of a coefficient that has no value."""
    if name == "c_in" and not reading.scales_its_input:
        return verdict("model:c_in", SOURCES[name], f"{shown}F's input is not a multiple of x", mode=of_mode)
    what = "F does not get x alone" if name == "c_in" else "F does not get one number per example"
    return not_checked(f"model:{name}", SOURCES[name], what, mode=of_mode)


def _modes(readings: Readings) -> Iterator[Result]:
    """Yield the result of the comparison of training and evaluation mode."""
    if len(readings) < 2:
        return
    train, evaluation = readings["train"], readings["eval"]
    for name in [name for name in NAMES if name in train.found and name in evaluation.found]:
        one, other = train.found[name], evaluation.found[name]
        seen = Measured(one.value, one.error + other.error)
        if not coefficients.all_agree(seen, other.value):
            at = coefficients.largest_difference(seen, other.value)
            values = f"{float(one.value[at]):.4g} in train(), {float(other.value[at]):.4g} in eval()"
            text = f"{name} at sigma = {float(train.sigma[at]):.4g}: {values}"
            yield verdict("model:modes", EQ_2, text, deviation="TrainEvalMismatch")
            return
    yield verdict("model:modes", EQ_2, None)


def _clipping(readings: Readings) -> Result:
    """Return whether f is clipped, which is an option in sampling and wrong in training."""
    clipped = {name: reading.clipped for name, reading in readings.items() if reading.clipped}
    if not clipped:
        return verdict("model:clipping", EQ_2, None)
    name, (low, high) = next(reversed(clipped.items()))
    text = f"in {name}(): f is clipped to [{low:.4g}, {high:.4g}]"
    if "train" in clipped or len(readings) < 2:
        return verdict("model:clipping", EQ_2, text, deviation="ClampedOutput")
    return observation("model:clipping", text)


def _rounding(readings: Readings) -> Result:
    """Return whether f is computed in less than float32."""
    worst = max(reading.rounding for reading in readings.values())
    wrong = f"f is c_skip x + c_out F to a relative error of {worst:.1g} only" if worst > 1e-4 else None
    return verdict("model:precision", EQ_2, wrong, kind="precision")


def _without_network(subject: Subject) -> Iterator[Result]:
    """Yield checks of f alone: its dependence on the data at sigma_max, and its course next to sigma_min."""
    settings, x = subject.settings, subject.x
    with subject.in_mode(False), without_zeros(subject.modules, subject.seed):
        try:
            far = subject.at(settings.sigma_max)
            noisy = settings.sigma_max * torch.randn_like(x)
            data = settings.sigma_data * torch.randn_like(x)
            moved = _rms(subject.call(noisy + data, far) - subject.call(noisy, far)) / _rms(data)
            near, twice = (_rms(subject.call(x, subject.at(factor * settings.sigma_min)) - x) for factor in (1.01, 2.0))
        except CallError as error:
            yield not_checked("model:far", EQ_2, f"f raised {error}")
            return
    limit = f"should be about {settings.sigma_data / settings.sigma_max:.2g} or less"
    wrong = f"f(x, {settings.sigma_max:g}) moves by {moved:.2g} of a change of the data in x, {limit}"
    yield verdict("model:far", EQ_2, wrong if moved > FAR else None)
    if twice == 0:
        yield not_checked("model:near", EQ_2, "f(x, 2 sigma_min) is x")
        return
    text = f"|f - x| at 1.01 sigma_min is {near / twice:.2g} of that at 2 sigma_min, should be about 0.01"
    yield verdict("model:near", EQ_2, text if near / twice > NEAR else None)


def _rms(x: Tensor) -> float:
    return float(x.double().square().mean().sqrt())
