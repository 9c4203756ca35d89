"""The audit of a training step from outside, through a network that records its calls.

The step is a callable step(network, x, *, step, total_steps) -> loss. `network` is the free-form F(c_in x, c_noise) of
Eq. (2): a torch.nn.Module with a parameter and a dropout layer. The audit chooses the network's outputs, and derives
everything from the inputs of its calls and the gradients of its outputs. A known deviation is reported, and the rest is
decoded with it: a finding does not end the audit, and what follows from it is not a finding of its own.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from ict_ref.utils.progress import bar
from ict_ref.verify.audit.step import decode, distribution, flow, gridless, loss, noise
from ict_ref.verify.audit.step.curriculum import check_curriculum, edges, stages
from ict_ref.verify.audit.step.decode import DecodedStep, Forms
from ict_ref.verify.audit.step.grid import find_settings
from ict_ref.verify.audit.step.network_spy import Answer, still, wild
from ict_ref.verify.audit.step.observe import ObservedStep, Observer, Step, UnreadableStep
from ict_ref.verify.audit.step.settings import Settings
from ict_ref.verify.audit.step.verdicts import result, skipped
from ict_ref.verify.checks.result import Result

CLEAREST = 11
"""Number of levels from which the loss is decoded: there are several, and neighbours are far apart."""
AMPLITUDES = (20.0, 1.0)
"""Sizes of the outputs: large ones show c_out near sigma_min and a clamp, small ones c_skip at high noise."""


def audit(step: Step, settings: Settings) -> Iterator[Result]:
    """Yield the findings about a training step, in the order of its computation."""
    try:
        yield from _Audit(Observer.of(step, settings), settings).results()
    except UnreadableStep as refused:
        yield result("runs", str(refused))


@dataclass(frozen=True)
class _Audit:
    """The observations of one audit, and the checks of them."""

    observe: Observer
    settings: Settings

    @cached_property
    def edges(self) -> list[ObservedStep]:
        """Steps at the edges of the curriculum's stages."""
        steps = edges(self.settings) if self.settings.method != "gridless" else _spread(self.settings.total_steps)
        sizes = (AMPLITUDES[number % 2] for number in range(len(steps)))
        return [self.observe(at, wild(size)) for at, size in zip(steps, sizes, strict=True)]

    @cached_property
    def forms(self) -> Forms:
        """The forms of c_noise, c_in and the noisy points."""
        chosen = self.edges[:: max(1, len(self.edges) // 4)]
        forms = decode.find_forms(chosen, self.settings)
        if forms.noise is None or self.settings.method == "gridless":
            return forms
        levels = [forms.levels(one) for one in self.edges]
        grids = find_settings(levels, self.settings)
        return replace(forms, grids=grids or self.settings)

    @cached_property
    def draws(self) -> list[ObservedStep]:
        """Many steps of the first stage, of a middle one and of the last one."""
        steps = _drawn(self.settings)
        shown = bar(steps, "observing", "steps", shown=sys.stderr.isatty())
        return [self.observe(at, still) for at in shown]

    def results(self) -> Iterator[Result]:
        """Yield all findings."""
        seen = self.edges + self.draws
        yield result("runs")
        yield from self._side_effects(seen)
        yield from self._inputs()
        yield from flow.check_flow(self.edges)
        if self.settings.device == "cpu":
            yield skipped("shared_dropout", flow.CPU_ONLY)
        if self.forms.noise is not None:
            yield from self._levels()
        if self.forms.decodes:
            yield from self._objective()
        else:
            yield skipped("loss", "it needs noisy points that can be decoded; correct c_noise and c_in first")
        yield self._nan()

    def _side_effects(self, seen: Sequence[ObservedStep]) -> Iterator[Result]:
        """Yield a finding about the images, and one for each other side effect."""
        effects = dict.fromkeys(effect for one in seen for effect in one.effects)
        again = [self.observe(seen[0].at, still, seed=seed) for seed in (1, 2)]
        for name, one, two in zip(("Python", "NumPy"), *(one.end_states for one in again), strict=True):
            if one == two:
                effects[f"it reseeds {name}'s global generator"] = None
        changes = [effect for effect in effects if "images" in effect]
        yield result("side_effects", "; ".join(changes) or None)
        for effect in effects:
            if effect not in changes:
                yield result("side_effects", effect, kind="type")

    def _inputs(self) -> Iterator[Result]:
        """Yield the findings about c_noise, c_in and the two points."""
        forms = self.forms
        first = self.edges[0]
        if forms.noise is None:
            values = torch.stack([torch.stack([one.lower.noise, one.upper.noise]) for one in self.edges])
            least, most = float(values.min()), float(values.max())
            wrong = (
                f"the network gets {least:.4g} to {most:.4g}, which is not log(sigma) / 4 of the levels of its inputs"
            )
            yield result("c_noise", wrong)
            return
        text = _c_noise_text(forms, first)
        yield result("c_noise", None if forms.noise is decode.RIGHT_NOISE else text, forms.noise.deviation)
        yield from decode.check_points(forms, first)

    @cached_property
    def decoded(self) -> list[DecodedStep]:
        """The steps at the edges, decoded."""
        return [self.forms.decoded(one) for one in self.edges]

    @cached_property
    def decoded_draws(self) -> list[DecodedStep]:
        """The many steps, decoded."""
        found: list[DecodedStep] = []
        n = None
        for one in self.draws:
            found.append(self.forms.decoded(one, n))
            n = found[-1].n
        return found

    def _levels(self) -> Iterator[Result]:
        """Yield the findings about grid, curriculum, intervals and noise."""
        if self.settings.method == "gridless":
            yield from gridless.check_levels(self.decoded_draws)
            yield gridless.check_ratio(self.decoded)
        else:
            yield from self._grid()
        if self.forms.path is not None and self.forms.input is not None:
            yield from noise.check_noise(self.decoded_draws)

    def _grid(self) -> Iterator[Result]:
        grids = self.forms.grids
        if any(step.n is None for step in self.decoded):
            step = next(step for step in self.decoded if step.n is None)
            text = (
                f"at step {step.seen.at} the levels are not those of a grid, e.g. {float(step.high[0]):.6g} and "
                f"{float(step.low[0]):.6g}; --method gridless is for continuous levels"
            )
            yield result("grid", text)
            return
        if grids != self.settings:
            yield result("grid", f"the grid has {_changes(grids, self.settings)}")
        else:
            yield result("grid")
        wrong = _apart(self.decoded + self.decoded_draws)
        yield result("neighbours", wrong)
        # At the edges of stages alone, k / K' rounded up equals steps counted from 1.
        within = self.decoded_draws[min(self.settings.draws[0], len(self.decoded_draws)) // 2]
        seen = {step.seen.at: step.n for step in (*self.decoded, within) if step.n is not None}
        yield check_curriculum(dict(sorted(seen.items())), self.settings)
        if wrong is None:
            yield from distribution.check_draws(self.decoded_draws, grids)

    def _objective(self) -> Iterator[Result]:
        """Yield the findings about the parameterization and the loss."""
        decoded = [step for step in self.decoded if step.n is not None or self.settings.method == "gridless"]
        if decoded and flow.sends_gradient(self.edges):
            yield from loss.check_loss(self._run, decoded, self.forms, self.settings, flow.student_is_lower(self.edges))
        elif decoded:
            yield from loss.check_value(decoded, self.settings)
        else:
            yield skipped("loss", "it needs levels of a grid")

    def _run(self, number: int, answer: Answer) -> DecodedStep:
        """Observe and decode a step at about the number of levels that shows the most."""
        seen = min(self.decoded, key=lambda step: abs(math.log((step.n or CLEAREST) / CLEAREST)))
        at = (seen.seen.at + number) % self.settings.total_steps
        return self.forms.decoded(self.observe(at, answer, seed=10_000_019 + number))

    def _nan(self) -> Result:
        """Check that a NaN among the network's outputs makes the loss NaN."""

        def answer(x: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
            found = wild(1.0)(x, noise)
            found[0] = torch.nan
            return found

        try:
            seen = self.observe(self.edges[-1].at, answer)
        except UnreadableStep:
            return result("nan")  # the step rejects it
        hidden = bool(seen.loss.isfinite().all())
        return result("nan", "an output of NaN does not make the loss NaN: it is hidden" if hidden else None)


def _c_noise_text(forms: Forms, seen: ObservedStep) -> str:
    text = forms.noise.text if forms.noise else "unknown"
    sigma, got = float(forms.levels(seen)[0].max()), float(seen.upper.noise.max())
    return f"the network gets {text}: {got:.5g} at sigma = {sigma:.4g}, should be {math.log(sigma) / 4:.5g}"


def _spread(total: int) -> list[int]:
    """Return 16 steps over the training."""
    return sorted({round(i * (total - 1) / 15) for i in range(16)})


def _drawn(settings: Settings) -> list[int]:
    """Return the steps whose intervals and noise are counted."""
    total, draws = settings.total_steps, settings.draws
    if settings.method == "gridless":
        return sorted({round(i * (total - 1) / sum(draws)) for i in range(sum(draws))})
    found = stages(settings)
    places = (0, len(found) // 2, len(found) - 1)
    # The first and the last step of a stage are observed for the curriculum.
    steps = [
        range(found[place][0] + 1, found[place][0] + 1 + count) for place, count in zip(places, draws, strict=True)
    ]
    return sorted({step for some in steps for step in some if step < total} or {0})


def _apart(steps: Sequence[DecodedStep]) -> str | None:
    """Return the text about levels that are not neighbours."""
    for step in steps:
        if step.upper is None or step.lower is None:
            continue
        apart = sorted(set((step.upper - step.lower).tolist()))
        if apart != [1]:
            found = ", ".join(map(str, apart[:5])) + (" ..." if len(apart) > 5 else "")
            return f"at N = {step.n} the two levels are {found} intervals apart, should be 1"
    return None


def _changes(got: Settings, should: Settings) -> str:
    names = ("rho", "sigma_min", "sigma_max")
    return ", ".join(
        f"{name} = {getattr(got, name):.6g}, should be {getattr(should, name):.6g}"
        for name in names
        if getattr(got, name) != getattr(should, name)
    )
