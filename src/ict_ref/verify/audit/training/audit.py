"""An audit of a training loop from outside, through a network whose gradients the audit chooses.

The code under test is a callable make(network, *, total_steps), see `TrainingOptions`. The audit runs its loop for a
few dozen updates. It compares weights, EMA weights and noise levels with those that the expected optimizer, EMA and
curriculum have for these gradients. Findings that depend on a wrong one are skipped.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training import averages, resume
from ict_ref.verify.audit.training import curriculum as curriculum_trace
from ict_ref.verify.audit.training.averages import Average
from ict_ref.verify.audit.training.buffers import buffer_results
from ict_ref.verify.audit.training.loop import LoopError
from ict_ref.verify.audit.training.loop_trace import TOTAL_STEPS, LoopTrace, Observer, levels_of, precision_of
from ict_ref.verify.audit.training.network import HUGE, SIZE, chosen_gradients
from ict_ref.verify.audit.training.optimizers import RTOL, Movements, Optimizer, fit, recognise
from ict_ref.verify.audit.training.processes import process_result
from ict_ref.verify.audit.training.results import CODE, CURRICULUM, PAPER, result, skipped
from ict_ref.verify.checks.result import Result

# Updates without a gradient, and with a large one in their middle.
SHORT = 3
_NORMS = (1.0, 0.1, 0.5, 2.0, 5.0, 10.0, 0.01, 0.2, 0.25, 100.0)


def audit(make: Callable[..., object], options: TrainingOptions) -> Iterator[Result]:
    """Yield the findings about a training loop."""
    observer = Observer(make, options)
    try:
        main, crash = _first_run(observer)
        observer = replace(observer, integers=crash is None)
        traces = _Traces(main, *_probes(observer))
    except LoopError as error:
        yield result("runs", PAPER, str(error))
        return
    yield result("runs", PAPER, None)
    yield _curriculum(main, options)
    weights = _weights(traces, options)
    yield from _optimizer(weights, traces, options)
    yield from _ema(weights, main, options)
    yield from buffer_results(main, weights.average, crash)
    yield from resume.results(observer, weights.optimizer)
    if options.processes > 1:
        yield process_result(options)
    yield resume.update_count(observer, int(weights.still.sum()) if weights.optimizer else None)


@dataclass(frozen=True)
class _Traces:
    """The whole run, a few updates without a gradient, and a few with a large one."""

    main: LoopTrace
    still: LoopTrace
    large: LoopTrace


def _first_run(observer: Observer) -> tuple[LoopTrace, str | None]:
    """Return the trace of a whole run, and the error if the loop runs only without an integer buffer.

    Raises:
        LoopError: It does not run at all.
    """
    gradients = chosen_gradients(TOTAL_STEPS, observer.options.seed)
    try:
        return observer.trace(*observer.new_loop(observer.options.seed), gradients), None
    except LoopError as error:
        crash = str(error)
    without = replace(observer, integers=False)
    return without.trace(*without.new_loop(without.options.seed), gradients), crash


def _probes(observer: Observer) -> tuple[LoopTrace, LoopTrace]:
    """Return the traces of updates without a gradient, of weights that are not 0, and of updates with a large one."""
    seed = observer.options.seed
    still = observer.trace(*observer.new_loop(seed, start=1.0), torch.zeros(SHORT, SIZE, dtype=torch.float64))
    gradients = chosen_gradients(SHORT, seed)
    gradients[1] *= HUGE / gradients[1].norm()
    return still, observer.trace(*observer.new_loop(seed), gradients)


def _curriculum(main: LoopTrace, options: TrainingOptions) -> Result:
    seen = [levels_of(calls, options) for calls in main.calls]
    read = [levels.n for levels in seen if levels is not None]
    if len(read) < len(seen):
        at = seen.index(None)
        why = f"the levels of update {at} are not neighbours on a grid; audit step says more"
        return skipped("curriculum", CURRICULUM, why)
    return result("curriculum", CURRICULUM, *curriculum_trace.explain(read, options))


@dataclass(frozen=True)
class _Weights:
    """What moves the weights of the main run."""

    moves: Movements
    optimizer: Optimizer | None
    rates: Float[Tensor, " updates"] | None
    """The learning rate of each update."""
    average: Average | None
    """The EMA; None if the loop does not have one, or if it cannot be seen."""

    @property
    def still(self) -> Bool[Tensor, " updates"]:
        """Return which updates do not move the weights."""
        return (self.moves.before == self.moves.after).all(1)

    @property
    def is_still(self) -> bool:
        """Return whether the weights never move."""
        return bool(self.still.all())


def _weights(traces: _Traces, options: TrainingOptions) -> _Weights:
    """Recognise the optimizer and the average of a run."""
    main = traces.main
    weights, ema = main.weights, main.ema_weights
    still = traces.still.weights
    moves = Movements(
        main.gradients,
        weights[:-1],
        weights[1:],
        precision_of(weights),
        shrinkage=float((1 - still[1] / still[0]).median()),
    )
    if torch.equal(weights[:-1], weights[1:]):
        return _Weights(moves, None, None, None)
    average = None if ema is None else averages.explain(weights, ema, options.ema_decay, precision_of(ema))
    expected = _expected(options)
    optimizer = recognise(expected, moves)
    if ema is not None and average is not None and average.deviation == "FrozenEma":
        pulled = replace(moves, after=averages.before_pull(weights, ema, options.ema_decay))
        without = optimizer or recognise(expected, pulled)
        if without and fit(without, pulled).error < 0.1 * fit(without, moves).error:
            wrong = "the EMA weights never move, and the weights move towards them: the arguments are exchanged"
            average, moves, optimizer = Average(wrong, "SwappedEma"), pulled, without
    rates = None if optimizer is None else fit(optimizer, moves).rates
    if average is not None and average.deviation == "CopiedEma" and rates is not None:
        # Weights that become r weights + (1 - r) weights' are those of a learning rate of (1 - r) lr.
        undone = rates / (1 - options.ema_decay)
        if bool(((undone / options.lr - 1).abs() < 0.05).all()):
            wrong = "the weights are replaced by the EMA weights after each update"
            average, rates = Average(wrong, "ReplacedWeights"), undone
    return _Weights(moves, optimizer, rates, average)


def _expected(options: TrainingOptions) -> Optimizer:
    return Optimizer(options.optimizer, betas=(0.9, 0.99) if options.optimizer == "Lion" else (0.9, 0.999))


def _optimizer(weights: _Weights, traces: _Traces, options: TrainingOptions) -> Iterator[Result]:
    """Yield the findings about the optimizer, its learning rate, its weight decay and the clipping of gradients."""
    found, rates = weights.optimizer, weights.rates
    if found is None or rates is None:
        wrong = "the weights never move" if weights.is_still else "the updates are not those of a known optimizer"
        yield result("optimizer", PAPER, f"{wrong}; expected {options.optimizer}")
        yield from (
            skipped(name, CODE, "the optimizer is not known")
            for name in ("learning_rate", "weight_decay", "gradient_clipping")
        )
        return
    yield _kind(found, options)
    yield _learning_rate(rates.tolist(), options)
    yield _weight_decay(found, traces.still, options)
    if bool(weights.still[1]):
        yield skipped("gradient_clipping", CODE, "the second update does not move the weights")
    else:
        yield _clipping(found, fit(found, weights.moves).rates[:SHORT], traces, options)


def _kind(found: Optimizer, options: TrainingOptions) -> Result:
    expected = _expected(options)
    if str(found) == str(expected):
        return result("optimizer", PAPER, None)
    deviation = "OtherOptimizer" if found.kind != expected.kind else "OtherBetas"
    return result("optimizer", PAPER, f"the updates are those of {found}; expected {expected}", deviation)


def _learning_rate(rates: list[float], options: TrainingOptions) -> Result:
    lr, wrong, deviation = options.lr, None, None
    apart = [abs(rate - lr) > 3e-3 * lr for rate in rates]
    shown = ", ".join(f"{rate:.3g}" for rate in rates[:3])
    trace = f"it is {shown}, ..., {rates[-1]:.3g} over {len(rates)} updates"
    rises, falls = rates[0] < 0.997 * max(rates), rates[-1] < 0.997 * max(rates)
    if any(apart) and rises and not falls:
        wrong, deviation = f"the learning rate is warmed up: {trace}, should be {lr:g}", "LearningRateWarmup"
    elif any(apart) and falls:
        wrong, deviation = f"the learning rate decays: {trace}, should be {lr:g}", "LearningRateDecay"
    elif any(apart):
        wrong = f"the learning rate is {rates[0]:.4g}, should be {lr:g}"
    return result("learning_rate", PAPER, wrong, deviation)


def _weight_decay(found: Optimizer, still: LoopTrace, options: TrainingOptions) -> Result:
    """Check how weights move without a gradient."""
    wrong, deviation = None, None
    if abs(found.decay - options.weight_decay) > 1e-2 * max(found.decay, options.weight_decay):
        where = "in the gradient" if found.decay_in_gradient and found.kind != "RAdam" else ""
        wrong = f"without a gradient the weights shrink: a weight decay of {found.decay:.4g} {where}".rstrip()
        wrong = wrong if found.decay else "without a gradient the weights do not shrink: there is no weight decay"
        wrong, deviation = f"{wrong}, should be {options.weight_decay:g}", "WeightDecay"
    elif not found.decay and not torch.equal(still.weights[0], still.weights[-1]):
        wrong = "the weights move without a gradient"
    return result("weight_decay", CODE, wrong, deviation if wrong and found.decay else None)


def _clipping(found: Optimizer, rates: Tensor, traces: _Traces, options: TrainingOptions) -> Result:
    """Compare an update for a gradient of norm 1e6 with those of the optimizer for clipped gradients."""
    expected = "are not clipped" if options.clip is None else f"are clipped to norm {options.clip:g}"
    large = traces.large
    weights = large.weights
    if torch.equal(weights[1], weights[2]):
        wrong = f"an update with a gradient of norm {HUGE:g} is skipped; expected that gradients {expected}"
        return result("gradient_clipping", CODE, wrong)
    # After a large update in float32, a small one is lost by rounding.
    moved, precision = weights.diff(dim=0).abs().amax(1), precision_of(weights)
    clear = moved > 1e3 * precision * weights[1:].abs().amax(1)
    for norm in (options.clip, None, *_NORMS):
        for name, gradient in _clipped(large.gradients[1], norm).items():
            gradients = torch.stack([large.gradients[0], gradient, large.gradients[2]])
            seen = fit(found, Movements(gradients, weights[:-1], weights[1:], precision))
            if seen.error < 1e-2 and torch.allclose(seen.rates[clear], rates[clear], rtol=1e-2, atol=0):
                right = norm == options.clip and name in ("norm", "none")
                limit = f"clipped to {name} {norm:g}" if norm is not None else "not clipped"
                wrong = "" if right else f"gradients are {limit}; expected that they {expected}"
                deviation = "GradientClipping" if wrong and norm is not None and options.clip is None else None
                return result("gradient_clipping", CODE, wrong or None, deviation)
    wrong = f"a gradient of norm {HUGE:g} is changed before its update; expected that gradients {expected}"
    return result("gradient_clipping", CODE, wrong)


def _clipped(gradient: Tensor, norm: float | None) -> dict[str, Tensor]:
    """Return a large gradient clipped by its norm and by its values; unchanged for None."""
    if norm is None:
        return {"none": gradient}
    return {"norm": gradient * norm / gradient.norm(), "value": gradient.clamp(-norm, norm)}


def _ema(weights: _Weights, main: LoopTrace, options: TrainingOptions) -> Iterator[Result]:
    """Yield the findings about the order of the EMA and its decay."""
    average = weights.average
    if average is None:
        why = "the weights never move" if weights.is_still else "the loop does not have EMA weights under the name ema"
        yield from (skipped(name, PAPER, why) for name in ("ema", "ema_decay"))
        return
    if average.wrong is None and _begins_elsewhere(main):
        average = Average("the EMA weights do not begin at the initial weights", "EmaFromZero")
    yield result("ema", PAPER, average.wrong, average.deviation)
    if not average.decays or average.deviation in _WITHOUT_DECAY:
        yield skipped("ema_decay", PAPER, "the EMA is wrong in another way")
        return
    later = average.decays[1:] if average.decays[0] < RTOL else average.decays
    r, expected = sum(later) / len(later), options.ema_decay
    wrong = None
    if abs(r - expected) > averages.RTOL * (1 - expected):
        wrong = f"the decay is {r:.6g}, should be {expected:.6g}"
        if abs(r - expected**2) < averages.RTOL * (1 - expected):
            wrong = f"the EMA is updated twice for each update: its decay is {expected:.6g} squared"
    yield result("ema_decay", PAPER, wrong)


def _begins_elsewhere(main: LoopTrace) -> bool:
    """Return whether the EMA of a parameter that is constant is another number."""
    ema, online = (states[-1].get("bias") for states in (main.ema, main.online))
    return ema is not None and online is not None and not torch.allclose(ema, online, rtol=1e-2)


_WITHOUT_DECAY = ("CopiedEma", "ExchangedDecay", "EmaWarmup", "SwappedEma", "ReplacedWeights", "FrozenEma")
