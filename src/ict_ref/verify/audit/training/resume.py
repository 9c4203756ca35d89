"""Checks that a resumed run equals an uninterrupted one, and that a run makes exactly K updates."""

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ict_ref import formulas
from ict_ref.verify.audit.options import TrainingOptions
from ict_ref.verify.audit.training.loop import Loop, LoopError, guarded_call
from ict_ref.verify.audit.training.loop_trace import TOTAL_STEPS, LoopTrace, Observer, levels_of
from ict_ref.verify.audit.training.network import NetworkCall, Record, TooManyUpdatesError, chosen_gradients, updates_of
from ict_ref.verify.audit.training.optimizers import RTOL, Movements, Optimizer, fit
from ict_ref.verify.audit.training.results import PAPER, result, skipped
from ict_ref.verify.checks.result import Result

# Updates before and after the interruption. N(k) differs from N(0) by then.
BEFORE, AFTER = 7, 6
SOURCE = "a resumed run is the uninterrupted one"
# float32 sums in another order.
TOLERANCE = 1e-5


def results(observer: Observer, optimizer: Optimizer | None) -> Iterator[Result]:
    """Yield the findings about a run that is saved, loaded into a new loop, and continued."""
    try:
        loop, record = observer.new_loop(observer.options.seed)
        if loop.save is None or loop.load is None:
            yield skipped("resume", SOURCE, "the loop does not have save(path) and load(path)")
            return
        with tempfile.TemporaryDirectory() as folder:
            first, second, resumed = _interrupted(observer, loop, record, Path(folder) / "saved")
    except LoopError as error:
        yield result("resume", SOURCE, str(error))
        return
    wrong = _state(first, resumed) or _next_updates(observer, second, resumed, optimizer)
    yield result("resume", SOURCE, *(wrong or (None, None)))
    if not wrong:
        yield _noise(observer, first, second, resumed)


def _interrupted(observer: Observer, loop: Loop, record: Record, path: Path) -> tuple[LoopTrace, LoopTrace, LoopTrace]:
    """Return the traces of a run until it is saved, of its other updates, and of these in a resumed run."""
    assert loop.save is not None  # noqa: S101 - the caller checks it
    save = loop.save
    gradients = chosen_gradients(BEFORE + AFTER, observer.options.seed)
    first = observer.trace(loop, record, gradients[:BEFORE])
    guarded_call("save", lambda: save(path))
    second = observer.trace(loop, record, gradients[BEFORE:], first=BEFORE)
    # Another seed: noise that does not depend on it is restored, or is a function of the number of updates.
    later, its_record = observer.new_loop(observer.options.seed + 1)
    assert later.load is not None  # noqa: S101 - the other one has it
    load = later.load
    guarded_call("load", lambda: load(path))
    return first, second, observer.trace(later, its_record, gradients[BEFORE:], first=BEFORE)


def _state(first: LoopTrace, resumed: LoopTrace) -> tuple[str, str | None] | None:
    """Return what is wrong with the weights of a resumed run before its first update."""
    if not _equal(first.weights[-1], resumed.weights[0]):
        return "the weights after load differ from those that were saved", None
    saved, loaded = first.ema[-1].get("weight"), resumed.ema[0].get("weight")
    if saved is None or (loaded is not None and _equal(saved, loaded)):
        return None
    other = "the weights" if loaded is not None and _equal(loaded, resumed.online[0]["weight"]) else "others"
    return f"the EMA weights after load are not those that were saved but {other}", "LostEma"


def _equal(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=TOLERANCE, atol=0)


def _next_updates(
    observer: Observer, second: LoopTrace, resumed: LoopTrace, optimizer: Optimizer | None
) -> tuple[str, str | None] | None:
    """Return what is wrong with the updates of a resumed run."""
    levels = [[_n(calls, observer.options) for calls in trace.calls] for trace in (second, resumed)]
    if levels[0] != levels[1]:
        at = next(index for index, (a, b) in enumerate(zip(*levels, strict=True)) if a != b)
        wrong = f"at update {BEFORE + at}, N = {levels[1][at]} in the resumed run, should be {levels[0][at]}"
        return wrong, "LostStep"
    if not torch.allclose(second.weights, resumed.weights, rtol=TOLERANCE, atol=1e-3 * _size(second)):
        return _other_movement(resumed, optimizer)
    ema, expected = resumed.ema_weights, second.ema_weights
    if ema is not None and expected is not None and not torch.allclose(ema, expected, rtol=TOLERANCE, atol=1e-12):
        return "the EMA weights of the resumed run differ after its first updates", None
    return None


def _size(trace: LoopTrace) -> float:
    return float(trace.weights.diff(dim=0).abs().mean())


def _other_movement(resumed: LoopTrace, optimizer: Optimizer | None) -> tuple[str, str | None]:
    """Return why the updates of a resumed run differ."""
    wrong = "the updates of the resumed run differ from those of the uninterrupted one"
    if optimizer is not None:
        moves = Movements(resumed.gradients, resumed.weights[:-1], resumed.weights[1:], 1e-7)
        if fit(optimizer, moves).error < RTOL:
            return f"{wrong}: they are those of an optimizer without a past", "LostOptimizer"
    return wrong, None


def _n(calls: Sequence[NetworkCall], options: TrainingOptions) -> int | None:
    levels = levels_of(calls, options)
    return None if levels is None else levels.n


def _noise(observer: Observer, first: LoopTrace, second: LoopTrace, resumed: LoopTrace) -> Result:
    """Compare the noisy images of a resumed run with those of the uninterrupted one."""
    seen, expected = ([call.x for calls in trace.calls for call in calls] for trace in (resumed, second))
    if len(seen) == len(expected) and all(map(torch.equal, seen, expected)):
        return result("resume:noise", SOURCE, _other_loss(second, resumed))
    again, start = _z(observer, resumed, BEFORE), _z(observer, first, 0)
    if again is not None and start is not None and float((again * start).mean()) > 0.5:
        wrong = "the resumed run repeats the noise of the first update"
        return result("resume:noise", SOURCE, wrong, "RepeatedNoise")
    wrong = "the resumed run draws other noise than the uninterrupted one: the state of the generators is not saved"
    return result("resume:noise", SOURCE, wrong, kind="type")


def _other_loss(second: LoopTrace, resumed: LoopTrace) -> str | None:
    """Return how the losses of the resumed run differ, if the loop returns them."""
    for index, (got, expected) in enumerate(zip(resumed.losses, second.losses, strict=True), start=BEFORE):
        if got is not None and expected is not None and abs(got - expected) > TOLERANCE * abs(expected):
            return f"at update {index} the loss of the resumed run is {got:.6g}, should be {expected:.6g}"
    return None


def _z(observer: Observer, trace: LoopTrace, index: int) -> Tensor | None:
    """Return the noise of the first update of a trace, which is update number `index` of the run."""
    levels = levels_of(trace.calls[0], observer.options)
    x, images = trace.calls[0][0].x, observer.images(index).double()
    if levels is None or len(x) < len(images):
        return None
    sigma = levels.sigmas[0].reshape(-1, *[1] * (images.ndim - 1))
    c_in = formulas.c_in(levels.sigmas[0]).reshape(sigma.shape)
    return (x[: len(images)] / c_in - images) / sigma


def update_count(observer: Observer, still: int | None) -> Result:
    """Return the finding about the number of updates of a whole run, of which `still` do not move the weights."""
    loop, record = observer.new_loop(observer.options.seed)
    if loop.run is None:
        return skipped("updates", PAPER, "the loop does not have run(batches)")
    if still is None:
        return skipped("updates", PAPER, "the updates are not known")
    record.always, record.most_updates = True, TOTAL_STEPS + 2
    record.gradient = chosen_gradients(1, observer.options.seed)[0]
    batches = (observer.images(index) for index in itertools.count())
    try:
        guarded_call("run", lambda: loop.run_on(batches))
    except TooManyUpdatesError:
        wrong = f"the run does not end: more than {TOTAL_STEPS + 2} updates, should be {TOTAL_STEPS}"
        return result("updates", PAPER, wrong, "EndlessRun")
    except LoopError as error:
        return result("updates", PAPER, str(error))
    made = updates_of(record.calls, loop.weights()["weight"].reshape(-1)) + still
    wrong = f"the run makes {made} updates, should be {TOTAL_STEPS}"
    return result("updates", PAPER, None if made == TOTAL_STEPS else wrong)
