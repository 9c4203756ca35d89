"""What a consistency model does besides its coefficients: side effects, labels, autocast, dropout, its embedding."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ict_ref import formulas
from ict_ref.verify.audit.model.call import Call, CallError, label_forms, with_labels
from ict_ref.verify.audit.model.coefficients import RTOL, Measured, Reading, agrees
from ict_ref.verify.audit.model.free_form_network import ModuleCall, is_images, module_calls, without_zeros
from ict_ref.verify.audit.model.inner_network import reading_of
from ict_ref.verify.audit.model.subject import Subject
from ict_ref.verify.checks.audited import not_checked, observation, verdict
from ict_ref.verify.checks.result import Result

LABELS, SECTION_3_1 = "iCT, Section 2; CM, Appendix C", "iCT, Section 3.1"
FINEST = 1281
"""Number of levels of the finest grid, whose neighbours are compared."""


def side_effects(subject: Subject) -> Iterator[Result]:
    """Yield whether f changes its arguments, and whether it is deterministic in evaluation mode."""
    x, sigma = subject.x.clone(), subject.sigma.clone()
    with subject.in_mode(False), without_zeros(subject.modules, subject.seed):
        try:
            first, second = (subject.call(x, sigma) for _ in range(2))
        except CallError as error:
            yield not_checked("model:arguments", "iCT, Section 2", f"f raised {error}")
            return
    changed = [name for name, now, old in (("x", x, subject.x), ("sigma", sigma, subject.sigma)) if _differ(now, old)]
    wrong = f"f changed its argument {' and '.join(changed)}" if changed else None
    yield verdict("model:arguments", "iCT, Section 2", wrong)
    if not changed:
        wrong = "f has two values for the same x and sigma in eval()" if _differ(first, second) else None
        yield verdict("model:deterministic", "iCT, Section 2", wrong)


def _differ(one: Tensor, other: Tensor) -> bool:
    return not torch.equal(one, other)


# Labels.


def labels(subject: Subject, classes: int) -> Iterator[Result]:
    """Yield whether f depends on its label, and whether it can be called without labels."""
    if not classes:
        return
    if subject.call.labels is not None:
        yield verdict("model:labels", LABELS, "f cannot be called without labels", kind="type", mode="none")
    with subject.in_mode(False), without_zeros(subject.modules, subject.seed):
        changes = [_changes_with_label(subject, call) for call in _labelled(subject, classes)]
    taken = [change for change in changes if isinstance(change, bool)]
    if not taken:
        yield not_checked("model:labels", LABELS, f"f does not take labels: {changes[0]}")
    else:
        yield verdict("model:labels", LABELS, None if any(taken) else "f is the same for the labels 0 and 1")


def _labelled(subject: Subject, classes: int) -> Iterator[Call]:
    """Yield the call with labels in each form to try."""
    if subject.call.labels is not None:
        yield subject.call
    else:
        yield from (with_labels(subject.call, form) for form in label_forms(subject.call.f, classes))


def _changes_with_label(subject: Subject, call: Call) -> bool | str:
    """Return whether f depends on the label, or the exception if it does not take labels in this form."""
    zeros = torch.zeros(len(subject.x), dtype=torch.int64, device=subject.x.device)
    try:
        of_zero, of_one = (call(subject.x.clone(), subject.sigma.clone(), label) for label in (zeros, zeros + 1))
    except CallError as error:
        return str(error)
    return _differ(of_zero, of_one)


# Autocast.


def autocast(subject: Subject, plain: Reading | None) -> Result:
    """Return whether levels, coefficients and x keep their digits under autocast to bfloat16."""
    name, source = "model:autocast", "iCT, Section 2, Eq. (2)"
    if plain is None or subject.inner is None:
        return not_checked(name, source, "F was not found inside f")
    # Only f runs under autocast, not the measurement.
    call = replace(subject.call, f=torch.autocast(subject.x.device.type, torch.bfloat16)(subject.call.f))
    with subject.in_mode(False):
        try:
            reading = reading_of(call, subject.inner, subject.x, subject.sigma)
        except CallError as error:
            return not_checked(name, source, f"under autocast f raised {error}")
    wrong = "f is not c_skip x + c_out F" if reading is None else _lost_digits(plain, reading)
    if wrong and not subject.inner.is_whole:
        return not_checked(name, source, "F's last layer shows what follows it, too")
    return verdict(name, source, f"under autocast {wrong}" if wrong else None, deviation="RoundedLevels")


def _lost_digits(plain: Reading, reading: Reading) -> str | None:
    """Return the first quantity that has fewer digits than without autocast."""
    if reading.rounding > max(RTOL, 4 * plain.rounding):
        return f"f is c_skip x + c_out F to a relative error of {reading.rounding:.1g} only"
    for name in plain.found.keys() & reading.found.keys():
        before, now = plain.found[name], reading.found[name]
        same = agrees(Measured(now.value, now.error + before.error), before.value)
        if not bool(same.all()):
            at = int((~same).to(torch.int8).argmax())
            values = f"{float(now.value[at]):.6g}, without autocast {float(before.value[at]):.6g}"
            return f"{name} at sigma = {float(plain.sigma[at]):.4g} is {values}"
    return None


# Dropout.


class _DropoutSites(TorchFunctionMode):
    """Record of the calls of dropout with p > 0, those of its modules too."""

    FUNCTIONS = (
        functional.dropout,
        functional.dropout1d,
        functional.dropout2d,
        functional.dropout3d,
        functional.alpha_dropout,
        functional.feature_alpha_dropout,
    )

    def __init__(self) -> None:
        super().__init__()
        self.sites: Counter[tuple[float, str]] = Counter()

    def __torch_function__(
        self, func: Any, _types: object, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Record a call of dropout, and call the function."""
        named = dict(kwargs or {})
        if func in self.FUNCTIONS:
            values = dict(zip(("input", "p", "training"), args, strict=False)) | named
            p, training = float(values.get("p", 0.5)), bool(values.get("training", True))
            if p > 0 and training:
                self.sites[p, _size(values["input"])] += 1
        return func(*args, **named)


def _size(value: Tensor) -> str:
    """Return the size of feature maps in words."""
    axes = value.shape[2:]
    return "x".join(map(str, axes)) if len(axes) > 1 else "vectors"


def dropout(subject: Subject) -> Iterator[Result]:
    """Yield the places of dropout in training mode, and whether there is dropout in evaluation mode."""
    found = {}
    for name, train in subject.modes.items():
        with subject.in_mode(train), _DropoutSites() as record:
            try:
                subject.call(subject.x.clone(), subject.sigma.clone())
            except CallError as error:
                yield not_checked("model:dropout", SECTION_3_1, f"in {name}() f raised {error}")
                return
        found[name] = record.sites
    wrong = f"in eval() there is dropout: {_places(found['eval'])}" if found["eval"] else None
    yield verdict("model:dropout", SECTION_3_1, wrong)
    if found.get("train"):
        yield observation("model:dropout_sites", f"dropout {_places(found['train'])}")


def _places(sites: Counter[tuple[float, str]]) -> str:
    """Return the places of dropout in words."""
    of_p: dict[float, list[str]] = {}
    for (p, size), count in sites.items():
        of_p.setdefault(p, []).append(f"{size} ({count})")
    return "; ".join(f"{p:g} at {', '.join(sizes)}" for p, sizes in of_p.items())


# The embedding of the noise level.


def sensitivity(subject: Subject) -> Result:
    """Return how similar the embeddings of neighbouring levels of a fine grid are."""
    name, source = "model:sensitivity", "iCT, Section 3.1, Fig. 1 (a)"
    settings, count = subject.settings, len(subject.sigma)
    grid = formulas.sigma_grid(FINEST, sigma_min=settings.sigma_min, sigma_max=settings.sigma_max)
    starts = torch.linspace(0, FINEST - 2, count // 2).round().long()
    at = torch.stack([starts, starts + 1], 1).reshape(-1)
    sigma = grid[torch.cat([at, at[:1]])[:count]].to(subject.sigma)
    with subject.in_mode(False):
        try:
            calls = module_calls(subject.call, subject.x, sigma)
        except CallError as error:
            return not_checked(name, source, f"f raised {error}")
    embedding = _embedding(calls, count, subject.call.event)
    if embedding is None:
        return not_checked(name, source, "the embedding of the noise level was not found")
    pairs = embedding[: 2 * len(starts)].double().reshape(len(starts), 2, -1)
    cosine = torch.nn.functional.cosine_similarity(pairs[:, 0], pairs[:, 1], dim=1)
    worst, mean = 1 - float(cosine.min()), 1 - float(cosine.mean())
    text = f"1 - cosine of the embeddings of neighbouring levels is up to {worst:.2g}, on average {mean:.2g}"
    return observation(name, f"{text}, for N = {FINEST}; with Fourier scale 0.02 it is up to 2e-7, with 16 up to 0.1")


def _embedding(calls: list[ModuleCall], count: int, event: tuple[int, ...]) -> Tensor | None:
    """Return the first vectors, one for each example, that are not images and differ between examples."""
    for one in calls:
        is_of_level = any(given.numel() == count for given in one.inputs)
        vectors = [*(one.inputs if len(event) > 1 else ()), *(one.outputs if is_of_level or len(event) > 1 else ())]
        for given in vectors:
            if _are_vectors(given, count) and not is_images(given, event):
                return given
    return None


def _are_vectors(value: Tensor, count: int) -> bool:
    is_table = value.ndim == 2 and len(value) == count and value.shape[1] > 1
    return is_table and value.is_floating_point() and bool((value != value[0]).any())
