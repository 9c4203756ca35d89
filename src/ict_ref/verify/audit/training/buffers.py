"""Checks of the buffers of EMA weights: a constant one, one that changes, and an integer one."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ict_ref.verify.audit.training.averages import RTOL, Average
from ict_ref.verify.audit.training.loop_trace import LoopTrace
from ict_ref.verify.audit.training.results import PAPER, result, skipped
from ict_ref.verify.checks.result import Result


def buffer_results(main: LoopTrace, average: Average | None, crash: str | None) -> Iterator[Result]:
    """Yield the finding about buffers; `crash` is the error of a loop that cannot have an integer buffer."""
    if crash is not None:
        wrong = f"the loop fails with an integer buffer: {crash}"
        yield result("buffers", PAPER, wrong, "IntegerBuffers", kind="elsewhere")
        return
    if average is None or "frequencies" not in main.ema[-1]:
        yield skipped("buffers", PAPER, "the EMA of the loop does not have buffers")
        return
    if not torch.allclose(main.ema[-1]["frequencies"], main.online[-1]["frequencies"], rtol=1e-5, atol=0):
        yield result(
            "buffers", PAPER, "a constant buffer of the EMA differs from that of the network", "AveragedConstants"
        )
        return
    yield result("buffers", PAPER, *_changing(main, average), kind="elsewhere")


def _changing(main: LoopTrace, average: Average) -> tuple[str | None, str | None]:
    """Return what is wrong with buffers that the network changes."""
    running, count = ([state.get(name) for state in main.ema] for name in ("running", "count"))
    if not torch.equal(main.online[-1]["running"], main.online[0]["running"]):
        if running[0] is not None and running[-1] is not None and torch.equal(running[-1], running[0]):
            return "the buffers of the EMA stay those of the start, though the network's change", "StaleBuffers"
        if running[-1] is not None and not _is_copy_or_average(main, average):
            return "the buffers of the EMA are neither copied nor averaged", None
    if count[-1] is not None and not torch.equal(count[-1].double(), main.online[-1]["count"].double()):
        got, expected = float(count[-1]), int(main.online[-1]["count"])
        return f"an integer buffer of the EMA is {got:g}, should be {expected}: it is averaged", "IntegerBuffers"
    return None, None


def _is_copy_or_average(main: LoopTrace, average: Average) -> bool:
    online, ema = ([state["running"] for state in states] for states in (main.online, main.ema))
    if torch.allclose(ema[-1], online[-1], rtol=1e-5):
        return True
    decays = average.decays or (0.0,)
    expected: Tensor = ema[0]
    for new, r in zip(online[1:], decays, strict=False):
        expected = r * expected + (1 - r) * new
    return torch.allclose(ema[-1], expected, rtol=10 * RTOL)
